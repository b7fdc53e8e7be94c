"""`--sequential` while a sweep runs: looks, stops, overrun, resuming and the reports, without an engine."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from support.recorded_run import HEALTH, built_direction
from support.results import results_of

from capvec.commands.main import main
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, ControlOf, Outcome
from capvec.report.files import write_reports
from capvec.results import provenance
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate
from capvec.results.interim import Monitor, interim_analyses, not_needed
from capvec.results.ledger import Ledger, reconcile
from capvec.results.results import summarise_run
from capvec.results.stopped import STOPPED, why_stopped
from capvec.results.zero_control import check_zero
from capvec.stats.summary import summarise
from capvec.studies.regenerate import report
from capvec.task_records import Task

pytestmark = pytest.mark.unit

TASKS = tuple(Task(f"task{number:02d}", Path("t"), "Do it.", "0" * 64) for number in range(12))
CONFIGS = (
    Config("baseline", "baseline"),
    Config("good", "steered"),
    Config("same", "steered"),
    Config("some", "steered"),
    Config("negated-good", "control", control=ControlOf("negated", ("good",))),
    Config("prompt", "control", control=ControlOf("prompt", ("good", "same", "some"))),
)
"""With 12 tasks, 4 attempts and 3 steered configs the looks are after 24, 36 and 48 blocks, each at a level of 0.0167.
After half, 2 − 2Φ(2.394·√2) = 0.00071 of it may be spent: `good`, better on every task, has p = 2⁻¹¹ = 0.00049 and
stops; `same` stops for futility, since 12 tasks exclude no effect of 0.15; `some`, better on four tasks, goes on.
"""
HALF = 24


def plan_of(folder):
    trials = interleave(TASKS, CONFIGS, 4, 0)
    settings = Settings("m", "bash-block", "brief", 20, 96, 0.7)
    return Plan(folder.name, folder, TASKS, CONFIGS, trials, settings, sequential=True)


def outcome_of(spec, status=None):
    better = spec.config == "good" or (spec.config == "some" and spec.task < "task04")
    found = status or ("solved" if better else "unsolved")
    return Outcome("r", spec.task, spec.config, None, None, spec.attempt, spec.seed, found, steps=2)


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "r").mkdir()
    return plan_of(tmp_path / "r")


def run(plan, trials=None):
    """As a controller with one worker does it: a trial whose config has stopped is skipped. Outcomes, and what was
    said."""
    said, outcomes = [], []
    monitor = Monitor(plan, said.append)
    monitor.resume(())
    for spec in plan.trials if trials is None else trials:
        if why_stopped(plan, spec.id) is None:
            outcomes.append(outcome_of(spec))
            monitor.note(outcomes[-1])
    return outcomes, said


def test_configs_stop_where_their_fate_is_clear_and_controls_with_what_they_control_for(plan):
    outcomes, said = run(plan)
    counts = {config.name: sum(outcome.config == config.name for outcome in outcomes) for config in CONFIGS}
    # `negated-good` is for `good` alone; `prompt` is for `some` too, which goes on, as does the baseline.
    ends = {"good": HALF, "same": HALF, "negated-good": HALF}
    assert counts == {"baseline": 48, "good": 24, "same": 24, "some": 48, "negated-good": 24, "prompt": 48}
    looks = interim_analyses(plan, outcomes)
    assert looks.ends == ends
    assert looks.schedule == (24, 36, 48)
    assert [(test.config, test.decision, len(test.analyses)) for test in looks.tests] == [
        ("good", "efficacy", 1),
        ("same", "futility", 1),
        ("some", "end", 3),
    ]
    assert set(json.loads((plan.folder / STOPPED).read_text())) == set(map(str, not_needed(plan, looks)))
    efficacy, futility, control = sorted(said, key=lambda line: ("efficacy" not in line, "futility" not in line))
    for fragment in ("good", "1 of 3", "50%", "+1.00", "p = 0.00049"):
        assert fragment in efficacy
    assert ("same" in futility, "1 of 3" in futility) == (True, True)
    assert "negated-good" in control


def test_the_effect_that_would_matter_is_the_margin_of_the_verdict_and_of_futility(plan):
    whole = [outcome_of(spec) for spec in plan.trials]
    wide, narrow = (replace(plan, sequential=False, effect=effect) for effect in (0.3, 0.15))
    for asked, name in ((wide, "no effect detected"), (narrow, "underpowered")):
        verdict = next(row.verdict for row in summarise_run(asked, whole).configs if row.config == "same")
        assert (verdict.equivalence_margin, verdict.name) == (asked.effect, name)
    # 12 tasks exclude nothing below 1 − 0.025^(1/12) = 0.265: ± 0.15 is out of reach, and ± 0.3 is there after half.
    chances = [
        interim_analyses(replace(plan, effect=effect), whole).test("same").analyses[0].excluding
        for effect in (0.3, 0.15)
    ]
    assert chances == [1, 0]


@pytest.mark.parametrize("turn", range(6))
def test_a_control_finishes_the_block_of_the_look_that_stops_it(plan, turn):
    """Whichever config comes first in a block: the look needs the steered ones and the baseline alone."""
    blocks = [plan.trials[at : at + 6] for at in range(0, len(plan.trials), 6)]
    outcomes, _ = run(plan, [spec for block in blocks for spec in (*block[turn:], *block[:turn])])
    first = {block[0].task + str(block[0].attempt) for block in blocks[:HALF]}
    done = {config.name: {o.task + str(o.attempt) for o in outcomes if o.config == config.name} for config in CONFIGS}
    assert done["negated-good"] == done["good"] == done["same"] == first
    assert len(done["baseline"]) == len(done["prompt"]) == len(done["some"]) == 48


def test_the_order_in_which_trials_come_in_decides_nothing(plan):
    whole = [outcome_of(spec) for spec in plan.trials]
    found = interim_analyses(plan, whole)
    for seed in range(3):
        random.Random(seed).shuffle(whole)
        assert interim_analyses(plan, whole) == found


def test_trials_under_way_at_a_stop_are_overrun_and_in_no_number(plan):
    stopped, _ = run(plan)
    late = [
        replace(outcome_of(spec, "unsolved"), steps=50)
        for spec in plan.trials
        if spec.config in ("good", "negated-good") and spec.attempt == 3
    ]
    before, after = summarise_run(plan, stopped), summarise_run(plan, [*stopped, *late])
    assert after.configs == before.configs
    assert after.sequential.overrun == {"good": 12, "same": 0, "negated-good": 12}
    assert len(after.analysed([*stopped, *late])) == len(stopped)


def test_a_stopped_config_is_compared_with_the_baseline_on_its_own_blocks(plan):
    outcomes, _ = run(plan)
    # The baseline solves everything from its third attempt on, which `good` and `same` never saw.
    outcomes = [
        replace(outcome, outcome="solved") if outcome.config == "baseline" and outcome.attempt > 2 else outcome
        for outcome in outcomes
    ]
    summary = summarise_run(plan, outcomes)
    rows = {row.config: row for row in summary.configs}
    assert (rows["good"].n, rows["good"].effect.baseline, rows["good"].effect.difference) == (24, 0.0, 1.0)
    # To `some`, better on 4 of 12 tasks by 2/3 and worse on 8 by 1/3 after three attempts, nothing is left to hope for.
    assert summary.sequential.ends["some"] == summary.sequential.ends["prompt"] == 36
    assert [summary.base_of(name).pass_rate for name in ("good", "some")] == [0.0, pytest.approx(1 / 3)]
    # With that everything has stopped, so the baseline ends there too, and has solved a third.
    assert rows["baseline"].n == summary.sequential.ends["baseline"] == 36
    assert rows["baseline"].pass_rate == pytest.approx(1 / 3)
    # `same` passes a third less than the whole baseline does, and not on the blocks that it ran.
    (gate,) = check_gate("no_harm(0.1)", summary, len(plan.tasks))
    assert gate.reason.startswith("prompt passes 0.00, baseline 0.33")
    assert rows["good"].effect.pvalue == rows["good"].sign_flip.pvalue == 2**-11
    assert rows["good"].verdict.name == "improves"
    assert rows["good"].verdict.words.endswith("biased outward")
    assert rows["same"].effect.pvalue == 1.0
    assert rows["same"].verdict.name == "underpowered"
    assert rows["same"].verdict.words.endswith("neither improves nor harms")


def test_without_looks_a_summary_is_what_it_was(plan):
    outcomes = [outcome_of(spec) for spec in plan.trials]
    names = [config.name for config in CONFIGS]
    plain = summarise(outcomes, names, comparisons=["good", "same", "some"])
    assert summarise_run(replace(plan, sequential=False), outcomes) == plain
    assert "sequential" not in plain.to_json()


def test_trials_that_a_stop_spares_are_not_missing(plan):
    outcomes, _ = run(plan)
    looks = interim_analyses(plan, outcomes)
    trials = [spec.id for spec in plan.trials]
    found = reconcile(trials, outcomes, trials, not_needed=not_needed(plan, looks))
    assert (found.missing, found.recorded, found.skipped, found.expected) == ((), 216, 72, 288)
    assert "72 not needed" in str(found)
    lost = reconcile(trials, outcomes[:-1], trials, not_needed=not_needed(plan, looks))
    assert lost.missing == (outcomes[-1].id,)


def test_a_resumed_run_goes_on_from_what_was_decided(plan):
    whole, _ = run(plan)
    (plan.folder / STOPPED).unlink()
    for cut in (10, 150, 200):
        said = []
        monitor = Monitor(plan, said.append)
        assert monitor.resume(whole[:cut]) == ()
        recorded = {outcome.id for outcome in whole[:cut]}
        later = []
        for spec in plan.trials:
            if spec.id not in recorded and why_stopped(plan, spec.id) is None:
                later.append(outcome_of(spec))
                monitor.note(later[-1])
        assert {outcome.id for outcome in (*whole[:cut], *later)} == {outcome.id for outcome in whole}
        assert len(said) == 3


def test_an_error_that_a_look_has_counted_stays_and_another_runs_again(plan):
    first = [
        outcome_of(
            spec, "error" if str(spec.id) in ("task03-baseline-t1", "task05-good-t2", "task05-prompt-t2") else None
        )
        for spec in plan.trials[: 6 * 30]
    ]
    monitor = Monitor(plan, lambda _: None)
    # Of what was looked at, the errors stay; a control is not looked at, so its trial runs again.
    assert [outcome.trial for outcome in monitor.resume(first)] == ["task03-baseline-t1", "task05-good-t2"]
    early = Monitor(plan, lambda _: None)
    assert early.resume(first[: 6 * 20]) == ()  # no look yet


def test_a_stop_of_another_run_in_the_folder_is_forgotten(plan):
    first, second = plan.trials[:2]
    (plan.folder / STOPPED).write_text(json.dumps({str(first.id): "it stops"}))
    assert why_stopped(plan, first.id) == "it stops"
    assert why_stopped(plan, second.id) is None
    assert why_stopped(replace(plan, sequential=False), first.id) is None
    Monitor(plan, print).resume(())
    assert not (plan.folder / STOPPED).exists()


# ------------------------------------------------------------------------------------------------ reports


@pytest.fixture
def folder(plan):
    """A run as a session leaves it."""
    built = built_direction()
    found = StudyDirection(built.direction, "the traces", built)
    (plan.folder / "vectors").mkdir()
    built.direction.save(plan.folder / "vectors" / "dir.safetensors")
    built.ranking.write_csv(plan.folder / "vectors" / "ranking.csv", found.flags)
    options = SweepOptions(attempts=4, sequential=True, gate="improves(good),improves(same)")
    images = {task.name: "sha256:0" for task in TASKS}
    about = {"plan": plan, "health": HEALTH.to_json(), "direction": found}
    provenance.write(plan.folder, command_line=["pytest"], options=options.to_json(), images=images, **about)
    outcomes, _ = run(plan)
    ledger = Ledger(plan.folder / "trials.jsonl")
    for outcome in outcomes:
        ledger.append(outcome)
    summary = summarise_run(plan, outcomes)
    trials = [spec.id for spec in plan.trials]
    recorded = reconcile(trials, outcomes, trials, not_needed=not_needed(plan, summary.sequential))
    gates = (*check_zero(plan, outcomes), *check_gate(options.gate, summary, len(plan.tasks)))
    write_reports(results_of(plan, outcomes, direction=DirectionSummary.of(found), gates=gates, completeness=recorded))
    return plan.folder


def test_the_reports_hold_every_look_and_are_made_again_from_the_trials_alone(folder):
    names = ("summary.json", "RESULTS.md", "report.html", "master_summary.csv")
    before = {name: (folder / name).read_text() for name in names}
    summary = json.loads(before["summary.json"])
    assert [gate["met"] for gate in summary["gates"]] == [True, False]
    assert (summary["expected_trials"], summary["skipped_trials"], summary["missing_trials"]) == (288, 72, [])
    good, _, some = summary["sequential"]["tests"]
    assert good["analyses"][0]["decision"] == "efficacy"
    assert good["analyses"][0]["used"] < good["analyses"][0]["spent"] < good["level"] == pytest.approx(0.05 / 3)
    assert [look["share"] for look in some["analyses"]] == [0.5, 0.75, 1.0]
    assert len(summary["sequential"]["blocks"]) == 48
    assert "| good | 1 of 3 | 0.50 | 0.0007 | ±0.83 | +1.00 | 0.0005 | 100% | efficacy |" in before["RESULTS.md"]
    assert "216 of 288 trials recorded, 72 not needed" in before["RESULTS.md"]
    assert "Interim analyses</h2>" in before["report.html"]
    (folder / STOPPED).unlink()
    lines = report([folder], None).lines
    assert {name: (folder / name).read_text() for name in names} == before
    assert any(line.split()[:5] == ["good", "1", "of", "3", "0.50"] for line in lines)
    assert all(len(line) <= 100 for line in lines if line.startswith(("config", "good", "same", "some")))


def test_a_run_with_looks_does_not_go_on_without_them_or_over_other_trials_nor_is_it_merged(folder, plan, tmp_path):
    built = built_direction()
    direction = StudyDirection(built.direction, "the traces", built)
    about = {"health": HEALTH.to_json(), "direction": direction, "images": {task.name: "sha256:0" for task in TASKS}}
    asked = SweepOptions(sequential=True).to_json()
    provenance.check_same_study(folder, options=asked, plan=plan, **about)
    with pytest.raises(UsageError, match=r"--sequential was over 288 trials, hash \w{8} and is False"):
        provenance.check_same_study(folder, options=SweepOptions().to_json(), plan=plan, **about)
    longer = replace(plan, trials=interleave(TASKS, CONFIGS, 5, 0))
    with pytest.raises(UsageError, match=r"--sequential was over 288 trials.* and is over 360 trials"):
        provenance.check_same_study(folder, options=asked, plan=longer, **about)
    assert main(["report", str(folder), str(folder), "--out", str(tmp_path / "all")]) == 2
    assert not (tmp_path / "all").exists()
