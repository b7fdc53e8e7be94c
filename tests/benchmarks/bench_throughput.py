"""Trials an hour of a sweep with the flagship, simulated from recorded runs and measured speeds.

Nothing is timed here. Steps and prompts of the engines were measured on one H100 (`bench_vllm.py`), those of the
bundled model on two CPU cores; steps, tokens and seconds of trials are of the runs under `reports/`. Three tables: the
simulation against the end-to-end figures of the same H100, against the recorded runs themselves, and its forecast.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from support import REPOSITORY

from capvec.records import Outcome
from capvec.results.run_folder import read_outcomes
from capvec.run.capacity import WORKERS, EngineSpeed, ReplyWork, TrialWork, capacities, recorded_work, simulate
from capvec.run.duration import predict
from capvec.run.probe import END_S, ENOUGH, FEWEST, START_S, Probe, Probed

pytestmark = pytest.mark.bench

REPORTS = REPOSITORY / "reports"
GENERATE = EngineSpeed({1: 0.0543, 8: 0.0617, 32: 0.0538}, 22_618, most_rows=32, reply_s=0.06)
"""The transformers engine with Qwen3.5-4B's shape on one H100."""
VLLM = EngineSpeed({1: 0.004286, 8: 0.004548, 32: 0.005434, 128: 0.00857}, 55_952, most_rows=256, reply_s=0.06)
"""vLLM with one steered layer, on the same card."""
POCKET = EngineSpeed({1: 0.0699, 8: 0.149, 32: 0.366}, 1_100, most_rows=32)
"""The bundled model in the transformers engine on two CPU cores: float32 at 1 and 8 rows, bfloat16 at 32."""
END_TO_END = {"generate": (GENERATE, {1: 18, 8: 126, 32: 497}), "vLLM": (VLLM, {1: 187, 8: 1055, 32: 2912, 128: 4447})}
"""Tokens of replies a second, measured from the first of 512-token prompts to the last of 64-token replies."""
RECORDED = {"pocket": 16, "pocket-seed1": 16, "choice": 16, "calibration": 16, "seed": 8, "example": 8}
"""Run → trials at a time."""
PROBES = 500
"""Drawn from each run."""


def test_throughput(bench):
    sizes = bench.sizes(
        {"cores": 16, "tables": ("end_to_end", "recorded", "probed", "forecast")}, {"tables": ("end_to_end",)}
    )
    tables = {
        "end_to_end": end_to_end,
        "recorded": recorded,
        "probed": probed,
        "forecast": lambda: forecast(sizes.cores),
    }
    for name in sizes.tables:
        for line in tables[name]():
            bench.add(line, table=name, cells=[cell.strip() for cell in line.strip("|").split("|")])
        bench.say("")


def end_to_end() -> Iterator[str]:
    """One prompt and reply a row, all sent at once."""
    yield from ("| engine | rows | measured, tokens/s | simulated | error |", "|---|---|---|---|---|")
    for name, (engine, found) in END_TO_END.items():
        for rows, measured in found.items():
            trial = TrialWork((ReplyWork(512, 64, 0.0),), 0.0)
            simulated = 64 * rows / simulate([trial] * rows, rows, engine, cores=1).seconds
            yield f"| {name} | {rows} | {measured:,} | {simulated:,.0f} | {simulated / measured - 1:+.0%} |"


def recorded() -> Iterator[str]:
    """Whole runs on two cores, which engine and sandboxes shared; then with what the model took in that very run."""
    yield "| run | trials | at a time | recorded | simulated | error | with the run's own speed | error |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, jobs in RECORDED.items():
        outcomes = valid(name)
        took = max(_began(one) + one.wall_s for one in outcomes) - min(map(_began, outcomes))
        found = simulate(recorded_work(outcomes), jobs, POCKET, cores=2)
        own = as_slow_as(outcomes, jobs)
        cells = (f"{one:,.0f} s | {one / took - 1:+.0%}" for one in (found.seconds, own))
        yield f"| `{name}` | {len(outcomes):,} | {jobs} | {took:,.0f} s | {' | '.join(cells)} |"


def probed() -> Iterator[str]:
    """What `--plan` would have said of the time of a recorded run, from probes drawn from its own trials."""
    yield "| run | trials | at a time | recorded | predicted, median | error | 80 % of predictions | ranges with it |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, jobs in RECORDED.items():
        outcomes = valid(name)
        took = max(_began(one) + one.wall_s for one in outcomes) - min(map(_began, outcomes))
        rng = random.Random(0)
        found = [predict(drawn_probe(outcomes, jobs, rng), len(outcomes)) for _ in range(PROBES)]
        whole = [one for one in found if one is not None and one.high is not None]
        middles = sorted(math.sqrt(one.low * one.high) for one in whole)
        low, middle, high = (middles[len(middles) * tenth // 10] for tenth in (1, 5, 9))
        held = sum(one.low <= took <= one.high for one in whole) / len(whole)
        yield (
            f"| `{name}` | {len(outcomes):,} | {jobs} | {took:,.0f} s | {middle:,.0f} s | {middle / took - 1:+.0%} | "
            f"{low:,.0f} to {high:,.0f} s | {held:.0%} |"
        )


def drawn_probe(outcomes: Sequence[Outcome], jobs: int, rng: random.Random) -> Probe:
    """A probe whose trials, as many as `capvec.run.probe` takes, last as long as some of a run, drawn at random."""
    free, trials = [0.0] * jobs, []
    for _ in range(max(FEWEST, jobs, min(2 * jobs, ENOUGH))):
        start = heapq.heappop(free)
        if start > START_S:
            break
        took = rng.choice(outcomes).wall_s
        heapq.heappush(free, start + took)
        trials.append(Probed("trial", min(took, END_S - start), "whole" if start + took <= END_S else "cut"))
    return Probe(tuple(trials), jobs, END_S)


def as_slow_as(outcomes: Sequence[Outcome], jobs: int) -> float:
    """Seconds of a simulated run whose trials wait for the model as long as those of the recorded one did."""
    model_s = sum(one.model_s for one in outcomes) / len(outcomes)
    engine = POCKET
    for _ in range(6):
        found = simulate(recorded_work(outcomes), jobs, engine, cores=2)
        factor = model_s / found.engine_s
        steps = {rows: seconds * factor for rows, seconds in engine.step_s.items()}
        engine = replace(engine, step_s=steps, prompt_tokens_per_s=engine.prompt_tokens_per_s / factor)
    return simulate(recorded_work(outcomes), jobs, engine, cores=2).seconds


def forecast(cores: int) -> Iterator[str]:
    """The flagship's trials an hour."""
    yield from ("| trials | engine | 16 workers | 64 workers | 256 workers |", "|---|---|---|---|---|")
    kinds: dict[str, Callable[[bool], Sequence[TrialWork]]] = {
        "as `calibration` recorded them": lambda reuse: recorded_work(valid("calibration"), reuse=reuse),
        "its steps, 512 + 64 tokens": lambda reuse: [longer(one, reuse) for one in recorded_work(valid("calibration"))],
    }
    for words, trials in kinds.items():
        for name, engine, reuse in (
            ("transformers", GENERATE, True),
            ("vLLM", VLLM, False),
            ("vLLM, prefix cache", VLLM, True),
        ):
            found = capacities(trials(reuse), engine, cores, WORKERS)
            cells = (f"{_rounded(one.per_hour)} ({one.saturated or 'nothing'})" for one in found)
            yield f"| {words} | {name} | {' | '.join(cells)} |"


def valid(run: str) -> list[Outcome]:
    """Trials of a recorded run that are no errors."""
    return [one for one in read_outcomes(REPORTS / run) if one.outcome != "error" and one.steps]


def longer(trial: TrialWork, reuse: bool) -> TrialWork:
    """The same steps with an opening of 512 tokens, replies of 64, and 136 tokens of output after each."""
    whole = [512 + 200 * number for number in range(len(trial.replies))]
    new = [512, *[200] * (len(whole) - 1)] if reuse else whole
    replies = (replace(reply, new_tokens=tokens, tokens=64) for reply, tokens in zip(trial.replies, new, strict=True))
    return replace(trial, replies=tuple(replies))


def _rounded(value: float) -> str:
    """With two digits."""
    return f"{float(f'{value:.2g}'):,.0f}"


def _began(outcome: Outcome) -> float:
    return datetime.fromisoformat(outcome.started).timestamp()
