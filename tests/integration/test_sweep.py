"""Whole sweeps through pytest: a small random-weight model, real containers, real reports."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import docker
import numpy as np
import pytest
import safetensors.numpy
from tiny_models import LAYERS, WIDTH, save_tiny

from capvec.traces import read_traces

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)

DOCKERFILE = "FROM debian:bookworm-slim\nWORKDIR /app\n"
REWARD = "#!/bin/bash\nmkdir -p /logs/verifier\necho {} > /logs/verifier/reward.txt\n"


def write_task(folder: Path, test: str) -> None:
    (folder / "environment").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "environment" / "Dockerfile").write_text(DOCKERFILE)
    (folder / "task.toml").write_text('schema_version = "1.4"\n[environment]\nmemory_mb = 128\n')
    (folder / "instruction.md").write_text(f"Do {folder.name}.\n")
    (folder / "tests" / "test.sh").write_text(test)
    (folder / "tests" / "test.sh").chmod(stat.S_IRWXU)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, a direction that fits it, and two tasks: one whose verifier is content with anything, one never."""
    root = tmp_path_factory.mktemp("given")
    save_tiny(root / "tiny", "llama")
    write_task(root / "tasks" / "easy", REWARD.format(1))
    write_task(root / "tasks" / "hard", REWARD.format(0))
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    ambient = np.full(LAYERS, 10, np.float32)
    safetensors.numpy.save_file({"directions": vectors, "ambient_norm": ambient}, root / "dir.safetensors")
    safetensors.numpy.save_file({"directions": np.ones((32, 2560), np.float32)}, root / "other.safetensors")
    return root


@pytest.fixture
def sweep(pytester, given):
    """Runs a sweep as a user would who has no clone; options given later win."""

    def run(*arguments: str) -> pytest.RunResult:
        model = () if "--base-url" in arguments else ("--model", str(given / "tiny"))
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", "r",
            *model, "--direction", str(given / "dir.safetensors"), "--layer", "1",
            "--tasks", str(given / "tasks"), "--alpha", "4", "--max-steps", "2", "--max-tokens", "6", *arguments,
        )  # fmt: skip

    return run


@pytest.fixture
def report(pytester):
    return pytester.path / "reports" / "r"


def ledger(report: Path) -> dict[str, dict]:
    lines = (report / "trials.jsonl").read_text().splitlines()
    return {entry["trial"]: entry for entry in map(json.loads, lines)}


def no_container_is_left(run: str = "r") -> bool:
    client = docker.from_env()
    try:
        return not client.api.containers(all=True, filters={"label": f"capvec.run={run}"})
    finally:
        client.close()


def no_traceback(result: pytest.RunResult) -> bool:
    return "Traceback" not in result.stdout.str() + result.stderr.str()


TRIALS = {f"{task}-{config}-t1" for task in ("easy", "hard") for config in ("baseline", "steered-L1-a4")}


def test_a_collection_keeps_traces_outcomes_and_what_made_them(given, tmp_path, capsys):
    from capvec.cli import main

    arguments = [
        "--model",
        str(given / "tiny"),
        "--tasks",
        str(given / "tasks"),
        "--max-steps",
        "2",
        "--max-tokens",
        "6",
    ]
    assert main(["collect", "--out", str(tmp_path / "traces"), *arguments, "--attempts", "2", "--jobs", "2"]) == 0
    assert no_container_is_left("traces")

    said = capsys.readouterr().out
    assert "capvec: 4/4 trials · 2 solved · 2 unsolved · 0 errors" in said
    assert "4 traces in " in said
    assert "2 solved, 0 errors" in said
    outcomes = ledger(tmp_path / "traces")
    assert set(outcomes) == {f"{task}-baseline-t{attempt}" for task in ("easy", "hard") for attempt in (1, 2)}
    traces = read_traces(tmp_path / "traces")
    assert sorted(trace.reward for trace in traces) == [0, 0, 1, 1]
    made = json.loads((tmp_path / "traces" / "provenance.json").read_text())
    assert made["command_line"][:2] == ["capvec", "collect"]
    assert made["direction"] is None
    assert made["model"]["revision"]
    assert made["seeds"] == {trial: outcome["seed"] for trial, outcome in outcomes.items()}
    assert "| **all** | all | 2/4 | 0.50 |" in (tmp_path / "traces" / "BASELINE.md").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_sweep_ends_with_outcomes_a_table_and_every_file_of_the_contract(sweep, report, pytester, workers):
    import torch

    result = sweep("-n", workers, "--junitxml", "junit.xml")
    assert result.ret == pytest.ExitCode.OK
    assert no_container_is_left()

    outcomes = ledger(report)
    assert set(outcomes) == TRIALS
    assert {entry["task"]: entry["outcome"] for entry in outcomes.values()} == {"easy": "solved", "hard": "unsolved"}
    # All configs of one (task, attempt) share a seed.
    assert len({entry["seed"] for entry in outcomes.values()}) == 2
    norm = float(np.linalg.norm(safetensors.numpy.load_file(report / "vectors" / "dir.safetensors")["directions"][1]))
    for entry in outcomes.values():
        if entry["config"] == "baseline":
            assert entry["measured"] == []
        else:
            (measured,) = entry["measured"]
            assert (measured["layer"], measured["op"]) == (1, "add")
            assert measured["expected"] == pytest.approx(4 * norm, rel=1e-5)
            assert measured["mean"] == pytest.approx(4 * norm, rel=1e-3)

    # Two tasks: 2/2² = 0.5 is the least p there is.
    underpowered = "Underpowered: 2 tasks give no p below 0.5, and 0.05 is needed, so *"
    result.stdout.fnmatch_lines(
        [
            f"capvec: {underpowered}--plan tells what would be enough.",
            *("*config *solved *95 % Wilson*", "*baseline *1/2*", "*steered-L1-a4 *1/2*", underpowered, "*report: *"),
        ]
    )
    assert "**Warning:** Underpowered: 2 tasks" in (report / "RESULTS.md").read_text()
    assert '<p class="warning">Underpowered: 2 tasks' in (report / "report.html").read_text()
    rows = list(csv.DictReader((report / "master_summary.csv").read_text().splitlines()))
    assert ",".join(rows[0]) == (
        "run,task,config,layer,alpha,attempt,seed,outcome,reward,steps,parse_fail,no_cmd,end_reason,"
        "prompt_tokens,completion_tokens,model_s,sandbox_s,wall_s,error,family,split"
    )
    assert {row["task"] + "-" + row["config"] + "-t" + row["attempt"] for row in rows} == TRIALS
    summary = json.loads((report / "summary.json").read_text())
    assert summary["missing_trials"] == []
    assert [config["fisher"] for config in summary["configs"]][1]["pvalue"] == 1.0  # 1/2 against 1/2
    assert "steered-L1-a4" in (report / "RESULTS.md").read_text()
    assert torch.load(report / "vectors" / "dir.pt", weights_only=True)["directions"].shape == (LAYERS, WIDTH)
    assert (report / "vectors" / "dir.gguf").read_bytes()[:4] == b"GGUF"
    result.stdout.fnmatch_lines(["*dir.gguf: llama.cpp takes no vector for layer 0*"])
    provenance = json.loads((report / "provenance.json").read_text())
    assert provenance["model"]["n_layers"] == LAYERS
    assert "--alpha" in provenance["command_line"]
    for trial in TRIALS:
        trajectory = json.loads((report / "trajectories" / f"{trial}.json").read_text())
        assert trajectory["schema_version"] == "ATIF-v1.8"
        assert (trajectory["agent"]["extra"]["layer"] == 1) == ("steered" in trial)
    assert (report.parent / "latest").resolve() == report

    cases = ET.parse(pytester.path / "junit.xml").getroot().iter("testcase")
    properties = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    assert {p["trial"]: p["outcome"] for p in properties} == {trial: outcomes[trial]["outcome"] for trial in TRIALS}


def test_k_leaves_trials_out_and_resume_runs_the_rest_and_keeps_the_first(sweep, report):
    assert sweep("-k", "easy").ret == pytest.ExitCode.OK
    first = ledger(report)
    assert set(first) == {trial for trial in TRIALS if trial.startswith("easy")}
    result = sweep("--resume", "-n", "2")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*2 trials: *2 kept from before*"])
    assert set(ledger(report)) == TRIALS
    assert {trial: entry for trial, entry in ledger(report).items() if trial in first} == first
    result = sweep("--resume", "--temperature", "0.1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --resume: * was begun as another sweep (settings was *"])
    result = sweep("--resume", "--seed", "7")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --resume: * ran with seed *"])


def test_controls_and_gates_work_on_the_same_trials_and_the_run_can_be_published(sweep, report, pytester, given):
    result = sweep(
        "-n", "2", "--controls", "zero,random:1,orthogonal:2,flip,prompt", "--gate", "improves(steered-L1-a4)",
        "-k", "easy", "--junitxml", "junit.xml",
    )  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    assert [suite.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["10", "1", "0", "0"]
    cases = {case.get("name"): case for case in suite.iter("testcase") if case.get("name").startswith("gate[")}
    assert [child.tag for child in cases["gate[zero-L1: the baseline's tokens]"]] == ["properties"]
    assert [child.tag for child in cases["gate[improves(steered-L1-a4)]"]] == ["properties", "failure"]
    assert len({case.get("classname") for case in suite.iter("testcase")}) == 1
    result.stdout.fnmatch_lines(
        [
            "*against its twins *random *orthogonal *",
            # One trial each, all solved: nothing is gained, and every twin does as well.
            "*steered-L1-a4 *+0.00 *1/1 *1.000 *2/2 *1.000*",
            "*gate met: zero-L1: the baseline's tokens (* replies to identical conversations compared in 1 trials, 0 *",
            "*gate NOT MET: improves(steered-L1-a4)*",
        ]
    )
    outcomes = ledger(report)
    assert {entry["config"] for entry in outcomes.values()} == {
        "baseline", "steered-L1-a4", "zero-L1", "random1-L1-a4", "orthogonal1-L1-a4", "orthogonal2-L1-a4",
        "flip-L1-a4", "prompt",
    }  # fmt: skip
    shifts = {e["config"]: e["measured"][0]["expected"] for e in outcomes.values() if e["measured"]}
    assert shifts["zero-L1"] == 0
    assert shifts["flip-L1-a4"] == pytest.approx(-shifts["steered-L1-a4"])
    for twin in ("random1", "orthogonal1", "orthogonal2"):
        assert shifts[f"{twin}-L1-a4"] == pytest.approx(shifts["steered-L1-a4"], rel=1e-4)
    summary = json.loads((report / "summary.json").read_text())
    assert {(twin["kind"], len(twin["twins"])) for twin in summary["twins"]} == {("random", 1), ("orthogonal", 2)}
    assert "## Controls" in (report / "RESULTS.md").read_text()

    from capvec.cli import main

    assert main(["export", str(report), "--out", "published", "--license", "mit"]) == 0
    published = [path for path in (pytester.path / "published").rglob("*") if path.is_file()]
    others = [path for path in published if path.parent.name != "plots"]
    assert len(others) == 7  # the card, the write-up, its page, the trials, and the direction three times
    assert len(published) > len(others)
    assert not any(str(given).encode() in path.read_bytes() for path in published)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_with_looks_a_config_that_changes_nothing_stops_with_its_control_and_the_rest_is_skipped(
    sweep, report, tmp_path, workers
):
    from capvec.cli import main

    for number in range(6):
        write_task(tmp_path / "six" / f"easy{number}", REWARD.format(1))
    asked = ("--tasks", str(tmp_path / "six"), "--attempts", "2", "--controls", "zero", "--sequential", "-n", workers)
    result = sweep(*asked, "-rs", "--junitxml", "junit.xml")
    assert result.ret == pytest.ExitCode.OK
    assert no_traceback(result)
    # Every verifier is content, so no task moves. After half of 12 blocks the chance of a rejection is
    # 2Φ(−1.96) = 0.05, and an interval of ±0.34 cannot come to be within ±0.15: a stop for futility, for certain.
    said = " ".join(result.stdout.str().split())
    assert "capvec: --sequential: looks after 6, 9, 12 of 12 (task, attempt) blocks" in said
    assert "capvec: steered-L1-a4 stops for futility at look 1 of 3, with 50% of its trials in: +0.00" in said
    assert "capvec: zero-L1 stops: whatever it controls for has stopped" in said
    assert "capvec: baseline stops: whatever is compared with it has stopped" in said
    assert "so it can be neither improves nor harms" in said

    counts = Counter(entry["config"] for entry in ledger(report).values())
    late = {name: count - 6 for name, count in counts.items()}  # under way elsewhere when the look was taken
    assert late.keys() == {"baseline", "steered-L1-a4", "zero-L1"}
    assert all(count == 0 if workers == "0" else 0 <= count <= 2 for count in late.values())
    summary = json.loads((report / "summary.json").read_text())
    assert summary["spared_trials"] == 18 - sum(late.values())
    assert summary["missing_trials"] == []
    assert summary["sequential"]["overrun"] == late
    (test,) = summary["sequential"]["tests"]
    assert [look["decision"] for look in test["looks"]] == ["futility"]
    row = next(row for row in summary["configs"] if row["config"] == "steered-L1-a4")
    assert (row["n"], row["solved"], row["errors"], row["effect"]["holm"]) == (6, 6, 0, 1.0)
    cases = [
        case for case in ET.parse(report.parents[1] / "junit.xml").iter("testcase") if "gate[" not in case.get("name")
    ]
    assert len(cases) == 36
    assert sum(case.find("skipped") is not None for case in cases) == 18 - sum(late.values())
    assert not any(case.find("error") is not None or case.find("failure") is not None for case in cases)

    texts = {name: (report / name).read_text() for name in ("summary.json", "RESULTS.md", "report.html")}
    assert main(["report", str(report)]) == 0
    assert {name: (report / name).read_text() for name in texts} == texts
    if workers == "0":
        before = ledger(report)
        again = sweep(*asked, "--resume")
        assert again.ret == pytest.ExitCode.OK
        assert ledger(report) == before
        refused = sweep("--tasks", str(tmp_path / "six"), "--attempts", "2", "--controls", "zero", "--resume")
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(["*--sequential was over 36 trials*and is False*"])


def test_a_zero_control_that_says_something_else_is_seen(sweep, pytester):
    # An answer of the zero control is changed on its way to disk: what a steer that leaks would look like.
    pytester.makepyfile(
        sabotage="""
        import json, pathlib

        def pytest_runtest_logreport(report):
            if report.when == "call" and "easy-zero" in report.nodeid:
                (path,) = pathlib.Path("reports/r/trajectories").glob("easy-zero-L1-t1.json")
                trajectory = json.loads(path.read_text())
                replies = [step for step in trajectory["steps"] if "llm_call_count" in step]
                replies[0]["message"] += "!"
                path.write_text(json.dumps(trajectory))
        """
    )
    result = sweep("-p", "sabotage", "-n", "2", "--controls", "zero", "-k", "easy")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*gate NOT MET: zero-L1: the baseline's tokens (*1 differ*easy, attempt 1, reply 0*"])


def test_a_file_that_names_a_layer_and_another_model_is_steered_there_with_a_caveat(sweep, report, given, tmp_path):
    vectors = safetensors.numpy.load_file(given / "dir.safetensors")["directions"]
    metadata = {"layer": "2", "model": "org/other"}
    safetensors.numpy.save_file({"directions": vectors}, tmp_path / "named.safetensors", metadata)
    result = sweep("-n", "2", "--direction", str(tmp_path / "named.safetensors"), "--layer", "auto", "-k", "easy")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*--layer auto takes layer 2, the one that *named.safetensors names*"])
    assert {entry["config"] for entry in ledger(report).values()} == {"baseline", "steered-L2-a4"}
    assert "was built from the model org/other, and tiny was steered" in (report / "RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "steered", "layer"),
    [
        (("--op", "ablate", "--layer", "0+2", "--alpha", "2,4"), "ablate-L0+2", "0+2"),
        (("--op", "set", "--positions", "assistant", "--layer", "2"), "set-L2-a4-assistant", "2"),
        (("--positions", "generated", "--keep-norm"), "steered-L1-a4-generated-keepnorm", "1"),
    ],
)
def test_every_manner_of_steering_is_a_sweep_with_controls_and_receipts(sweep, report, arguments, steered, layer):
    result = sweep("-n", "2", *arguments, "--controls", "zero,random:1", "-k", "easy")
    assert result.ret == pytest.ExitCode.OK
    outcomes = {entry["config"]: entry for entry in ledger(report).values()}
    suffix = steered.partition("a4")[2]
    random = f"random1-{steered.removeprefix('steered-')}"
    assert set(outcomes) == {"baseline", steered, f"zero-L{layer}{suffix}", random}
    for measured in outcomes[steered]["measured"]:
        if measured["expected"] is not None:
            assert measured["mean"] == pytest.approx(measured["expected"], abs=1e-3)
    rows = {row["config"]: row for row in csv.DictReader((report / "master_summary.csv").read_text().splitlines())}
    assert (rows[steered]["layer"], rows["baseline"]["layer"]) == (layer, "")
    text = (report / "RESULTS.md").read_text()
    for where in layer.split("+"):
        assert f"| {steered} | {where} | 1 | {'shift' if steered.startswith('steered') else 'level'} |" in text
    zero = outcomes[f"zero-L{layer}{suffix}"]
    assert [measured["expected"] for measured in zero["measured"]] in ([0.0], [0.0, 0.0], [None])


# ------------------------------------------------------------------------------------------------ what it must survive


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


def test_an_engine_that_dies_mid_sweep_leaves_errors_and_what_was_measured(sweep, report, pytester):
    pytester.makepyfile(
        sabotage="""
        import psutil

        def pytest_runtest_logreport(report):
            if report.when == "call":
                for process in psutil.Process().children(recursive=True):
                    if "capvec.engine" in process.cmdline():
                        process.kill()
        """
    )
    result = sweep("-n", "0", "-p", "sabotage")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    outcomes = list(ledger(report).values())
    assert len(outcomes) == 4
    assert outcomes[0]["outcome"] in {"solved", "unsolved"}
    assert [entry["outcome"] for entry in outcomes[1:]] == ["error"] * 3
    assert all("did not answer" in entry["error"] for entry in outcomes[1:])
    assert (report / "summary.json").exists()
    assert no_traceback(result)
    assert no_container_is_left()


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
        "--max-tokens", "4",
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


def test_an_engine_that_runs_already_is_used_and_left_running(sweep, report, given, pytester, monkeypatch):
    from capvec.engine.client import EngineClient
    from capvec.engine.process import start_engine
    from capvec.engine.protocol import TOKEN_VARIABLE, Habits, ModelSource

    log, habits = pytester.path / "own.log", Habits("brief", 3, 7)
    with start_engine(ModelSource(str(given / "tiny"), "mine", habits=habits), log_path=log) as engine:
        monkeypatch.setenv(TOKEN_VARIABLE, engine.token)
        assert sweep("--base-url", engine.url, "-k", "easy").ret == pytest.ExitCode.OK
        with EngineClient(engine.url, engine.token) as client:
            assert client.health().model == "mine"
    provenance = json.loads((report / "provenance.json").read_text())
    assert provenance["model"]["model"] == "mine"
    # The model is asked as it is where a sweep starts the engine itself; what the user said comes first.
    asked = provenance["settings"]
    assert (asked["prompt_style"], asked["max_steps"], asked["max_tokens"]) == ("brief", 2, 6)
