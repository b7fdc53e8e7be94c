# capvec: `make sweep` and `make test` set everything up first; what is done already is not done again.
# The first of these that is new enough; `make PYTHON=…` chooses another.
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done),python3)
BIN := .venv/bin
ARGS ?=

.PHONY: help sweep calibration test unit siege fuzz setup doctor docs lint lock clean

help:
	@echo 'make sweep    set up, then: pytest -n 4 -m sweep --alpha 4   (more options: make sweep ARGS="--attempts 3")'
	@echo 'make calibration  set up, then: pytest -n 16 -m calibration   (the short form: make calibration ARGS="--attempts 1")'
	@echo 'make test     set up, then the unit tests, the integration tests and the quick part of the siege'
	@echo 'make unit     the unit tests: no Docker, no weights, no network'
	@echo 'make siege    set up, then faults, attacks and hostile input; as root it starts a second Docker daemon to break'
	@echo 'make fuzz     the readers of other people'"'"'s files, with atheris, two minutes each (Linux, Python 3.11 to 3.13)'
	@echo 'make setup    virtual environment, Docker, base image, bundled model'
	@echo 'make doctor   what is there and what is missing'
	@echo 'make docs     the documentation, from docs/ into site/; a broken link fails'
	@echo 'make lint     ruff and mypy'
	@echo 'make lock     write the four requirements*.lock anew'
	@echo 'make clean    remove the virtual environment'

sweep: setup
	$(BIN)/pytest -n 4 -m sweep --alpha 4 $(ARGS)

calibration: setup
	$(BIN)/pytest -n 16 -m calibration $(ARGS)

test: setup .venv/.peers .venv/.browser
	mkdir -p reports
	$(BIN)/pytest -m unit -n 2 --junitxml reports/junit-unit.xml $(ARGS)
	$(BIN)/pytest -m "integration or gpu or (siege and not slow)" --durations 5 --junitxml reports/junit-integration.xml $(ARGS)

unit: .venv/.peers
	$(BIN)/pytest -m unit $(ARGS)

siege: setup
	mkdir -p reports
	$(BIN)/pytest -m siege --durations 10 --junitxml reports/junit-siege.xml $(ARGS)

fuzz: .venv/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check atheris==3.0.0
	@for target in $$($(BIN)/python -m dev.fuzz --list); do \
	  $(BIN)/python -m dev.fuzz $$target --artifacts reports/fuzz $(ARGS) || exit 1; done

setup: .venv/.installed
	@$(BIN)/capvec setup

doctor: .venv/.installed
	@$(BIN)/capvec doctor

# The stamp is written last: an installation that broke off is not taken for a finished one.
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"capvec needs Python 3.11 or later, and $(PYTHON) is {v[0]}.{v[1]}: use make PYTHON=python3.11")'
	rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || sh capvec/setup/make_venv.sh $(PYTHON)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Without their own requirements: see pyproject.toml.
.venv/.peers: .venv/.installed requirements-test.lock requirements-plugins.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/plugins -r requirements-plugins.lock
	@touch $@

# The report's page is tested in a real browser: Debian's, installed here where we may; elsewhere those tests skip.
.venv/.browser: .venv/.installed
	$(BIN)/python -m dev.browser
	@touch $@

.venv/.linters: .venv/.installed requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

.venv/.docs: .venv/.installed requirements-docs.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.lock
	@touch $@

docs: .venv/.docs
	$(BIN)/python -m dev.docs
	$(BIN)/zensical build --clean --strict

lint: .venv/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own, so that the lock holds what the project needs and nothing else. Torch is pinned without
# its build ("+cpu"), so that the same lock serves machines with a GPU.
LOCKED = .venv-lock/bin/pip list --format freeze --exclude capvec --exclude pip | sed 's/^\(torch==[0-9.]*\)+.*/\1/'
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --upgrade pip
	.venv-lock/bin/pip install --quiet torch==2.13.0 setuptools wheel
	.venv-lock/bin/pip install --quiet .
	{ echo '# Written by `make lock`: what capvec needs.'; $(LOCKED); } > requirements.lock
	.venv-lock/bin/pip install --quiet --no-deps --group test
	{ echo '# Written by `make lock`: what the tests compare capvec with.'; $(LOCKED) | grep -vxFf requirements.lock; } > requirements-test.lock
	.venv-lock/bin/pip uninstall --quiet --yes -r requirements-test.lock
	.venv-lock/bin/pip install --quiet --constraint requirements.lock --group dev
	{ echo '# Written by `make lock`: what `make lint` needs besides.'; $(LOCKED) | grep -vxFf requirements.lock; } > requirements-dev.lock
	.venv-lock/bin/pip uninstall --quiet --yes -r requirements-dev.lock
	.venv-lock/bin/pip install --quiet --constraint requirements.lock --group docs
	{ echo '# Written by `make lock`: what `make docs` needs besides.'; $(LOCKED) | grep -vxFf requirements.lock; } > requirements-docs.lock
	rm -rf .venv-lock build

clean:
	rm -rf .venv .venv-lock site
