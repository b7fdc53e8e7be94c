"""The plugin where no sweep starts: options, selection, messages. Sweeps are in tests/integration/test_sweep.py."""

import subprocess
import sys

import pytest
from support.tasks import CLOSED

# Before pytester takes note of what is loaded: it unloads the rest after each run, and NumPy cannot be loaded twice.
import capvec.run.session  # noqa: F401
from capvec.plan.plan import Settings
from capvec.pytest_plugin.plugin import SUITE, pytest_ignore_collect
from capvec.studies.calibration.selection import GridPoint, Selection

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)


@pytest.fixture
def sweep(pytester):
    def run(*arguments: str) -> pytest.RunResult:
        return pytester.runpytest_inprocess("--pyargs", "capvec", *arguments, "-p", "no:cacheprovider")

    return run


def test_without_the_mark_nothing_is_collected(sweep):
    result = sweep("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.no_fnmatch_line("*test_trial*")


def test_of_the_package_nothing_is_looked_at_but_the_suite(pytester):
    config = pytester.parseconfig("-m", "sweep")
    assert {path.name for path in SUITE.parent.iterdir() if not pytest_ignore_collect(path, config)} == {"suite"}
    assert pytest_ignore_collect(SUITE / "test_sweep.py", config) is None
    assert pytest_ignore_collect(pytester.path, config) is None


def test_collect_only_shows_every_trial_and_starts_nothing(sweep):
    result = sweep("-m", "sweep", "--collect-only", "-q", "--alpha", "2,4", "--layer", "3", "--tasks", "sprint")
    # sprint has 5 tasks; three configs: baseline and two strengths at one layer.
    assert sum("test_trial[" in line for line in result.outlines) == 5 * 3
    assert result.ret == pytest.ExitCode.OK
    assert any(line.endswith("-steered-L3-a4-t1]") for line in result.outlines)


@pytest.mark.parametrize("names", ["check_*", "*"])
def test_the_suite_is_collected_whatever_tests_are_called_in_the_project(sweep, pytester, names):
    settings = (f"python_files = {names}.py", f"python_functions = {names}", f"python_classes = {names}")
    pytester.makeini("\n".join(("[pytest]", *settings)))
    result = sweep("-m", "sweep", "--collect-only", "-q", "-W", "error", "--layer", "3", "--tasks", "sprint")
    assert sum("test_sweep.py::test_trial[" in line for line in result.outlines) == 5 * 2
    assert result.ret == pytest.ExitCode.OK
    assert not [line for line in result.outlines if "::" in line and "test_trial[" not in line]


@pytest.fixture
def chosen(pytester):
    """What a calibration goes by, chosen on the family of one of three tasks."""
    for name, family, split in (("t", "tuned", "trained"), ("r", "reported", "trained"), ("h", "held", "held-out")):
        folder = pytester.path / "tasks" / name
        for part in ("environment", "tests"):
            (folder / part).mkdir(parents=True)
        (folder / "instruction.md").write_text("Do it.\n")
        (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
        (folder / "tests" / "test.sh").write_text("true\n")
        (folder / "task.toml").write_text(f'{CLOSED}[metadata]\nfamily = "{family}"\nsplit = "{split}"\n')
    points = [GridPoint(mode, 1, 0.5, 1.0, 0.1, 1, 1, 0, 0.0, 0.0) for mode in ("baseline", "skill", "format")]
    settings = Settings("pocket", "bash-block", "brief", 1, 1, 0.7)
    tasks = str(pytester.path / "tasks")
    choice = Selection("pocket", None, tasks, ("tuned",), ("t",), 1, 0, settings, (), *points, ())
    choice.save(pytester.path / "chosen.json")
    return "--selection", str(pytester.path / "chosen.json")


def test_a_calibration_collects_its_arms_on_the_tasks_that_nothing_was_chosen_on(sweep, chosen):
    result = sweep("-m", "calibration", "--collect-only", "-q", *chosen, "--controls", "random:2", "--attempts", "1")
    assert result.ret == pytest.ExitCode.OK
    trials = [line for line in result.outlines if "test_trial[" in line]
    # Two tasks; baseline, both ways of both directions, two random controls and zero.
    assert len(trials) == 2 * 8
    assert all("test_calibration.py" in line and ("[r-" in line or "[h-" in line) for line in trials)
    assert any(line.endswith("[r-planted-reversed-L1-a0.5-t1]") for line in trials)


def test_no_other_mark_starts_a_calibration_and_two_studies_are_refused(sweep, chosen):
    result = sweep("-m", "sweep", "--collect-only", "-q", "--tasks", "sprint", "--layer", "3")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*test_calibration*")
    result = sweep("-m", "not unit", "--collect-only", "-q", *chosen)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result = sweep("-m", "sweep or calibration", *chosen)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *asks for sweep and calibration: run one of them at a time"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--selection", "none.json"), "*none.json: no such file*capvec.studies.calibration.select*"),
        (("--layer", "3"), "--layer is for -m sweep*"),
        (("--sequential",), "--sequential is for -m sweep*"),
        (("--effect", "0.2"), "--effect is for -m sweep*"),
        (("--controls", "negated"), "--controls 'negated'*random:K*"),
    ],
)
def test_bad_input_to_a_calibration_is_one_readable_line(sweep, chosen, arguments, said):
    result = sweep("-m", "calibration", *chosen, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: " + said])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--selection", "chosen.json"), "--selection is for -m calibration*"),
        (("--alpha", "four"), "*--alpha 'four'*expected a number*"),
        (("--layer", "-2"), "*--layer '-2'*expected a whole number*"),
        (("--tasks", "no/such/folder"), "*no/such/folder*"),
        (("--direction", "none.pt"), "--direction none.pt: no such file; expected a .pt, .safetensors or .gguf file"),
        (
            ("--direction", "chosen.json"),
            "--direction chosen.json: not a direction's file by its name; expected a .pt*",
        ),
        (("--reference", "none.gguf"), "--reference none.gguf: no such file; *"),
        (("--traces", "no/such"), "--traces no/such: no such file or folder; *"),
        (("--traces", "nowhere.txt"), "--traces nowhere.txt: no such file or folder; *"),
        (("--protocol", "smoke-signals"), "*smoke-signals*bash-block*"),
        (("--gate", "wins(steered)"), "*--gate*wins(steered)*improves(CONFIG)*"),
        (("--controls", "placebo"), "*--controls 'placebo'*zero*"),
        (("--resume",), "*--resume needs --run*"),
        (("--effect", "1.5"), "--effect '1.5': expected a difference in pass rate between 0 and 1*"),
        (("--base-rate", "no/such/run"), "--base-rate no/such/run: expected a rate*"),
        (("--plan", "--alpha", "four"), "*--alpha 'four'*expected a number*"),
        (("--plan", "--collect-only"), "--plan with --collect-only: *drop one"),
        (("--plan", "-k", "easy"), "--plan with -k: *drop one"),
        (("--plan", "--resume", "--run", "r"), "--plan with --resume: *--base-rate */reports/r"),
        (("--plan", "-m", "unit"), "--plan: add -m sweep or -m calibration*"),
        (("--dist", "each", "-n", "2"), "--dist each does not go with a study: every worker would run every trial*"),
    ],
)
def test_bad_input_is_one_readable_line_and_exit_code_4(pytester, monkeypatch, sweep, arguments, said):
    # Found before anything is started: this Docker would be complained about otherwise.
    for name in ("chosen.json", "notes.txt"):
        (pytester.path / name).write_text("{}")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    result = sweep("-m", "sweep", *arguments)
    assert not (pytester.path / "reports").exists()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: " + said])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_run_that_exists_is_never_overwritten(pytester, sweep):
    ledger = pytester.path / "reports" / "mine" / "trials.jsonl"
    ledger.parent.mkdir(parents=True)
    ledger.write_text("{}\n")
    result = sweep("-m", "sweep", "--run", "mine")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *mine holds a run already: add --resume*"])


def test_docker_that_does_not_answer_is_said_plainly(monkeypatch, sweep):
    # Not a missing socket file: for that the SDK leaves a socket open, which a later test would be blamed for.
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    result = sweep("-m", "sweep", "-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stderr.fnmatch_lines(
        ["ERROR: capvec cannot start the sweep: *tcp://127.0.0.1:1 (Connection refused)*`capvec doctor`*"]
    )
    said = result.stdout.str() + result.stderr.str()
    assert said.count("cannot start the sweep") == 1
    assert "Traceback" not in said
    assert "Exit" not in said


def test_what_every_process_imports_brings_neither_torch_nor_docker():
    program = (
        "import sys, capvec.pytest_plugin.plugin, capvec.commands.command_line, capvec.engines.client\n"
        "print(sorted({'torch', 'transformers', 'docker'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_collecting_the_tests_imports_no_torch(imported_by_collection):
    assert "capvec.pytest_plugin.plugin" in imported_by_collection
    assert not {"torch", "transformers"} & imported_by_collection


def test_a_malformed_expression_and_the_suite_by_its_path_are_pytests_own_business(pytester, sweep):
    result = sweep("-m", "sweep and")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "INTERNALERROR" not in result.stdout.str()
    result = pytester.runpytest_inprocess(SUITE / "test_sweep.py", "-p", "no:cacheprovider")
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_session_loads_scipys_parts_when_it_first_needs_them():
    """They take longer than all else that a session imports."""
    script = "import sys, capvec.pytest_plugin.controller; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "scipy" in loaded
    assert not loaded & {"scipy.stats", "scipy.optimize", "scipy.special", "pandas"}
