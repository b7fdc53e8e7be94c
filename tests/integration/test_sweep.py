"""Whole sweeps through pytest: a small random-weight model, real containers, real reports."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import numpy as np
import pytest
import safetensors.numpy
from support.chat_templates import DEEPSEEK_V3, GEMMA, ONE_TURN
from support.real_sweeps import REWARD, RUN, TRIALS, ledger, no_container_is_left, no_traceback, write_task
from support.tiny_models import CHATML, LAYERS, WIDTH, save_tiny

from capvec.traces import read_traces

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)


def test_a_collection_keeps_traces_outcomes_and_what_made_them(given, tmp_path, capsys):
    from capvec.commands.main import main

    arguments = [
        "--model",
        str(given / "tiny"),
        "--tasks",
        str(given / "tasks"),
        "--max-steps",
        "2",
        "--max-tokens",
        "6",
        "--no-check",
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
    underpowered = "Underpowered for any change in the pass rate: 2 tasks give no p below 0.5, and 0.05 is needed, so *"
    result.stdout.fnmatch_lines(
        [
            f"capvec: {underpowered}Use --plan *",
            *("*config *solved *95 % Wilson*", "*baseline *1/2*", "*steered-L1-a4 *1/2*", underpowered, "*report: *"),
        ]
    )
    assert "**Warning:** Underpowered for any change in the pass rate: 2 tasks" in (report / "RESULTS.md").read_text()
    assert (
        '<p class="warning">Underpowered for any change in the pass rate: 2 tasks'
        in (report / "report.html").read_text()
    )
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
    result.stdout.fnmatch_lines(["*2 trials: *2 kept *"])
    assert set(ledger(report)) == TRIALS
    assert {trial: entry for trial, entry in ledger(report).items() if trial in first} == first
    result = sweep("--resume", "--temperature", "0.1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --resume: * holds another run (settings.* was *"])
    result = sweep("--resume", "--seed", "7")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --resume: * ran with seed *"])


def test_controls_and_gates_work_on_the_same_trials_and_the_run_can_be_published(sweep, report, pytester, given):
    result = sweep(
        "-n", "2", "--controls", "zero,random:1,orthogonal:2,negated,prompt", "--gate", "improves(steered-L1-a4)",
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
            "*against matched controls *random *orthogonal *",
            # One trial each, all solved: nothing is gained, and every control does as well.
            "*steered-L1-a4 *+0.00 *1/1 *1.000 *2/2 *1.000*",
            "*gate met: zero-L1: the baseline's tokens (* replies to identical conversations compared in 1 trials, 0 *",
            "*gate NOT MET: improves(steered-L1-a4)*",
        ]
    )
    outcomes = ledger(report)
    assert {entry["config"] for entry in outcomes.values()} == {
        "baseline", "steered-L1-a4", "zero-L1", "random1-L1-a4", "orthogonal1-L1-a4", "orthogonal2-L1-a4",
        "negated-L1-a4", "prompt",
    }  # fmt: skip
    shifts = {e["config"]: e["measured"][0]["expected"] for e in outcomes.values() if e["measured"]}
    assert shifts["zero-L1"] == 0
    assert shifts["negated-L1-a4"] == pytest.approx(-shifts["steered-L1-a4"])
    for control in ("random1", "orthogonal1", "orthogonal2"):
        assert shifts[f"{control}-L1-a4"] == pytest.approx(shifts["steered-L1-a4"], rel=1e-4)
    summary = json.loads((report / "summary.json").read_text())
    assert {(one["kind"], len(one["controls"])) for one in summary["matched_controls"]} == {
        ("random", 1),
        ("orthogonal", 2),
    }
    assert "## Controls" in (report / "RESULTS.md").read_text()

    from capvec.commands.main import main

    assert main(["export", str(report), "--out", "published", "--license", "mit"]) == 0
    published = [path for path in (pytester.path / "published").rglob("*") if path.is_file()]
    others = [path for path in published if path.parent.name != "plots"]
    assert len(others) == 7  # the card, the write-up, its page, the trials, and the direction three times
    assert len(published) > len(others)
    assert not any(str(given).encode() in path.read_bytes() for path in published)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_with_interim_analyses_a_config_that_changes_nothing_stops_with_its_control_and_the_rest_is_skipped(
    sweep, report, tmp_path, workers
):
    from capvec.commands.main import main

    for number in range(6):
        write_task(tmp_path / "six" / f"easy{number}", REWARD.format(1))
    asked = ("--tasks", str(tmp_path / "six"), "--attempts", "2", "--controls", "zero", "--sequential", "-n", workers)
    result = sweep(*asked, "-rs", "--junitxml", "junit.xml")
    assert result.ret == pytest.ExitCode.OK
    assert no_traceback(result)
    # Every verifier is content, so no task moves. After half of 12 blocks the chance of a rejection is
    # 2Φ(−1.96) = 0.05, and an interval of ±0.34 cannot come to be within ±0.15: a stop for futility, for certain.
    said = " ".join(result.stdout.str().split())
    assert "after 6, 9, 12 of 12 (task, attempt) blocks" in said
    assert "capvec: steered-L1-a4 stops for futility at interim analysis 1 of 3, with 50% of its trials" in said
    assert "capvec: zero-L1 stops: every config that it controls for has stopped" in said
    assert "capvec: baseline stops: every other config has stopped" in said
    assert "so it can be neither improves nor harms" in said

    counts = Counter(entry["config"] for entry in ledger(report).values())
    late = {name: count - 6 for name, count in counts.items()}  # under way elsewhere at the interim analysis
    assert late.keys() == {"baseline", "steered-L1-a4", "zero-L1"}
    assert all(count == 0 if workers == "0" else 0 <= count <= 2 for count in late.values())
    summary = json.loads((report / "summary.json").read_text())
    assert summary["skipped_trials"] == 18 - sum(late.values())
    assert summary["missing_trials"] == []
    assert summary["sequential"]["overrun"] == late
    (test,) = summary["sequential"]["tests"]
    assert [one["decision"] for one in test["analyses"]] == ["futility"]
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
        again.stdout.fnmatch_lines(["capvec: 0 trials: *, 18 kept *, 18 skipped, *"])
        assert ledger(report) == before
        refused = sweep("--tasks", str(tmp_path / "six"), "--attempts", "2", "--controls", "zero", "--resume")
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(["*--sequential was over 36 trials*and is False*"])


def test_a_zero_control_that_says_something_else_is_seen(sweep, pytester):
    # An answer of the zero control is changed on its way to disk: what a steer that leaks would look like.
    pytester.makepyfile(
        sabotage=f"""
        import json, pathlib

        def pytest_runtest_logreport(report):
            if report.when == "call" and "easy-zero" in report.nodeid:
                path = pathlib.Path("reports/{RUN}/trajectories/easy-zero-L1-t1.json")
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


def test_a_template_without_a_system_role_is_swept_and_what_was_done_is_said(sweep, report, given):
    folder = save_tiny(given / "gemma", "llama", chat_template=GEMMA)
    result = sweep("--model", str(folder), "-k", "easy")
    assert result.ret == pytest.ExitCode.OK
    said = "The model's chat template refuses a system prompt: it begins the first user message."
    result.stdout.fnmatch_lines([f"*{said}"])
    assert said in (report / "RESULTS.md").read_text()
    assert {entry["error"] for entry in ledger(report).values()} == {""}
    assert json.loads((report / "provenance.json").read_text())["model"]["template"]["system"] == "refused"


def test_a_model_that_thinks_does_so_when_asked_and_its_thoughts_are_kept(sweep, report, given):
    folder = save_tiny(given / "thinking", "llama", chat_template=DEEPSEEK_V3)
    assert sweep("--model", str(folder), "-k", "easy", "--thinking", "on").ret == pytest.ExitCode.OK
    assert json.loads((report / "provenance.json").read_text())["settings"]["thinking"] == "on"
    assert "Thinking is on (thinking)." in (report / "RESULTS.md").read_text()
    # A thought that the prompt opened and the token limit cut: kept, and no command.
    steps = [
        step
        for path in (report / "trajectories").iterdir()
        for step in json.loads(path.read_text())["steps"]
        if "llm_call_count" in step
    ]
    assert steps
    assert {step["message"] for step in steps} == {""}
    assert any(step.get("reasoning_content") for step in steps)
    assert not any(step.get("tool_calls") for step in steps)


@pytest.mark.parametrize(
    ("template", "arguments", "said"),
    [
        (ONE_TURN, (), "the chat template of * cannot be used: *one turn only; expected one that renders*"),
        (CHATML, ("--thinking", "on"), "--thinking on: the chat template of tiny has no switch for thinking*"),
    ],
)
def test_a_template_that_cannot_do_what_is_asked_ends_the_sweep_before_a_trial(sweep, given, template, arguments, said):
    folder = save_tiny(given / "tiny-again" / "tiny", "llama", chat_template=template)
    result = sweep("--model", str(folder), "-k", "easy", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{said}"])


class NoEngine(BaseHTTPRequestHandler):
    """Answers whatever is asked with lists in lists."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"[" * 200_000)


def test_a_base_url_that_is_no_engine_is_a_usage_error(sweep):
    with HTTPServer(("127.0.0.1", 0), NoEngine) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        result = sweep("--base-url", f"http://127.0.0.1:{server.server_port}", "-k", "easy")
        server.shutdown()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --base-url: http://127.0.0.1:*/health sent no JSON: is this a capvec engine?"])


def test_an_engine_that_runs_already_is_used_and_left_running(sweep, report, given, pytester, monkeypatch):
    from capvec.engines.client import EngineClient
    from capvec.engines.process import start_engine
    from capvec.engines.protocol import TOKEN_VARIABLE, GenerationDefaults, ModelSource

    log, defaults = pytester.path / "own.log", GenerationDefaults("brief", 3, 7)
    with start_engine(ModelSource(str(given / "tiny"), "mine", defaults=defaults), log_path=log) as engine:
        monkeypatch.setenv(TOKEN_VARIABLE, engine.token)
        assert sweep("--base-url", engine.url, "-k", "easy").ret == pytest.ExitCode.OK
        with EngineClient(engine.url, engine.token) as client:
            assert client.health().model == "mine"
    provenance = json.loads((report / "provenance.json").read_text())
    assert provenance["model"]["model"] == "mine"
    # The model is asked as it is where a sweep starts the engine itself; what the user said comes first.
    asked = provenance["settings"]
    assert (asked["prompt_style"], asked["max_steps"], asked["max_tokens"]) == ("brief", 2, 6)
