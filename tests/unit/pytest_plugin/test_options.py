"""The options of a sweep and of a calibration, as pytest has them."""

import os
import re
import subprocess
import sys

import pytest
from support.help_texts import options_in

from capvec.errors import UsageError
from capvec.plan.option_help import STUDIES, help_text, options_of
from capvec.pytest_plugin.options import given_options

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)


def test_the_help_has_the_options_of_the_table_and_no_other_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sections = re.findall(r"^capvec: .*?:\n(.*?)(?=^\S)", done.stdout, re.MULTILINE | re.DOTALL)
    shown = {name: text for section in sections for name, text in options_in(section).items()}
    assert list(shown) == [option.flag for option in options_of(*STUDIES)]
    for option in options_of(*STUDIES):
        # pytest breaks lines at hyphens too.
        assert help_text(option, *STUDIES).replace(" ", "") in shown[option.flag].replace(" ", "")
        assert (option.metavar or "") in shown[option.flag]


def test_what_was_not_typed_stays_none_and_a_switch_false(pytester):
    given = given_options(pytester.parseconfig("--alpha", "2", "--resume"))
    switches = {option.name for option in options_of(*STUDIES) if option.metavar is None}
    assert {name: value for name, value in given.items() if value} == {"alpha": "2", "resume": True}
    assert all(value is (False if name in switches else None) for name, value in given.items() if not value)


def test_an_earlier_spelling_is_accepted(pytester):
    assert given_options(pytester.parseconfig("--chosen", "s.json"))["selection"] == "s.json"


# ------------------------------------------------------------------------------------------------ root of the tests


@pytest.fixture
def elsewhere(tmp_path_factory):
    """A folder that is not the working directory, with a file and a folder that options may name."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "dir.pt").touch()
    (folder / "tasks").mkdir()
    return folder


@pytest.mark.parametrize("settings", ["pyproject.toml", "pytest.ini"])
@pytest.mark.parametrize("theirs", [None, "pytest.ini"], ids=["no settings there", "settings there"])
@pytest.mark.parametrize(("flag", "name"), [("--direction", "dir.pt"), ("--tasks", "tasks"), ("--battery", "dir.pt")])
def test_a_value_that_pytest_took_for_the_root_of_the_tests_is_refused(
    pytester, elsewhere, settings, theirs, flag, name, monkeypatch
):
    (pytester.path / settings).write_text(
        {"pyproject.toml": "[tool.pytest.ini_options]\n", "pytest.ini": "[pytest]\n"}[settings]
    )
    if theirs:
        (elsewhere / theirs).write_text("[pytest]\n")
    value = str(elsewhere / name)
    with pytest.raises(UsageError) as said:
        given_options(pytester.parseconfig(flag, value))
    assert f"settings of {pytester.path}: it takes {value}, after {flag}," in str(said.value)
    assert f"Write {flag}={value}" in str(said.value)
    for others in (
        (f"{flag}={value}",),
        (flag, value, "--rootdir=."),
        (flag, value, "-c", settings),
        (flag, value, "."),
    ):
        assert given_options(pytester.parseconfig(*others))[flag.removeprefix("--")] == value
    monkeypatch.setenv("PYTEST_ADDOPTS", f"{flag} {value}")
    with pytest.raises(UsageError, match="with an equals sign"):
        given_options(pytester.parseconfig("--alpha", "2"))


def test_a_value_that_does_not_change_the_root_is_taken_as_typed(pytester, elsewhere):
    value = str(elsewhere / "dir.pt")
    assert given_options(pytester.parseconfig("--direction", value))["direction"] == value  # no settings anywhere
    (pytester.path / "pytest.ini").touch()
    (pytester.path / "here.pt").touch()
    given = given_options(pytester.parseconfig("--direction", "here.pt", "--battery", "x" * 5000))
    assert (given["direction"], given["battery"]) == ("here.pt", "x" * 5000)


# ------------------------------------------------------------------------------------------------ options of others

OTHER = """
def pytest_addoption(parser):
    group = parser.getgroup("other")
    group.addoption("--retries", type=int, dest="retries", default=7)
    group.addoption("--seed", action="store_true")
    group.addoption("--random-model", dest="model", default="theirs")
"""
THEIRS = """
def test_theirs(request):
    option = request.config.option
    assert (option.retries, option.seed, option.model) == (3, True, "theirs")
"""


@pytest.fixture
def beside(pytester, monkeypatch):
    """Runs pytest beside a plugin or a conftest file that has three names of ours."""

    def run(loaded, *arguments):
        pytester.makepyprojecttoml("[tool.pytest]\ntestpaths = ['tests']")
        pytester.makepyfile(**{"tests/conftest" if loaded == "conftest" else "other": OTHER, "tests/test_it": THEIRS})
        monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
        monkeypatch.setenv("PYTEST_PLUGINS", "other" if loaded == "last" else "")
        first = ("-p", "other") if loaded == "first" else ()
        return pytester.runpytest_subprocess(*first, *arguments)

    return run


@pytest.mark.parametrize("loaded", ["first", "last", "conftest"])
def test_an_option_that_another_plugin_has_stays_its_own(beside, loaded):
    assert beside(loaded, "--tasks", "tests", "--retries", "3", "--seed").parseoutcomes() == {"passed": 1}


def test_the_help_has_each_name_once(beside):
    shown = beside("last", "--help").stdout.str()
    assert shown.count(" --retries") == shown.count(" --seed") == shown.count(" --tasks") == 1


def test_a_study_beside_it_runs_and_refuses_what_would_reach_the_other_plugin(beside):
    collecting = ("-m", "sweep", "--tasks", "sprint", "--collect-only", "-q", "--pyargs", "capvec")
    refused = beside("last", *collecting, "--retries", "3")
    (line,) = [line for line in refused.errlines if line.strip()]
    assert line.startswith("ERROR: --retries is here an option of another plugin or of a conftest.py")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    collected = beside("last", *collecting)
    assert (collected.ret, collected.errlines) == (0, [])
    assert "10 tests collected" in collected.outlines[-1]


def test_a_folder_of_tasks_is_no_folder_of_tests(pytester):
    pytester.makepyprojecttoml("[tool.pytest]\ntestpaths = ['tests']")
    pytester.makepyfile(**{"mine/conftest": "raise AssertionError", "tests/conftest": OTHER, "tests/test_it": THEIRS})
    ran = pytester.runpytest_subprocess("--tasks", "mine", "--retries", "3", "--seed")
    assert ran.parseoutcomes() == {"passed": 1}
