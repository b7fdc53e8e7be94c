"""A sweep of the bundled model asks a battery under every config, and says what the vector costs off task."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest
import safetensors.numpy
from support.real_sweeps import RUN, no_container_is_left

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)
ITEMS = [
    *(
        {"id": f"letter{n}", "question": f"Say {'AB'[n % 2]}.", "choices": ["one", "two"], "answer": n % 2}
        for n in range(6)
    ),
    *(
        {"id": f"text{n}", "question": "Say it.", "choices": ["one thing", "ein 2. Ding"], "answer": n, "by": "text"}
        for n in range(2)
    ),
    *({"id": f"short{n}", "question": f"What is {n} + 1?", "answers": [str(n + 1)]} for n in range(2)),
]


@pytest.fixture
def run(pytester, given, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((30, 576)).astype(np.float32)
    safetensors.numpy.save_file(
        {"directions": vectors, "ambient_norm": np.full(30, 300, np.float32)}, tmp_path / "dir.safetensors"
    )
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))

    def sweep(*more):
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", RUN, "--no-check",
            "--direction", str(tmp_path / "dir.safetensors"), "--layer", "20", "--alpha", "1",
            "--tasks", str(given / "tasks" / "easy"), "--max-steps", "1", "--max-tokens", "12", "--controls", "zero",
            "--battery", str(tmp_path / "items.jsonl"), *more,
        )  # fmt: skip

    return sweep


def lines(report):
    return [json.loads(line) for line in (report / "battery.jsonl").read_text().splitlines()]


def test_a_battery_is_asked_under_every_config_resumed_and_reported(run, pytester):
    from capvec.commands.main import main

    result = run("-n", "2", "--junitxml", "junit.xml")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    assert no_container_is_left()
    result.stdout.fnmatch_lines(["capvec: battery: 30 answers to 10 items"])
    report = pytester.path / "reports" / RUN
    found = lines(report)
    assert Counter(one["config"] for one in found) == {"baseline": 10, "steered-L20-a1": 10, "zero-L20": 10}
    assert not any(one["error"] for one in found)
    assert {one["reply"] for one in found if one["item"].startswith("letter")} <= {"A", "B"}
    by_text = {one["config"]: one["reply"] for one in found if one["item"] == "text0"}
    assert set(by_text.values()) <= {"one thing", "ein 2. Ding"}
    assert [one["right"] for one in found if one["item"].startswith("text") and one["config"] == "baseline"].count(
        True
    ) == 1  # the two items differ in what is right alone
    by_config = {
        name: {one["item"]: one["reply"] for one in found if one["config"] == name} for name in ("baseline", "zero-L20")
    }
    assert by_config["baseline"] == by_config["zero-L20"]  # α = 0 answers as the baseline does
    text = (report / "RESULTS.md").read_text()
    assert "## Off-task cost" in text
    costs = {one["config"]: one for one in json.loads((report / "summary.json").read_text())["battery"]}
    assert costs["zero-L20"]["difference"] == 0
    assert costs["steered-L20-a1"]["holm"] == costs["steered-L20-a1"]["pvalue"]

    suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    told = {one.get("name"): one.get("value") for one in suite.find("properties")}
    assert {name.removeprefix("battery "): json.loads(value) for name, value in told.items()} == costs

    # What was not answered is asked again, and nothing else.
    kept = [json.dumps(one) + "\n" for one in found[:-3]]
    (report / "battery.jsonl").write_text("".join(kept))
    result = run("--resume")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.stdout.fnmatch_lines(["capvec: battery: 3 answers to 10 items"])
    assert sorted(lines(report), key=str) == sorted(found, key=str)

    written = (report / "RESULTS.md").read_bytes()
    assert main(["report", str(report)]) == 0
    assert (report / "RESULTS.md").read_bytes() == written


def test_a_plan_says_how_long_the_battery_takes_and_keeps_no_answer(run, pytester):
    result = run("--plan")
    assert result.ret == pytest.ExitCode.OK, result.stdout.str()
    result.stdout.fnmatch_lines(["battery: 30 answers after the trials in about * s, as a few were timed now; *"])
    assert not (pytester.path / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--battery-limit", "0"), "--battery-limit '0': expected *"),
        (("--shard", "1/1"), "--battery and --shard were both given: *"),
    ],
)
def test_what_a_battery_cannot_do_is_refused(run, arguments, says):
    result = run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{says}"])
