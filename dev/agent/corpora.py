"""`python -m dev.agent.corpora --out FOLDER --pocket RUN --other RUN [RUN …]`: selects the bundled traces.

From runs of `capvec collect` it selects the trajectories of the two contrasts of the original study, by a rule that
uses no residual, and records in `PROVENANCE.json` where each came from.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import capvec.models
from capvec.directions.contrast import verdict
from capvec.directions.recipe import ContrastName, Recipe
from capvec.errors import CapvecError, UsageError
from capvec.records import Trace
from capvec.results.run_folder import read_outcomes
from capvec.traces import read_traces

BUNDLED = Path(capvec.models.__file__).parent / "traces"
POSITIVES: Mapping[ContrastName, int] = {"same-model": 12, "cross-model": 8}
NEGATIVES: Mapping[ContrastName, int] = {"same-model": 28, "cross-model": 16}
"""Largest number of traces. The original study had 6 against 20, and 5 against 12."""
RULE = (
    "Trajectories in the order of their runs; of those that the contrast takes, the first of every task, then the "
    "second of every task, and so on, until there are enough; positives from tasks that have negatives before others; "
    "negatives of other models in turn."
)


def select(
    contrast: ContrastName, own: Sequence[Trace], others: Sequence[Sequence[Trace]]
) -> tuple[list[Trace], list[Trace]]:
    """Select positives and negatives for a contrast, by `RULE`.

    Args:
        contrast: `same-model` or `cross-model`.
        own: traces of one model, whose passes are the positives.
        others: traces of other models, one sequence each.
    """
    model = own[0].model
    recipe = Recipe(contrast)
    groups = [[trace for trace in group if verdict(recipe, trace, model) == "negative"] for group in (own, *others)]
    negatives = _in_turn([_in_turn(_by_task(group)) for group in groups])[: NEGATIVES[contrast]]
    failed = {trace.task for trace in negatives}
    passed = [trace for trace in own if verdict(recipe, trace, model) == "positive"]
    positives = [trace for trace in _in_turn(_by_task(passed)) if trace.task in failed]
    positives += [trace for trace in _in_turn(_by_task(passed)) if trace.task not in failed]
    return positives[: POSITIVES[contrast]], negatives


def write(out: Path, pocket: Sequence[Path], others: Sequence[Path]) -> None:
    """Write the traces of both contrasts into `out`, in place of earlier ones.

    Args:
        out: receives a folder for each contrast, and `PROVENANCE.json`.
        pocket: runs of one model, whose passes are the positives.
        others: runs of other models.

    Raises:
        UsageError: a run holds no trajectories, or a class gets no trace.
    """
    runs = {path: _read(path) for path in (*pocket, *others)}
    own = [trace for path in pocket for trace in runs[path]]
    where = {id(trace): path for path, traces in runs.items() for trace in traces}
    provenance: dict[str, Any] = {"rule": RULE, "runs": {_name(path): _describe(path, runs[path]) for path in runs}}
    for contrast in POSITIVES:
        picked = select(contrast, own, [runs[path] for path in others] if contrast == "cross-model" else [])
        if not all(picked):
            raise UsageError(
                f"{contrast}: {len(picked[0])} positive and {len(picked[1])} negative traces; collect more"
            )
        folder = out / contrast
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        listed: dict[str, list[str]] = {"positives": [], "negatives": []}
        for side, traces in zip(listed, picked, strict=True):
            for trace in traces:
                source = where[id(trace)]
                trial = Path(trace.id).name  # the id is run/trial
                name = f"{_name(source)}-{trial}.json"
                shutil.copyfile(source / "trajectories" / f"{trial}.json", folder / name)
                listed[side].append(name)
        provenance[contrast] = listed
    (out / "PROVENANCE.json").write_text(json.dumps(provenance, indent=1) + "\n", encoding="utf-8")


def _read(run: Path) -> list[Trace]:
    traces = list(read_traces(run / "trajectories"))
    if not traces:
        raise UsageError(f"{run}: no trajectories; expected a folder that `capvec collect --out` wrote")
    return traces


def _describe(run: Path, traces: Sequence[Trace]) -> dict[str, Any]:
    counts = Counter(str(outcome.outcome) for outcome in read_outcomes(run))
    return {"model": traces[0].model, "trials": sum(counts.values()), **counts}


def _name(run: Path) -> str:
    return run.resolve().name


def _by_task(traces: Sequence[Trace]) -> list[list[Trace]]:
    groups: dict[str, list[Trace]] = {}
    for trace in traces:
        groups.setdefault(trace.task, []).append(trace)
    return list(groups.values())


def _in_turn(groups: Sequence[Sequence[Trace]]) -> list[Trace]:
    """The first of every group, then the second of every group, and so on."""
    longest = max((len(group) for group in groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m dev.agent.corpora", description=__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=BUNDLED,
        help="folder to write same-model/ and cross-model/ into (default: capvec's own)",
    )
    parser.add_argument(
        "--pocket", type=Path, required=True, nargs="+", metavar="RUN", help="folders of `capvec collect`"
    )
    parser.add_argument(
        "--other",
        type=Path,
        required=True,
        nargs="+",
        metavar="RUN",
        help="folders of `capvec collect` with other models",
    )
    options = parser.parse_args(arguments)
    try:
        write(options.out, options.pocket, options.other)
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    print(f"capvec: written: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
