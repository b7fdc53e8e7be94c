"""What real harnesses measured on served models, judged by `capvec judge`: it says what they themselves say.

Each writes its own files in its own environment (`make clients`), and the receipts of the server are joined to them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import pytest
from support.client_jobs import CLIENTS, HARBOR, STEERED, run_job, served_pair

from capvec.tasks import load_tasks

pytestmark = pytest.mark.integration

MODELS = ("baseline", STEERED)
READERS = """\
import site, sys
site.addsitedir({more!r})  # behind what capvec itself needs: Inspect's library, which reads its logs
from capvec.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served_pair(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def receipts(server, tmp_path):
    """Returns the lines that the server wrote since the test began, as a file of their own."""
    before = len(server.lines()) if server.receipts.exists() else 0

    def since():
        (tmp_path / "receipts.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in server.lines()[before:]))
        return tmp_path / "receipts.jsonl"

    return since


def judge(*given, cwd):
    """The trials that `capvec judge` read, the summary, and the text of the report."""
    packages = next((CLIENTS / "lib").glob("python3*")) / "site-packages" if CLIENTS.exists() else ""
    command = [sys.executable, "-c", READERS.format(more=str(packages)), "judge", *map(str, given), "--out", "judged"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    folder = cwd / "judged"
    trials = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return trials, json.loads((folder / "summary.json").read_text()), (folder / "RESULTS.md").read_text()


def rates(summary):
    return {row["config"]: row["solved"] / row["n"] for row in summary["configs"]}


def check_receipts(report, lines, ids):
    """Every reply of the jobs has a receipt that holds, under the name of its model, and the report says so."""
    held = {line["id"]: line["model"] for line in map(json.loads, lines.read_text().splitlines()) if line["held"]}
    assert {name: set(found) for name, found in ids.items()} == {
        name: {one for one, model in held.items() if model == name} for name in ids
    }
    assert "The server has receipts for every config" in report


def test_inspect_is_judged_as_its_own_metrics_say(server, receipts, tmp_path):
    told = run_job("inspect_judged", server.url, *MODELS, cwd=tmp_path)
    lines = receipts()
    trials, summary, report = judge("logs", "--receipts", lines, cwd=tmp_path)
    found = defaultdict(dict)
    for one in trials:
        found[one["config"]][f"{one['task'].removeprefix('files/')}/{one['attempt']}"] = one["outcome"] == "solved"
    assert found == {name: one["solved"] for name, one in told.items()}
    assert rates(summary) == pytest.approx({name: one["accuracy"] for name, one in told.items()})
    assert {True, False} <= set(told["baseline"]["solved"].values())
    check_receipts(report, lines, {name: one["ids"] for name, one in told.items()})
    replies = Counter()
    for one in trials:
        replies[one["config"]] += one["steps"]
        assert one["no_cmd"] + one["parse_fail"] < one["steps"]  # the last is an answer, or acted
    assert replies == {name: len(one["ids"]) for name, one in told.items()}


def test_lm_evaluation_harness_is_judged_as_its_own_scores_say(server, receipts, tmp_path):
    scores = run_job("lm_eval_judged", server.url, *MODELS, cwd=tmp_path)
    lines = receipts()
    assert Counter(json.loads(line)["model"] for line in lines.read_text().splitlines()) == dict.fromkeys(MODELS, 6)
    _, summary, report = judge("out", "--receipts", lines, cwd=tmp_path)
    assert rates(summary) == pytest.approx(scores)
    assert 0 < scores["baseline"] < 1
    assert "The server has receipts for every config" in report


def test_mini_swe_agent_is_judged_as_swe_bench_itself_reports(server, receipts, tmp_path):
    told = run_job("swe_bench_judged", server.url, *MODELS, cwd=tmp_path)
    lines = receipts()
    arms = [f"{name}={name}/runs" for name in MODELS]
    trials, summary, report = judge(*arms, "--receipts", lines, cwd=tmp_path)
    for place, name in enumerate(MODELS):
        graded = {key: set(told[name]["report"][key]) for key in ("resolved_ids", "unresolved_ids", "empty_patch_ids")}
        found = defaultdict(set)
        for one in trials:
            if one["source"] == place:
                found[one["outcome"]].add(one["task"])
        assert found["solved"] == graded["resolved_ids"]
        assert found["unsolved"] == graded["unresolved_ids"] | graded["empty_patch_ids"]
    assert told["baseline"]["report"]["resolved_ids"]
    check_receipts(report, lines, {name: one["ids"] for name, one in told.items()})
    # Every reply is a step, those too that mini-swe-agent refused, and of these it keeps the complaint alone.
    assert sum(one["steps"] for one in trials) == sum(len(one["ids"]) for one in told.values())
    assert sum(one["parse_fail"] for one in trials) > 0

    # Its reports alone, of the run and of the instances.
    shutil.rmtree(tmp_path / "judged")
    reports = [next((tmp_path / name / "runs").glob(f"{name}.run.json")) for name in MODELS]
    graded, summary, _ = judge(*(f"{name}={file}" for name, file in zip(MODELS, reports, strict=True)), cwd=tmp_path)
    assert [one["outcome"] for one in graded if one["task"] == "files-5"] == ["error"] * 2  # nobody attempted it
    assert rates(summary)["baseline"] == len(told["baseline"]["report"]["resolved_ids"]) / 4


def test_harbor_is_judged_as_its_own_job_says(server, receipts, tmp_path):
    tasks = tmp_path / "tasks"
    for task in load_tasks("sprint").tasks[:2]:
        copied = shutil.copytree(task.path, tasks / task.name) / "task.toml"
        copied.chmod(0o644)
        # Harbor closes a network by a kernel's means that some hosts lack.
        copied.write_text(copied.read_text().replace('network_mode = "no-network"', 'network_mode = "public"'))
    told = run_job("harbor_judged", server.url, str(tasks), *MODELS, cwd=tmp_path, environment=HARBOR)
    lines = receipts()
    trials, _, report = judge("jobs", "--receipts", lines, cwd=tmp_path)
    assert not [one for one in told["trials"] if one["exception"]]
    own = {(one["model"], one["task"]): one["rewards"]["reward"] for one in told["trials"]}
    assert len(own) == 4
    found = {(one["config"], one["task"]): one["reward"] for one in trials}
    assert found == {(model.removeprefix("capvec/"), task): reward for (model, task), reward in own.items()}
    assert {one["steps"] for one in trials} == {3}
    assert all(one["parse_fail"] + one["no_cmd"] <= 3 for one in trials)
    held = {line["id"] for line in map(json.loads, lines.read_text().splitlines()) if line["held"]}
    assert held == set(told["ids"])
    assert "The server has receipts for every config" in report
    assert "change in the format" not in report  # both counts are on record
    assert os.listdir(tmp_path / "jobs")
