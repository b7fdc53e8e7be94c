"""What a calibration concludes from its trials: the same at the end of its session as from what it left on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.results.gates import GateResult
from capvec.results.results import Judgement
from capvec.results.run_folder import RunFolder
from capvec.results.zero_control import Comparison, compare_with_baseline
from capvec.studies.calibration.configs import Arms, arms_of
from capvec.studies.calibration.selection import Selection
from capvec.studies.calibration.splits import split_tasks
from capvec.studies.calibration.verdicts import Criterion, Measured, judge

DATA = "calibration.json"
CHOICE = "choice"
"""In `options` of a calibration's `provenance.json`: what layer and strength went by, as `chosen.json` holds it."""


@dataclass(frozen=True)
class CalibrationJudgement(Judgement):
    """The verdicts of a calibration, and what they were reached on."""

    chosen: Selection = field(kw_only=True)
    arms: Arms = field(kw_only=True)
    measured: Measured = field(kw_only=True)
    verdicts: tuple[Criterion, ...] = field(kw_only=True)
    zero: tuple[Comparison, ...] = field(kw_only=True)


def judge_calibration(
    plan: Plan, outcomes: Sequence[Outcome], chosen: Selection, randoms: int, zero: Sequence[Comparison] | None = None
) -> CalibrationJudgement:
    """Reach the verdicts.

    Args:
        plan: with tasks that name their family and split.
        outcomes: on record.
        chosen: layers and strengths, and what they were chosen on.
        randoms: random controls in the plan.
        zero: α = 0 against the baseline, reply by reply; None compares the trajectories.

    Raises:
        FileNotFoundError: a trajectory to compare is gone.
    """
    arms, halves = arms_of(chosen, randoms), split_tasks(plan.tasks, chosen.tune_families)
    report, held_out = ({task.name for task in tasks} for tasks in (halves.report, halves.held_out))
    measured = Measured(
        report=[outcome for outcome in outcomes if outcome.task in report],
        held_out=[outcome for outcome in outcomes if outcome.task in held_out],
    )
    if zero is None:
        zero = compare_with_baseline(plan, outcomes, arms.zero)
    verdicts = judge(measured, arms, zero)
    gates = tuple(GateResult(f"({v.key}) {v.claim}", v.met, v.reason) for v in verdicts)
    return CalibrationJudgement(gates, chosen=chosen, arms=arms, measured=measured, verdicts=verdicts, zero=tuple(zero))


def judge_again(run: RunFolder, *, same_counts: bool) -> CalibrationJudgement:
    """From a run folder.

    Args:
        run: a calibration.
        same_counts: whether its trials are those of its last report, whose comparison of α = 0 with the baseline then
            stands where the trajectories were not kept.

    Raises:
        UsageError: the folder does not tell what was chosen, or lacks trajectories that are needed.
    """
    options, earlier = run.provenance["options"], _earlier(run.folder / DATA)
    chosen = options.get(CHOICE) or (earlier or {}).get("chosen")
    if chosen is None:
        raise UsageError(f"neither provenance.json nor {DATA} says which layers and strengths were chosen")
    randoms = sum(control["count"] for control in options["controls"] if control["kind"] == "random")
    zero = None
    if same_counts and earlier is not None and not (run.folder / "trajectories").is_dir():
        zero = [Comparison(**comparison) for comparison in earlier["zero"]]
    try:
        return judge_calibration(run.plan, run.outcomes, Selection.from_json(chosen), randoms, zero)
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename} is gone, which α = 0 was compared by") from error


def _earlier(path: Path) -> dict[str, Any] | None:
    data: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return data
