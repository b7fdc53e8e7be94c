"""`capvec collect`: the baseline's traces, for others to build directions from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from capvec.commands.shared import MODEL_HELP
from capvec.errors import UsageError


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("collect", help="run the baseline and keep its traces, for --traces")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    for option, default, meaning in (
        ("--tasks", "multi", "a set, or a folder of Harbor tasks"),
        ("--attempts", "1", "of each task"),
        ("--model", "pocket", MODEL_HELP),
        ("--seed", "0", "base seed"),
        ("--max-steps", "20", "replies per trial; `same-model` negatives need at least 15"),
        ("--max-tokens", "96", "tokens per reply"),
        ("--temperature", "0.7", "of sampling"),
        ("--protocol", "bash-block", "how replies carry commands"),
    ):
        parser.add_argument(option, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument("--jobs", type=int, default=4, help="trials at a time (default: 4)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """1 when a trial ended in an error."""
    from capvec.plan.options import parse_options  # noqa: PLC0415
    from capvec.report.baseline import write_baseline  # noqa: PLC0415
    from capvec.run.collect import collect  # noqa: PLC0415

    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs}: expected a whole number of at least 1")
    raw = {name: value for name, value in vars(options).items() if name not in {"run", "out", "jobs"}}
    raw |= {"alpha": "1"}
    plan, outcomes = collect(parse_options(raw), out=options.out, jobs=options.jobs)
    write_baseline(plan, outcomes)
    solved = sum(outcome.outcome == "solved" for outcome in outcomes)
    errors = sum(outcome.outcome == "error" for outcome in outcomes)
    print(f"{len(outcomes)} traces in {options.out / 'trajectories'}: {solved} solved, {errors} errors")
    return 1 if errors else 0
