"""`capvec collect`: the baseline's traces, to build directions from."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
A `same-model` contrast needs failures of at least 15 steps.
exit code: 1 when a trial ended in an error, or the disk or an outage stopped it

example: capvec collect --model my/model --tasks my/tasks --out traces
"""


def run(options: argparse.Namespace) -> int:
    """1 when a trial ended in an error or did not run."""
    from capvec.plan.options import parse_options  # noqa: PLC0415
    from capvec.report.baseline import write_baseline  # noqa: PLC0415
    from capvec.results.lock import locked_new  # noqa: PLC0415
    from capvec.run.collect import collect  # noqa: PLC0415

    out = Path(options.out)
    asked = parse_options({**options.typed, "command_line": options.command_line}, "collect")
    with locked_new(out, "--out"):
        collection = collect(asked, out=out, jobs=options.jobs)
        plan, outcomes = collection.plan, collection.outcomes
        write_baseline(plan, outcomes)
    solved = sum(outcome.outcome == "solved" for outcome in outcomes)
    errors = sum(outcome.outcome == "error" for outcome in outcomes)
    print(f"{len(outcomes)} traces in {out / 'trajectories'}: {solved} solved, {errors} errors")
    if collection.stop is not None:
        raise collection.stop
    return 1 if errors or len(outcomes) < len(plan.trials) else 0
