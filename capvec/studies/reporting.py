"""Write the reports of a run from its `Results`: the common ones, and those of its study."""

from __future__ import annotations

from collections.abc import Sequence

from capvec.report import closing_lines, sweep_lines, write_reports
from capvec.results.results import Results
from capvec.studies.calibration.judge import CalibrationJudgement
from capvec.studies.calibration.report import calibration_lines, write_calibration


def write_all(results: Results, notes: Sequence[str] = ()) -> tuple[str, ...]:
    """Write every report of a run into its folder.

    Returns:
        What the terminal shows at the end.
    """
    report, trials = write_reports(results)
    judgement = results.judgement
    if isinstance(judgement, CalibrationJudgement):
        write_calibration(results.plan, judgement)
        lines = calibration_lines(results.plan, judgement)
    else:
        lines = sweep_lines(report)
    # Results that were made elsewhere never had a trajectory here.
    lost = () if results.origin is not None else trials.lost_in_words(results.plan.folder / "trajectories")
    return closing_lines(results, (*lines, *notes, *lost))
