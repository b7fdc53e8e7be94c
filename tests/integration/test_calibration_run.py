"""The whole way of a calibration: choose, then run, with a small random-weight model in real containers.

This checks the machinery. Random weights follow no mode line, so the verdicts on effects are not met here; that α = 0
says what the baseline says has to hold for any model.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.real_sweeps import REWARD, RUN, ledger, no_container_is_left, no_traceback, write_task
from support.tiny_models import save_tiny

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)

FAMILIES = {"tuned": "trained", "reported": "trained", "held": "held-out"}
"""By name: `reported` is the first of the trained families, so it is the one that is chosen on."""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model and a task of each family, and what was chosen for them."""
    root = tmp_path_factory.mktemp("given")
    save_tiny(root / "tiny", "llama")
    for name, split in FAMILIES.items():
        write_task(root / "tasks" / name, REWARD.format(1))
        (root / "tasks" / name / "task.toml").write_text(
            f'[metadata]\nfamily = "{name}"\nsplit = "{split}"\n[environment]\nnetwork_mode = "no-network"\n'
        )
    command = [
        sys.executable, "-m", "capvec.studies.calibration.select", "--model", str(root / "tiny"), "--tasks",
        str(root / "tasks"), "--layer", "1,2", "--alpha", "0.5", "--format-layer", "2", "--max-steps", "2",
        "--max-tokens", "6", "--run", "choice", "--no-check", "--out", str(root / "selection.json"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    return root, done


@pytest.fixture
def calibration(pytester, given):
    def run(*arguments: str) -> pytest.RunResult:
        root, _ = given
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "calibration", "--run", RUN, "--model",
            str(root / "tiny"), "--selection", str(root / "selection.json"), "--attempts", "1",
            "--controls", "random:1", "--max-steps", "2", "--max-tokens", "6", "--no-check", *arguments,
        )  # fmt: skip

    return run


def test_the_grid_runs_on_the_tune_half_alone_and_is_written_whole(given):
    root, done = given
    # Every verifier is content, so no steer can pass more often: the gates say that this choice will not do.
    assert done.returncode == 1, done.stderr
    assert "gate NOT MET: the selected skill direction raises the pass rate (1.00, baseline 1.00)" in done.stdout
    chosen = json.loads((root / "selection.json").read_text())
    assert (chosen["dev_families"], chosen["contrast_tasks"]) == (["reported"], ["reported"])
    places = [(point["mode"], point["layer"], point["alpha"], point["n"]) for point in chosen["grid"]]
    assert places == [("skill", 1, 0.5, 1), ("skill", 2, 0.5, 1), ("format", 2, 0.5, 1)]
    # All pass alike: the smallest dose is chosen.
    assert chosen["skill"]["dose"] == min(point["dose"] for point in chosen["grid"] if point["mode"] == "skill")
    assert set(ledger(root / "reports" / "choice")) == {
        f"reported-{config}-t1" for config in ("baseline", "skill-L1-a0.5", "skill-L2-a0.5", "format-L2-a0.5")
    }
    assert no_container_is_left("choice")
    options = json.loads((root / "reports" / "choice" / "provenance.json").read_text())["options"]
    assert options["grids"] == {
        "skill": {"layers": [1, 2], "alphas": [0.5]},
        "format": {"layers": [2], "alphas": [0.5]},
    }
    # The defaults of a sweep, which this was not.
    assert not {"alphas", "layers", "recipe", "op"} & set(options)
    assert options["attempts"] == 1


def test_a_calibration_ends_with_five_verdicts_and_resumes(calibration, pytester):
    first = calibration("-k", "tuned")
    assert first.ret == pytest.ExitCode.TESTS_FAILED
    report = pytester.path / "reports" / RUN
    kept = ledger(report)
    assert {entry["task"] for entry in kept.values()} == {"tuned"}

    result = calibration("--resume", "-n", "2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert no_traceback(result)
    assert no_container_is_left()
    outcomes = ledger(report)
    assert len(outcomes) == 2 * 7
    assert {trial: entry for trial, entry in outcomes.items() if trial in kept} == kept
    result.stdout.fnmatch_lines(
        [
            "trained families, test split",
            "*baseline *1/1*",
            "families never trained on",
            "*baseline *1/1*",
            "calibration: *CALIBRATION.md",
            "gate NOT MET: (a) planted-*pass_rate 1.00 → 1.00*too few*held out: *",
            "gate NOT MET: (b) planted-reversed-*",
            "gate met: (c) random controls are not detected (0 of 1 detected at 0.05, *",
            "gate met: (d) *replies to identical conversations compared in 2 trials, 0 differ*",
            "gate NOT MET: (e) format-*",
        ]
    )
    data = json.loads((report / "calibration.json").read_text())
    assert [verdict["met"] for verdict in data["verdicts"]] == [False, False, True, True, False]
    assert sum(comparison["replies"] for comparison in data["zero"]) >= 2
    assert "# Calibration r" in (report / "CALIBRATION.md").read_text()
    assert "## Gates" in (report / "RESULTS.md").read_text()
    provenance = json.loads((report / "provenance.json").read_text())
    assert provenance["study"] == "calibration"
    assert provenance["direction"]["contrast"]["format"] == ["Replies: json.", "Replies: fenced."]
    assert (report / "vectors" / "format.safetensors").exists()
    for entry in outcomes.values():
        if "random" in entry["config"] or entry["config"].startswith("planted-L"):
            (measured,) = entry["measured"]
            assert measured["mean"] == pytest.approx(measured["expected"], rel=1e-2)

    # What the folder holds is enough to say it again, without the file of the selection.
    before = {name: (report / name).read_text() for name in ("CALIBRATION.md", "calibration.json", "RESULTS.md")}
    for name in ("CALIBRATION.md", "calibration.json"):
        (report / name).unlink()
    from capvec.studies.regenerate import regenerate

    regenerate(report)
    assert {name: (report / name).read_text() for name in before} == before

    # Another choice of controls is another study: its outcomes must not be pooled with these.
    changed = calibration("--resume", "--seed", "7")
    assert changed.ret == pytest.ExitCode.USAGE_ERROR
    changed.stderr.fnmatch_lines(["ERROR: --resume: *config random1-*"])
