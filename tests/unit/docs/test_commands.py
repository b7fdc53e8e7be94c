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
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY
from support.documented import SHELL, commands_in_text, fences

from capvec.plan.option_help import STUDIES, add_arguments
from capvec.plan.options import read_options

pytestmark = pytest.mark.unit

FENCES = fences()
OF_SHELL = [fence for fence in FENCES if fence.language in SHELL]
RUN = [fence for fence in OF_SHELL if fence.mark == "run"]
PYTHON_PAGES = sorted({fence.page for fence in FENCES if fence.language == "python" and fence.mark == "run"})
BY_READER = re.compile(r"\b(my|your)/|Qwen/")
TARGETS = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture
def scratch(tmp_path):
    """A folder with what a clone has, where a command may write."""
    for name in ("capvec", "dev"):
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


def check_capvec(words):
    parser = argparse.ArgumentParser()
    add_arguments(parser, words[0])
    read_options(words[0], vars(parser.parse_args(words[1:])))


def check_pytest(words):
    parser = argparse.ArgumentParser()
    for option in ("-m", "-n", "-k", "--junitxml"):
        parser.add_argument(option)
    for switch in ("-q", "--collect-only", "--pyargs"):
        parser.add_argument(switch, action="store_true")
    given, rest = parser.parse_known_args(words)
    if given.m in STUDIES:
        options = argparse.ArgumentParser()
        add_arguments(options, given.m)
        raw, rest = options.parse_known_args(rest)
        read_options(given.m, vars(raw))
    assert all((REPOSITORY / path).exists() or path == "capvec" for path in rest), rest


def check_python(words):
    assert words[0] != "-m" or importlib.util.find_spec(words[1]), words[1]
    assert words[0] == "-m" or (REPOSITORY / words[0]).exists(), words[0]


def check_make(words):
    assert words[0] in TARGETS, f"make {words[0]}"


CHECKS = {"capvec": check_capvec, "pytest": check_pytest, "python": check_python, "make": check_make}


def check(words):
    """Raises where a command's options are not what its program takes; what the files hold is not looked at."""
    if words[0] in CHECKS and "--help" not in words:
        CHECKS[words[0]](words[1:])


@pytest.mark.parametrize("fence", OF_SHELL, ids=str)
def test_every_option_of_a_command_exists(fence):
    for words in fence.commands:
        check(words)


@pytest.mark.parametrize("command", commands_in_text())
def test_every_option_of_a_command_in_a_sentence_or_a_table_exists(command):
    check(shlex.split(command))
