"""The judgement of a calibration, from the outcomes of its session or from its run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.results.gates import GateResult
from capvec.results.results import Judgement
from capvec.results.run_folder import RunFolder
from capvec.results.zero_control import Comparison, compare_with_baseline
from capvec.studies.calibration.configs import Arms, arms_of
from capvec.studies.calibration.selection import Selection
from capvec.studies.calibration.splits import split_tasks
from capvec.studies.calibration.verdicts import Criterion, SplitOutcomes, judge

DATA = "calibration.json"
SELECTED, _EARLIER_SELECTED = "selected", "choice"
"""In `options` of a calibration's `provenance.json`: the content of `selection.json`; its name today and before."""


@dataclass(frozen=True)
class CalibrationJudgement(Judgement):
    """The criteria of a calibration, and the data that they were judged on."""

    selection: Selection = field(kw_only=True)
    arms: Arms = field(kw_only=True)
    measured: SplitOutcomes = field(kw_only=True)
    verdicts: tuple[Criterion, ...] = field(kw_only=True)
    zero: tuple[Comparison, ...] = field(kw_only=True)


def judge_calibration(
    plan: Plan,
    outcomes: Sequence[Outcome],
    selection: Selection,
    randoms: int,
    zero: Sequence[Comparison] | None = None,
) -> CalibrationJudgement:
    """Judge the criteria.

    Args:
        plan: its tasks name their family and split.
        outcomes: on record.
        selection: the layers and strengths, and the data that they were selected on.
        randoms: number of random controls in the plan.
        zero: the comparisons of α = 0 with the baseline; None to compare the trajectories.

    Raises:
        FileNotFoundError: a trajectory is missing.
    """
    arms, splits = arms_of(selection, randoms), split_tasks(plan.tasks, selection.dev_families)
    test, held_out = ({task.name for task in tasks} for tasks in (splits.test, splits.held_out))
    measured = SplitOutcomes(
        test=[outcome for outcome in outcomes if outcome.task in test],
        held_out=[outcome for outcome in outcomes if outcome.task in held_out],
    )
    if zero is None:
        zero = compare_with_baseline(plan, outcomes, arms.zero)
    verdicts = judge(measured, arms, zero)
    gates = tuple(GateResult(f"({v.key}) {v.claim}", v.met, v.reason) for v in verdicts)
    return CalibrationJudgement(
        gates, selection=selection, arms=arms, measured=measured, verdicts=verdicts, zero=tuple(zero)
    )


def judge_again(run: RunFolder, *, same_counts: bool) -> CalibrationJudgement:
    """Judge the calibration in a run folder.

    Args:
        run: of a calibration.
        same_counts: whether its trials are those of its last report. If so, that report's comparison of α = 0 with the
            baseline is used where the trajectories were not kept.

    Raises:
        UsageError: the folder lacks the selection, or trajectories that are needed.
    """
    options, earlier = run.provenance["options"], _earlier(run.folder / DATA)
    selected = options.get(SELECTED) or options.get(_EARLIER_SELECTED)
    if selected is None and earlier is not None:
        selected = earlier.get("selection") or earlier.get("chosen")
    if selected is None:
        raise UsageError(f"neither provenance.json nor {DATA} says which layers and strengths were selected")
    randoms = sum(control["count"] for control in options["controls"] if control["kind"] == "random")
    zero = None
    if same_counts and earlier is not None and not (run.folder / "trajectories").is_dir():
        zero = [Comparison(**comparison) for comparison in earlier["zero"]]
    try:
        return judge_calibration(run.plan, run.outcomes, Selection.from_json(selected), randoms, zero)
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename} is missing, so α = 0 cannot be compared with the baseline") from error


def _earlier(path: Path) -> dict[str, Any] | None:
    data: dict[str, Any] | None = read_json(path) if path.is_file() else None
    return data
