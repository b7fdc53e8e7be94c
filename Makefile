# capvec: `make sweep` and `make test` set everything up first; what is done already is not done again.
# The first of these that is new enough; `make PYTHON=…` chooses another.
PYTHON ?= $(or $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done),python3)
BIN := .venv/bin
ARGS ?=

# Tests start hundreds of Python processes, which would each compile capvec and the tests anew where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help sweep calibration test test-vllm unit siege bench fuzz clients setup doctor docs lint lock audit clean

help:
	@echo 'make sweep    set up, then: pytest -n 4 -m sweep --alpha 4   (more options: make sweep ARGS="--attempts 3")'
	@echo 'make calibration  set up, then: pytest -n 16 -m calibration   (the short form: make calibration ARGS="--attempts 1")'
	@echo 'make test     set up, then the unit tests, the integration tests, the quick part of the siege and small benchmarks'
	@echo 'make test-vllm  vLLM on the CPU, in an environment of its own below ~/.cache/capvec: the tests of that engine'
	@echo 'make unit     the unit tests: no Docker, no weights, no network'
	@echo 'make siege    set up, then faults, attacks and hostile input; as root it starts a second Docker daemon to break'
	@echo 'make bench    set up, then the benchmarks: tables, and JSON in reports/benchmarks (ARGS="-k decoding" for one)'
	@echo 'make fuzz     the readers of other people'"'"'s files, with atheris, two minutes each (Linux, Python 3.11 to 3.13)'
	@echo 'make clients  other harnesses, in an environment of their own: make test runs them as clients of capvec serve'
	@echo 'make setup    virtual environment, Docker, base image, bundled model'
	@echo 'make doctor   what is there and what is missing'
	@echo 'make docs     the documentation, from docs/ into site/; a broken link fails'
	@echo 'make lint     ruff and mypy'
	@echo 'make lock     write the requirements*.lock anew, with hashes'
	@echo 'make audit    known faults of what is locked, and a bill of materials in dist/'
	@echo 'make clean    remove the virtual environment'

sweep: setup
	$(BIN)/pytest -n 4 -m sweep --alpha 4 $(ARGS)

calibration: setup
	$(BIN)/pytest -n 16 -m calibration $(ARGS)

test: setup .venv/.peers .venv/.browser clients
	mkdir -p reports
	$(BIN)/pytest -m unit -n 2 --junitxml reports/junit-unit.xml $(ARGS)
	$(BIN)/pytest -m "integration or gpu or (siege and not slow)" -n 2 --dist loadfile --durations 60 --junitxml reports/junit-integration.xml $(ARGS)
	$(BIN)/pytest tests/benchmarks -m bench --bench-small --bench-out reports/benchmarks/small --junitxml reports/junit-bench.xml $(ARGS)

# Outside the clone, and named by what is in it, so that it is made once. capvec comes from the clone. Its metadata, a copy
# of what `make setup` wrote, has the entry points through which vLLM finds the plugin.
VLLM := $(or $(CAPVEC_CACHE),$(HOME)/.cache/capvec)/vllm-$(shell cat requirements-vllm.lock requirements-vllm-torch.lock | sha256sum | cut -c1-12)
test-vllm: setup $(VLLM)/.installed
	mkdir -p reports .venv/metadata
	cp -r .venv/lib/python*/site-packages/capvec-*.dist-info .venv/metadata/
	PYTHONPATH=$(CURDIR):$(CURDIR)/.venv/metadata $(VLLM)/bin/python -m pytest tests/vllm tests/integration/test_engine_conformance.py \
	  --durations 5 --junitxml reports/junit-vllm.xml $(ARGS)

$(VLLM)/.installed:
	rm -rf $(VLLM)
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check -r requirements-vllm-torch.lock
	$(VLLM)/bin/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-vllm.lock
	@touch $@

unit: .venv/.peers
	$(BIN)/pytest -m unit $(ARGS)

siege: setup
	mkdir -p reports
	$(BIN)/pytest -m siege --durations 10 --junitxml reports/junit-siege.xml $(ARGS)

bench: setup
	$(BIN)/pytest tests/benchmarks -m bench $(ARGS)

fuzz: .venv/.fuzz
	@for target in $$($(BIN)/python -m dev.fuzz --list); do \
	  $(BIN)/python -m dev.fuzz $$target --artifacts reports/fuzz $(ARGS) || exit 1; done

clients: .venv-clients/.installed .venv-harbor/.installed

.venv-clients/.installed: requirements-clients.lock
	rm -rf .venv-clients
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-clients.lock
	@touch $@

# Harbor needs Python 3.12. Where there is none, its tests skip.
PYTHON312 := $(shell for p in $(PYTHON) python3.12 python3.13 python3.14 $(wildcard $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python); do \
  "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo "$$p" && break; done)
.venv-harbor/.installed: requirements-harbor.lock
	rm -rf .venv-harbor
ifneq ($(PYTHON312),)
	$(PYTHON312) -m venv .venv-harbor
	.venv-harbor/bin/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-harbor.lock
else
	@echo 'no Python 3.12 or later: the test with Harbor will skip'
	@mkdir .venv-harbor
endif
	@touch $@

setup: .venv/.installed
	@$(BIN)/capvec setup

doctor: .venv/.installed
	@$(BIN)/capvec doctor

# Every file must have a hash of the lock, which names all that is installed. Torch's cannot: which build of it fits
# (`+cpu`, or CUDA's with its libraries) depends on the machine and its index.
HASHED = --no-deps --require-hashes

# The stamp is written last: an installation that broke off is not taken for a finished one. Bytecode is left to the first
# import: of all modules, a quarter is ever imported, and compiling the others takes most of the installation's time.
.venv/.installed: requirements.lock requirements-torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"capvec needs Python 3.11 or later, and $(PYTHON) is {v[0]}.{v[1]}: use make PYTHON=python3.11")'
	rm -rf .venv
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || sh capvec/setup/make_venv.sh $(PYTHON)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile $(HASHED) -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -r requirements-torch.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps --no-build-isolation -e .
	@touch $@

# Without their own requirements: see pyproject.toml.
.venv/.peers: .venv/.installed requirements-test.lock requirements-plugins.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(HASHED) --upgrade --target .venv/plugins -r requirements-plugins.lock
	@touch $@

# The report's page is tested in a real browser: Debian's, installed here where we may; elsewhere those tests skip.
.venv/.browser: .venv/.installed
	$(BIN)/python -m dev.browser
	@touch $@

.venv/.linters: .venv/.installed requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-dev.lock
	@touch $@

.venv/.docs: .venv/.installed requirements-docs.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-docs.lock
	@touch $@

.venv/.fuzz: .venv/.installed requirements-fuzz.lock
	$(BIN)/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-fuzz.lock
	@touch $@

docs: .venv/.docs
	$(BIN)/python -m dev.docs
	$(BIN)/zensical build --clean --strict

lint: .venv/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own, so that the lock holds what the project needs and nothing else. uv adds the hashes of all
# files of a release on PyPI, so that a lock serves every system and version of Python. Torch has a lock of its own.
LOCKED = .venv-lock/bin/pip list --format freeze --exclude capvec --exclude pip --exclude uv --exclude torch \
  | grep -vE '^(nvidia|cuda|triton)'
UV = env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL .venv-lock/bin/uv pip compile \
  --quiet --universal --python-version 3.11.9 --generate-hashes --no-header --no-annotate --no-config
HASHES = $(UV) --no-deps -
OTHERS = $(LOCKED) | grep -vxFf .venv-lock/base
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --upgrade pip uv
	.venv-lock/bin/pip install --quiet -r requirements-torch.lock setuptools wheel
	.venv-lock/bin/pip install --quiet .
	$(LOCKED) > .venv-lock/base
	{ echo '# Written by `make lock`: what capvec needs besides requirements-torch.lock.'; $(HASHES) < .venv-lock/base; } > requirements.lock
	.venv-lock/bin/pip install --quiet --no-deps --group test
	$(OTHERS) > .venv-lock/test
	{ echo '# Written by `make lock`: what the tests compare capvec with.'; $(HASHES) < .venv-lock/test; } > requirements-test.lock
	.venv-lock/bin/pip uninstall --quiet --yes -r .venv-lock/test
	.venv-lock/bin/pip install --quiet --constraint .venv-lock/base --group dev
	$(OTHERS) > .venv-lock/dev
	{ echo '# Written by `make lock`: what `make lint` needs besides.'; $(HASHES) < .venv-lock/dev; } > requirements-dev.lock
	.venv-lock/bin/pip uninstall --quiet --yes -r .venv-lock/dev
	.venv-lock/bin/pip install --quiet --constraint .venv-lock/base --group docs
	$(OTHERS) > .venv-lock/docs
	{ echo '# Written by `make lock`: what `make docs` needs besides.'; $(HASHES) < .venv-lock/docs; } > requirements-docs.lock
	{ echo '# Written by `make lock`: what `make fuzz` needs besides.'; $(UV) --group fuzz; } > requirements-fuzz.lock
	{ echo '# Written by `make lock`: what `make audit` needs, alone.'; $(UV) --group release; } > requirements-release.lock
	{ echo '# Written by `make lock`: the clients of tests/integration/test_clients.py and test_judged_clients.py, alone.'; $(UV) --group clients; } > requirements-clients.lock
	{ echo '# Written by `make lock`: Harbor, for tests/integration/test_judged_clients.py, alone. For Python 3.12 or later.'; $(subst 3.11.9,3.12,$(UV)) --group harbor; } > requirements-harbor.lock
	{ grep '^#' requirements-plugins.lock; sed -n 's/^\([a-z].*==[^ ]*\).*/\1/p' requirements-plugins.lock | $(HASHES); } > .venv-lock/plugins
	mv .venv-lock/plugins requirements-plugins.lock
	{ grep '^#' requirements-vllm.lock; sed -n 's/^\([a-z].*==[^ ]*\).*/\1/p' requirements-vllm.lock | $(HASHES); } > .venv-lock/vllm
	mv .venv-lock/vllm requirements-vllm.lock
	rm -rf .venv-lock build

# In an environment of its own too: what looks at a release is no part of it.
.venv-release/.installed: requirements-release.lock
	rm -rf .venv-release
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/pip install --quiet --disable-pip-version-check $(HASHED) -r requirements-release.lock
	@touch $@

audit: .venv-release/.installed
	.venv-release/bin/pip-audit --strict --disable-pip --require-hashes -r requirements.lock
	.venv-release/bin/pip-audit --strict --disable-pip --no-deps -r requirements-torch.lock
	mkdir -p dist
	cat requirements-torch.lock requirements.lock \
	  | .venv-release/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible -o dist/capvec.cdx.json -

clean:
	rm -rf .venv .venv-lock .venv-release .venv-clients .venv-harbor site
