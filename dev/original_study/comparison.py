"""`python -m dev.original_study.comparison RUN`: compares the original study with a sweep of the bundled agent.

The original study is the one that capvec started from (Qwen3.5-4B capability vector v2, 2026-05-14). It built one
direction from traces of several models (v1) and one from traces of a single model (v2), and swept the strength of v2.
This command rebuilds both directions from the bundled corpora, and checks each finding of the study against them and
the sweep of `RUN`. It writes `SEED.md` and `seed_layers.csv` into the run folder.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from capvec.cache import cache_root
from capvec.directions.build import BuiltDirection, build_direction
from capvec.directions.capture import capture_traces, engine_identity
from capvec.directions.recipe import ContrastName, Recipe
from capvec.engines.process import client_of
from capvec.errors import CapvecError, UsageError
from capvec.models import bundled_traces, resolve_model
from capvec.records import Config
from capvec.report.markdown import block_lines
from capvec.report.section import Row, Strong, Table, left, right
from capvec.results.results import summarise_run
from capvec.results.run_folder import read_run_folder
from capvec.stats.config_summary import ConfigSummary
from capvec.text import number
from capvec.traces import read_traces
from dev.original_study.published import TRADE, change_of, in_short, words_section

V1: ContrastName = "cross-model"
V2: ContrastName = "same-model"
ALPHAS = (2, 4, 6, 8)


@dataclass(frozen=True)
class LayerRow:
    """Both directions at one layer."""

    layer: int
    auc_v1: float
    auc_null_p95_v1: float
    margin_ratio_v1: float
    """Margin over ambient norm, as the original study reports it."""
    margin_ratio_null_p95_v1: float | None
    margin_ratio_noise_v1: float | None
    auc_v2: float
    auc_null_p95_v2: float
    margin_ratio_v2: float
    margin_ratio_null_p95_v2: float | None
    margin_ratio_noise_v2: float | None
    cosine: float
    """Between v1 and v2."""


@dataclass(frozen=True)
class Finding:
    """A finding of the original study, and whether it holds here."""

    statement: str
    study: str
    here: str
    agrees: bool


def layer_rows(v1: BuiltDirection, v2: BuiltDirection) -> tuple[LayerRow, ...]:
    """A row for every layer, in order."""
    ranks = [{row.layer: row for row in built.ranking.rows} for built in (v1, v2)]
    rows = []
    for layer, (one, two) in enumerate(zip(v1.direction.vectors, v2.direction.vectors, strict=True)):
        lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(two))
        cosine = float(one.astype(np.float64) @ two.astype(np.float64)) / lengths if lengths else 0.0
        first, second = ranks[0][layer], ranks[1][layer]
        rows.append(
            LayerRow(
                layer=layer,
                auc_v1=first.auc,
                auc_null_p95_v1=first.auc_null_p95,
                margin_ratio_v1=first.margin_ratio,
                margin_ratio_null_p95_v1=first.margin_ratio_null_p95,
                margin_ratio_noise_v1=first.margin_ratio_noise,
                auc_v2=second.auc,
                auc_null_p95_v2=second.auc_null_p95,
                margin_ratio_v2=second.margin_ratio,
                margin_ratio_null_p95_v2=second.margin_ratio_null_p95,
                margin_ratio_noise_v2=second.margin_ratio_noise,
                cosine=cosine,
            )
        )
    return tuple(rows)


@dataclass(frozen=True)
class Sweep:
    """A finished sweep of the same-model direction at one layer."""

    layer: int
    rows: Mapping[str, ConfigSummary]
    """Config → its statistics: the baseline, `ALPHAS`, and any other strengths."""

    @property
    def alphas(self) -> tuple[float, ...]:
        """Every strength, in ascending order."""
        head = _name(self.layer, 0).removesuffix("0")
        return tuple(sorted(float(name.removeprefix(head)) for name in self.rows if name.startswith(head)))

    def steered(self, alpha: float) -> ConfigSummary:
        """The row of one strength."""
        return self.rows[_name(self.layer, alpha)]


def findings(rows: Sequence[LayerRow], sweep: Sweep) -> tuple[Finding, ...]:
    """Check the original study's findings against the rows of every layer and the sweep."""
    layer, here = sweep.layer, rows[sweep.layer]
    base = sweep.rows[Config.BASELINE]
    steered = {alpha: sweep.steered(alpha) for alpha in sweep.alphas}
    perfect = [sum(row.auc_v1 == 1 for row in rows), sum(row.auc_v2 == 1 for row in rows)]
    rates = [f"{number(row.pass_rate)} at α = {alpha:g}" for alpha, row in steered.items()]
    bails = {
        alpha: f"α = {alpha:g} ({number(row.mean_steps)} steps)"
        for alpha, row in steered.items()
        if _bails_out(row, base)
    }
    four, eight = steered[4], steered[8]
    trade = change_of(four, base)
    return (
        Finding(
            "AUC = 1.000 in sample on the late layers, for both directions",
            "v2: 13 of 32 layers (19 to 31); v1: layer 22",
            f"v1: {perfect[0]}, v2: {perfect[1]} of {len(rows)} layers",
            all(count > 0 for count in perfect),
        ),
        Finding(
            "the same-model direction is cleaner: margin over ambient norm is larger than v1's",
            "0.29 against 0.17 at layer 22, without their nulls; isotropic noise gives √(1/6 + 1/20) = 0.47 and "
            "√(1/5 + 1/12) = 0.53",
            f"{here.margin_ratio_v2:.2f} against {here.margin_ratio_v1:.2f} at layer {layer}; label permutations reach "
            f"{number(here.margin_ratio_null_p95_v2)} and {number(here.margin_ratio_null_p95_v1)}, noise gives "
            f"{number(here.margin_ratio_noise_v2)} and {number(here.margin_ratio_noise_v1)}",
            here.margin_ratio_v2 > here.margin_ratio_v1,
        ),
        Finding(
            "v1 and v2 share a part of their direction (cosine between 0.25 and 0.75)",
            "cosine about 0.5 at layer 22",
            f"{here.cosine:.2f} at layer {layer}",
            0.25 <= here.cosine <= 0.75,
        ),
        Finding(
            "no strength passes more often than the baseline at p < 0.05",
            "no aggregate lift",
            f"pass rate {', '.join(rates)}; baseline {number(base.pass_rate)}",
            not any(_rate(row) > _rate(base) and _p(row) < 0.05 for row in steered.values()),
        ),
        Finding(
            "nor does any pass less often: it is a null result",
            "every Fisher p > 0.5",
            f"the smallest Fisher p is {min(map(_p, steered.values())):.2g}",
            all(_p(row) > 0.5 for row in steered.values()),
        ),
        Finding(
            "α = 4 trades parse_fail for no_cmd: the one falls and the other rises",
            "2.2 → 1.3 and 1.2 → 2.7 per run",
            f"{_change(base.parse_fail_per_run, four.parse_fail_per_run)} and "
            f"{_change(base.no_cmd_per_run, four.no_cmd_per_run)} per run",
            trade is not None and trade.description == TRADE.description,
        ),
        Finding(
            "at α = 8 the agent breaks (fewer passes than the baseline)",
            "task-failing from α = 6 on",
            f"pass rate {_change(base.pass_rate, eight.pass_rate)}",
            _rate(eight) < _rate(base),
        ),
        Finding(
            "at α = 8 it bails out: most trials end because it says that it is done, in fewer steps than the baseline",
            "1.4 steps on average before it says so",
            f"{eight.end_reasons.get('done', 0)} of {eight.n} trials end so; it bails out at "
            + (", ".join(bails.values()) or "no strength"),
            8 in bails,
        ),
    )


def report(rows: Sequence[LayerRow], sweep: Sweep, about: Mapping[str, str]) -> Iterator[str]:
    """The lines of `SEED.md`."""
    found = findings(rows, sweep)
    agreeing = sum(finding.agrees for finding in found)
    yield "# The original study, rebuilt with the bundled agent\n"
    yield (
        f"**Status:** {agreeing} of {len(found)} findings of the original study hold here. By its own counts its "
        f"vector {TRADE.name}; here, at α = 4: {in_short(sweep.steered(4), sweep.rows[Config.BASELINE])}.\n"
    )
    yield from (f"- {name}: {text}" for name, text in about.items())
    yield "\n## Where it agrees\n"
    agreement = ((f.statement, f.study, f.here, "yes" if f.agrees else Strong("no")) for f in found)
    yield from block_lines(Table(left("finding", "in the original study", "here", "agrees"), tuple(agreement)))
    yield from words_section({row.config: row for row in _in_order(sweep)})
    yield "\n## The sweep of the same-model direction\n"
    yield from block_lines(_sweep_table(sweep, rows[sweep.layer].margin_ratio_v2))
    yield "\n## Layer by layer\n"
    yield (
        "Read each AUC and each margin beside the 95 % point of its label-permutation null, in brackets; after it "
        "stands the margin over ambient norm that noise of this spread gives.\n"
    )
    layers = tuple(
        (
            str(row.layer),
            *(f"{row.auc_v1:.3f} ({row.auc_null_p95_v1:.3f})", f"{row.auc_v2:.3f} ({row.auc_null_p95_v2:.3f})"),
            _ratio(row.margin_ratio_v1, row.margin_ratio_null_p95_v1, row.margin_ratio_noise_v1),
            _ratio(row.margin_ratio_v2, row.margin_ratio_null_p95_v2, row.margin_ratio_noise_v2),
            number(row.cosine),
        )
        for row in rows
    )
    columns = right(
        "layer",
        "AUC v1 (null 95 %)",
        "AUC v2 (null 95 %)",
        "margin/ambient v1 (null 95 %; noise)",
        "margin/ambient v2 (null 95 %; noise)",
        "cos(v1, v2)",
    )
    yield from block_lines(Table(columns, layers))


def _ratio(margin_ratio: float, null: float | None, noise: float | None) -> str:
    return f"{number(margin_ratio)} ({number(null)}; {number(noise)})"


def _sweep_table(sweep: Sweep, margin_ratio: float) -> Table:
    """The rows of the sweep. A mean difference is as long as its margin, so the dose is α times margin over ambient."""
    numbers = ("solved", "rate", "parse_fail", "no_cmd", "steps", "dose", "Fisher p")
    lines: list[Row] = []
    for alpha, row in zip((0.0, *sweep.alphas), _in_order(sweep), strict=True):
        lines.append(
            (
                row.config,
                f"{row.solved}/{row.n}",
                *map(number, (row.pass_rate, row.parse_fail_per_run, row.no_cmd_per_run, row.mean_steps)),
                *((f"{alpha * margin_ratio:.2f}", f"{_p(row):.3g}" if row.fisher else "–") if alpha else ("–", "–")),
                ", ".join(f"{reason} {count}" for reason, count in row.end_reasons.items()),
            )
        )
    return Table((*left("config"), *right(*numbers), *left("how the trials ended")), tuple(lines))


def _in_order(sweep: Sweep) -> list[ConfigSummary]:
    """The row of the baseline, then those of the strengths in ascending order."""
    return [sweep.rows[Config.BASELINE], *map(sweep.steered, sweep.alphas)]


def _bails_out(row: ConfigSummary, base: ConfigSummary) -> bool:
    fewer = (row.mean_steps or 0.0) < (base.mean_steps or 0.0)
    return fewer and row.end_reasons.get("done", 0) > row.n / 2


def _name(layer: int, alpha: float) -> str:
    return f"steered-L{layer}-a{alpha:g}"


def _p(row: ConfigSummary) -> float:
    return row.fisher.pvalue if row.fisher else 1.0


def _rate(row: ConfigSummary) -> float:
    return row.pass_rate or 0.0


def _change(base: float | None, other: float | None) -> str:
    return f"{number(base)} → {number(other)}"


def _build(model: str, log: Path) -> tuple[BuiltDirection, BuiltDirection]:
    """Build v1 and v2 from the bundled corpora."""
    source = resolve_model(model)
    with client_of(source, log) as client:
        health = client.health()
        v1, v2 = (
            build_direction(
                read_traces(bundled_traces(contrast)),
                recipe=Recipe(contrast),
                model=health.model,
                identity=engine_identity(health),
                capture=lambda chosen: capture_traces(
                    chosen, client, lambda line: print(f"capvec: {line}", flush=True), "last"
                ),
                cache=cache_root() / "activations",
            )
            for contrast in (V1, V2)
        )
    return v1, v2


def _sweep(run: Path) -> Sweep:
    """Read a run folder.

    Raises:
        UsageError: it holds no sweep with `ALPHAS` at one layer.
    """
    found = read_run_folder(run)
    rows = {row.config: row for row in summarise_run(found.plan, found.outcomes).configs}
    layers = {int(match[1]) for name in rows if (match := re.fullmatch(r"steered-L(\d+)-a[^-]+", name))}
    if len(layers) != 1 or any(_name(layer, alpha) not in rows for layer in layers for alpha in ALPHAS):
        raise UsageError(
            f"{run}: expected a sweep at one layer with --alpha {','.join(map(str, ALPHAS))}; got {list(rows)}"
        )
    return Sweep(layers.pop(), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0, or 2 on an error."""
    parser = argparse.ArgumentParser(prog="python -m dev.original_study.comparison", description=__doc__)
    parser.add_argument(
        "run", type=Path, help="folder of a sweep at one layer with --alpha 2,4,6,8 or more, from same-model traces"
    )
    parser.add_argument("--model", default="pocket", help="model to capture residuals of (default: pocket)")
    options = parser.parse_args(arguments)
    run: Path = options.run
    try:
        sweep = _sweep(run)
        v1, v2 = _build(options.model, run / "engine.log")
    except CapvecError as error:
        print(f"capvec: {error}", file=sys.stderr)
        return 2
    rows = layer_rows(v1, v2)
    about = {
        name: f"{built.contrast.name}, {len(built.contrast.positives)} positive and {len(built.contrast.negatives)} "
        f"negative traces, hash `{built.direction.hash}`"
        for name, built in (("v1", v1), ("v2", v2))
    }
    with (run / "seed_layers.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(LayerRow.__dataclass_fields__), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (run / "SEED.md").write_text("\n".join(report(rows, sweep, about)) + "\n", encoding="utf-8")
    print(f"capvec: written: {run / 'SEED.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
