"""A claim is written, and real sweeps keep to it or depart from it: a real model, real containers, real reports."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from support.real_sweeps import ledger, no_container_is_left
from support.registered import write_signed

from capvec.commands.main import main

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)


@pytest.fixture
def claim(given, pytester):
    """Preregisters the sweep of the fixture `sweep`; options given later win."""

    def write(name, *arguments):
        path = pytester.path / name
        asked = (
            *("--model", given / "tiny", "--direction", given / "dir.safetensors", "--layer", "1", "--alpha", "4"),
            *("--tasks", given / "tasks", "--max-steps", "2", "--max-tokens", "6", "--hypothesis", "It solves more."),
        )
        assert main(["preregister", *map(str, (*asked, *arguments, path))]) == 0
        return path

    return write


def first_paragraph(report):
    return next(line for line in (report / "RESULTS.md").read_text().splitlines() if line.startswith("**Status:**"))


def test_a_sweep_keeps_to_what_its_plan_wrote_and_goes_on_with_no_other_claim(sweep, report, claim, pytester):
    path = pytester.path / "planned.json"
    planned = sweep("--plan", "-n", "2", "--write-preregistration", str(path), "--hypothesis", "It solves more.")
    assert planned.ret == pytest.ExitCode.OK
    known, typed = json.loads(path.read_text()), json.loads(claim("claim.json").read_text())
    planned.stdout.fnmatch_lines([f"capvec: preregistered in {path}: hash {known['hash']}"])
    assert known["model"]["revision"]
    assert known["model"]["engine"] == "transformers"
    # A model's folder and a direction's file leave nothing else to be found.
    found = {name: typed[name] for name in ("written", "hash", "model")}
    assert known | found == typed
    assert known["model"] | {"engine": None} == typed["model"]

    begins = f"({known['hash'][:12]}, written {known['written'][:10]} "
    kept = sweep("-n", "2", "--preregistration", str(path), "--junitxml", "junit.xml")
    assert kept.ret == pytest.ExitCode.OK
    assert no_container_is_left()
    kept.stdout.fnmatch_lines(["Preregistered (*, and the sweep kept to it."])
    assert first_paragraph(report).startswith(f"**Status:** Preregistered {begins}")
    assert f'<p class="status">Preregistered {begins}' in (report / "report.html").read_text()
    suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    (said,) = [one.get("value") for one in suite.find("properties") if one.get("name") == "preregistration"]
    assert said.startswith(f"Preregistered {begins}")
    assert (report / "preregistration.json").read_bytes() == path.read_bytes()
    before = [(report / name).read_bytes() for name in ("RESULTS.md", "report.html", "summary.json")]
    assert main(["report", str(report)]) == 0
    assert [(report / name).read_bytes() for name in ("RESULTS.md", "report.html", "summary.json")] == before

    other = write_signed(pytester.path / "other.json", known | {"hypothesis": "Another."})
    refused = sweep("--resume", "--preregistration", str(other))
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: --preregistration: *began with the one with the hash *"])
    path.write_text(path.read_text().replace('"attempts": 1', '"attempts": 2'))
    refused = sweep("--run", "edited", "--preregistration", str(path))
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: *planned.json: was changed after it was written: *"])
    assert not (report.parent / "edited").exists()


def test_a_sweep_that_departs_runs_and_begins_its_report_with_every_departure(sweep, report, claim):
    path = claim("claim.json", "--attempts", "3", "--gate", "no_harm(0.1)", "--effect", "0.2", "--controls", "random:1")
    result = sweep("-n", "2", "--temperature", "0.1", "-k", "easy", "--preregistration", str(path))
    assert result.ret == pytest.ExitCode.OK
    departures = (
        "configs missing: random1-L1-a4",
        "1 attempt in place of 3",
        "an equivalence margin of 0.15 in place of 0.2",
        "gates dropped: no_harm(0.1)",
        "--temperature 0.1 in place of 0.7",
    )
    result.stdout.fnmatch_lines([f"capvec: departs from the preregistration: {one}" for one in departures])
    points = "; ".join((*departures, "2 of 4 planned trials are on record"))
    assert f" in 6 points: {points}. " in first_paragraph(report)
    assert f" in 6 points: {points}. " in (report / "report.html").read_text()
    summary = json.loads((report / "summary.json").read_text())["preregistration"]
    assert [one["kind"] for one in summary["departures"]] == [
        *("configs", "attempts", "margin", "gates", "settings", "stopping rule")
    ]


def test_a_plan_says_in_what_its_sweep_would_depart(sweep, claim):
    path = claim("claim.json", "--attempts", "3", "--engine", "vllm")
    planned = sweep("--plan", "-n", "2", "--preregistration", str(path))
    assert planned.ret == pytest.ExitCode.OK
    said = [line for line in planned.stdout.lines if line.startswith("capvec: departs")]
    departs = "capvec: departs from the preregistration"
    assert said == [f"{departs}: 1 attempt in place of 3", f"{departs}: the engine transformers in place of vllm"]
    kept = sweep("--plan", "-n", "2", "--preregistration", str(claim("kept.json", "--engine", "transformers")))
    assert kept.ret == pytest.ExitCode.OK
    assert "departs" not in kept.stdout.str()


def test_what_was_written_after_the_first_trial_is_named_as_such(sweep, report, claim):
    assert sweep("-n", "2").ret == pytest.ExitCode.OK
    result = sweep("--resume", "--preregistration", str(claim("late.json")))
    result.stdout.fnmatch_lines(["capvec: preregistered (*, written * UTC)"])
    assert result.ret == pytest.ExitCode.OK
    assert len(ledger(report)) == 4
    said = first_paragraph(report)
    assert " in 1 point: it was written at " in said
    assert ", after the first trial began at " in said
