"""What a sweep must survive: verifiers without a reward, engines and workers that die, Ctrl-C, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

import pytest
from support.real_sweeps import REWARD, RUN, TRIALS, ledger, no_container_is_left, no_traceback, write_task

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)


def test_a_verifier_without_a_reward_is_an_error_and_the_rest_is_kept(sweep, report, pytester, tmp_path):
    for name in ("easy", "mute"):
        write_task(tmp_path / "tasks" / name, REWARD.format(1) if name == "easy" else "echo nothing to say\n")
    result = sweep("-n", "2", "--tasks", str(tmp_path / "tasks"), "--junitxml", "junit.xml")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = ledger(report)
    assert {entry["task"]: entry["outcome"] for entry in outcomes.values()} == {"easy": "solved", "mute": "error"}
    assert all("reward" in entry["error"] for entry in outcomes.values() if entry["task"] == "mute")
    suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    assert (suite.get("errors"), suite.get("failures")) == ("2", "0")
    result.stdout.fnmatch_lines(
        [
            "*ERROR at setup of mute-*-t1*",
            "VerifierFault: *reward*",
            "error: mute-baseline-t1: VerifierFault: *reward*",
            "ERROR *test_trial[[]mute-*-t1]*",
        ],
    )
    assert no_traceback(result)
    assert no_container_is_left()


KILL = """
import psutil

def pytest_runtest_logreport(report, left=[{times}]):
    for process in psutil.Process().children(recursive=True):
        if left[0] and report.when == "call" and "capvec.engines.transformers" in process.cmdline():
            process.kill()
            left[0] -= 1
"""
"""A plugin that kills the engine at the ends of the first trials."""


def test_an_engine_that_dies_is_started_again_and_no_trial_is_lost(sweep, report, pytester):
    pytester.makepyfile(sabotage=KILL.format(times=1))
    result = sweep("-n", "2", "-p", "sabotage")
    assert result.ret == pytest.ExitCode.OK
    outcomes = ledger(report)
    assert set(outcomes) == TRIALS
    # The receipts of every steered trial were checked: the new engine has the direction.
    assert all(one["outcome"] != "error" and one["measured"] for name, one in outcomes.items() if "steered" in name)
    lost = [(name, one) for name, outcome in outcomes.items() for one in outcome["lost"]]
    assert {one["away"] for _, one in lost} == {"engine"}
    assert "did not answer" in lost[0][1]["error"]
    assert len((report / "trials.jsonl").read_text().splitlines()) == len(TRIALS)
    assert f"`{lost[0][0]}`, try 1 (engine was out" in (report / "RESULTS.md").read_text()
    result.stdout.fnmatch_lines(["*began anew after a fault of the instrument*"])
    assert no_traceback(result)
    assert no_container_is_left()


def test_an_engine_that_dies_twice_stops_the_sweep_which_resume_completes(sweep, report, pytester):
    pytester.makepyfile(sabotage=KILL.format(times=2))
    result = sweep("-n", "0", "-p", "sabotage")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = list(ledger(report).values())
    assert [one["outcome"] == "error" for one in outcomes] == [False, False, True]
    assert outcomes[-1]["away"] == "engine"
    assert "ended twice" in outcomes[-1]["error"]
    result.stdout.fnmatch_lines([f"Stopped: the engine ended twice*--run {RUN} --resume. 3 of 4 trials*NOT RUN: *"])
    summary = json.loads((report / "summary.json").read_text())
    assert (summary["interrupted"], "ended twice" in summary["stopped"]) == (False, True)
    assert no_traceback(result)
    assert no_container_is_left()
    assert sweep("-n", "0", "--resume").ret == pytest.ExitCode.OK
    again = ledger(report)
    assert set(again) == TRIALS
    assert [again[one["trial"]] for one in outcomes[:2]] == outcomes[:2]
    assert "stopped" not in json.loads((report / "summary.json").read_text())


def test_a_worker_that_crashes_is_an_error_and_never_unsolved(sweep, report, pytester):
    pytester.makepyfile(
        sabotage="""
        import os

        def pytest_runtest_setup(item):
            if "hard-baseline" in item.nodeid:
                os._exit(3)
        """
    )
    result = sweep("-n", "2", "-p", "sabotage")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = ledger(report)
    assert set(outcomes) == TRIALS
    assert outcomes["hard-baseline-t1"]["outcome"] == "error"
    assert "crashed" in outcomes["hard-baseline-t1"]["error"]
    assert outcomes["easy-baseline-t1"]["outcome"] == "solved"
    assert no_container_is_left()


def test_stopping_at_the_first_error_names_what_was_not_run(sweep, report, tmp_path):
    write_task(tmp_path / "tasks" / "a-mute", "echo nothing\n")
    write_task(tmp_path / "tasks" / "easy", REWARD.format(1))
    result = sweep("-x", "--tasks", str(tmp_path / "tasks"))
    assert result.ret != pytest.ExitCode.OK
    assert len(ledger(report)) == 1
    result.stdout.fnmatch_lines(["*1 of 4 trials recorded; NOT RUN: *"])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_container(given, tmp_path, workers):
    write_task(tmp_path / "tasks" / "slow", "sleep 100\n")
    command = [
        sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "-n", workers,
        "--run", f"ctrl-c-{workers}", "--model", str(given / "tiny"), "--direction", str(given / "dir.safetensors"),
        "--layer", "1", "--tasks", f"{given / 'tasks' / 'easy'},{tmp_path / 'tasks' / 'slow'}", "--max-steps", "1",
        "--max-tokens", "4", "--no-check",
    ]  # fmt: skip
    report = tmp_path / "reports" / f"ctrl-c-{workers}"

    def interrupt(*arguments: str) -> str:
        process = subprocess.Popen(
            [*command, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        with process:
            deadline = time.monotonic() + 120
            # Both trials of the easy task are on record: what runs now is the slow verifier, for 100 seconds.
            while time.monotonic() < deadline and not (
                (report / "trials.jsonl").exists()
                and len(ledger(report)) >= 2
                and not no_container_is_left(report.name)
            ):
                time.sleep(0.2)
            os.killpg(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        assert process.returncode == pytest.ExitCode.INTERRUPTED
        assert "Interrupted: 2 of 4 trials recorded; NOT RUN: slow-" in said
        assert "**Status:** Interrupted: 2 of 4 trials recorded; " in (report / "RESULTS.md").read_text()
        assert json.loads((report / "summary.json").read_text())["interrupted"] is True
        assert no_container_is_left(report.name)
        return said

    interrupt()
    outcomes = ledger(report)
    assert {entry["outcome"] for entry in outcomes.values()} == {"solved"}
    # Had they ended in an error, a second session would mean to run them again: stopped before that, it did not.
    seeds = json.loads((report / "provenance.json").read_text())["seeds"]
    with (report / "trials.jsonl").open("a") as file:
        for trial in (trial for trial in seeds if trial.startswith("slow")):
            easy = outcomes[trial.replace("slow", "easy")]
            failed = {"trial": trial, "task": "slow", "seed": seeds[trial], "outcome": "error", "error": "as if"}
            file.write(json.dumps(easy | failed) + "\n")
    interrupt("--resume")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "no/such/folder/at/all"), "--model no/such/folder/at/all: no such model folder*"),
        (("--model", "."), "--model .: no config.json*"),
        (("--layer", "4"), "--layer 4: the model has 4 layers, 0 to 3"),
        (("--direction", "{given}/other.safetensors"), "--direction *shape [[]32, 2560[]]; expected [[]4, 32[]]*"),
        (("--direction", "{given}/none.pt"), "--direction */none.pt: no such file*"),
        (("--direction", "{given}/tiny/config.json"), "--direction *config.json: not a direction's file by its name*"),
        (
            ("--direction", "{given}/text.pt"),
            "--direction */text.pt: not a .pt file *: it is text that begins 'epsilon'",
        ),
        (("--layer", "auto"), "--layer auto needs a ranking*"),
        (("--controls", "shuffled:2"), "--controls shuffled needs the traces*"),
        (("--gate", "improves(steered-L9-a4)"), "--gate *no config steered-L9-a4 is *; expected one of steered-L1-a4"),
        (("--tasks", "{given}/broken"), "1 of 1 tasks cannot be used:"),
    ],
)
def test_bad_input_is_one_readable_message_and_exit_code_4(sweep, report, given, arguments, said):
    (given / "text.pt").write_text("epsilon")
    broken = given / "broken" / "task"
    if not broken.exists():
        write_task(broken, REWARD.format(1))
        (broken / "task.toml").write_text('[environment]\nmemory_mb = "lots"\n')
    result = sweep(*(argument.replace("{given}", str(given)) for argument in arguments))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: " + said])
    assert no_traceback(result)
    assert not report.exists()


def test_an_engine_that_does_not_start_is_reported_with_its_last_words_and_leaves_no_folder(
    sweep, report, pytester, monkeypatch
):
    pytester.makepyfile(uvicorn="raise SystemExit('no server today')")
    monkeypatch.setenv("PYTHONPATH", str(pytester.path), prepend=os.pathsep)
    result = sweep()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stderr.fnmatch_lines(
        ["ERROR: capvec cannot start the sweep: the engine ended with exit code 1 *its log ends in:", "no server today"]
    )
    assert (result.stdout.str() + result.stderr.str()).count("cannot start the sweep") == 1
    assert not report.exists()
    assert no_container_is_left()


def test_a_broken_task_is_named_with_file_key_value_and_expectation(sweep, tmp_path):
    write_task(tmp_path / "task", REWARD.format(1))
    (tmp_path / "task" / "task.toml").write_text('[environment]\nmemory_mb = "lots"\n')
    result = sweep("--tasks", str(tmp_path / "task"))
    result.stderr.fnmatch_lines(["*task.toml*environment.memory_mb*'lots'*expected*"])
