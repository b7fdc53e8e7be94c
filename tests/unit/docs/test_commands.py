"""The commands and examples of the documentation run, or say which test runs them.

A comment on the line above a fenced block says how it is tested:

* `<!-- run -->`: this module runs it, in a scratch folder.
* `<!-- run by tests/integration/… -->`: that file runs the same command; it takes minutes, a model or Docker.
* `<!-- check -->`: it names what only a reader has (`my/tasks`, `your/model`), so its options alone are checked.
* `<!-- not run: WHY -->`: it changes the machine.

Whatever the mark, every option in every command must exist.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY
from support.documented import SHELL, fences

from capvec.commands.main import COMMANDS

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)

FENCES = fences()
OF_SHELL = [fence for fence in FENCES if fence.language in SHELL]
RUN = [fence for fence in OF_SHELL if fence.mark == "run"]
PYTHON_PAGES = sorted({fence.page for fence in FENCES if fence.language == "python" and fence.mark == "run"})
BY_READER = re.compile(r"\b(my|your)/|Qwen/")
TARGETS = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture
def scratch(tmp_path):
    """A folder with what a clone has, where a command may write."""
    for name in ("capvec", "dev", "tests", "docs", "pyproject.toml", "conftest.py", "Makefile", "zensical.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "reports").mkdir()
    for run in (REPOSITORY / "reports").iterdir():
        (tmp_path / "reports" / run.name).symlink_to(run)
    return tmp_path


def run(command, folder):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": path, "CAPVEC_CACHE": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("fence", FENCES, ids=str)
def test_every_command_and_example_says_how_it_is_tested(fence):
    kind, _, rest = fence.mark.partition(" ")
    if fence.mark.startswith("run by "):
        file = REPOSITORY / fence.mark.removeprefix("run by ")
        assert file.is_file(), f"{fence}: there is no {file}"
    elif kind == "check":
        assert BY_READER.search(fence.code), f"{fence}: mark it `run`, or `run by` a test"
    elif fence.mark.startswith("not run: "):
        assert rest
    else:
        assert fence.mark == "run", f"{fence}: put <!-- run --> above it, or one of the other marks"


@pytest.mark.parametrize("fence", RUN, ids=str)
def test_a_quick_command_runs(fence, scratch):
    done = run(["bash", "-e", "-c", fence.code], scratch)
    assert done.returncode == 0, f"{fence}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_examples_of_a_page_run_one_after_the_other(page, scratch):
    blocks = [fence.code for fence in FENCES if fence.page == page and fence.language == "python"]
    done = run([sys.executable, "-c", "\n".join(blocks)], scratch)
    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"


@pytest.fixture
def check(pytester):
    """Raises where a command's options are not what its program takes; what the files hold is not looked at."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.add(commands)

    def of_pytest(words):
        config = pytester.parseconfig(*words)
        given = config.invocation_params.args
        assert given

    def of_python(words):
        assert words[0] == "-m"
        assert importlib.util.find_spec(words[1]), words[1]

    def of_make(words):
        assert words[0] in TARGETS, f"make {words[0]}"

    checks = {
        "capvec": parser.parse_args,
        "pytest": of_pytest,
        "python": of_python,
        "make": of_make,
    }
    return lambda words: checks.get(Path(words[0]).name, lambda _: None)(words[1:])


@pytest.mark.parametrize("fence", OF_SHELL, ids=str)
def test_every_option_of_a_command_exists(fence, check):
    for words in fence.commands:
        if "--help" not in words and "--version" not in words:
            check(words)
