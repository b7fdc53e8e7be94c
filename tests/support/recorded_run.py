"""A run folder as a session writes it, trials, trajectories and provenance included, without having run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from capvec.directions.activations import Activations
from capvec.directions.build import BuiltDirection, build_direction
from capvec.directions.direction import Direction, random_control
from capvec.directions.recipe import Recipe
from capvec.directions.study_direction import StudyDirection
from capvec.engines.protocol import EngineInfo
from capvec.plan.configs import control_configs, steered_config
from capvec.plan.option_parsers import Shard, parse_controls
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, Episode, Measured, Outcome, Parse, Reply, Step, Trace, TrialSpec
from capvec.report.files import write_reports
from capvec.results import provenance
from capvec.results.departures import compared
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate
from capvec.results.ledger import Ledger, reconcile
from capvec.results.preregistration import PREREGISTRATION
from capvec.results.results import summarise_run
from capvec.results.zero_control import check_zero
from capvec.task_records import Task
from capvec.traces.write import write_trajectory
from support.plans import shard_of
from support.registered import registered_for
from support.results import results_of

HEALTH = EngineInfo("m", "rev", "Arch", 3, 8, 512, "float32", "cpu", "0")
TASKS = tuple(
    Task(
        f"task{number}", Path(f"task{number}"), "Do it.", f"{number}" * 64, metadata={"family": family, "split": split}
    )
    for number, (family, split) in enumerate([("sort", "trained"), ("sort", "trained"), ("copy", "held-out")])
)
Say = Callable[[TrialSpec, int], str]
"""What a trial replies at a step."""


def plain(spec: TrialSpec, step: int) -> str:
    """All say the same at first; then every config says something of its own."""
    return "```bash\nls\n```" if step == 0 else f"{spec.config} says {step}"


def built_direction(cache: Path | None = None) -> BuiltDirection:
    """From five traces of three tasks, with ranking, contrast and audit."""

    def trace(name: str, task: str, reward: float, steps: int) -> Trace:
        said = ({"role": "user", "content": name},)
        return Trace(name, task, "m", said, reward=reward, steps=steps, parse_fail=0, no_cmd=0)

    traces = [
        *(trace(f"p{n}", f"t{n}", 1.0, 4) for n in range(3)),
        *(trace(f"n{n}", f"t{n}", 0.0, 20) for n in range(4)),
    ]

    def capture(chosen: Sequence[Trace]) -> Activations:
        states = np.random.default_rng(0).standard_normal((len(chosen), 3, 8)).astype(np.float32)
        return Activations(states, "last", (9,) * len(chosen), tuple(range(5, 5 + len(chosen))))

    recipe = Recipe(permutations=50)
    return build_direction(traces, recipe=recipe, model="m", identity="m 1", capture=capture, cache=cache)


def plan_for(folder: Path, direction: Direction, attempts: int = 2, seed: int = 0, temperature: float = 0.7) -> Plan:
    """Baseline, two strengths, their reverse, and two random controls of the first."""
    steered = [steered_config(direction, 1, alpha) for alpha in (2.0, 4.0)]
    matched = {"random": [random_control(direction, number) for number in range(2)]}
    controls = control_configs(parse_controls("zero,negated,random:2"), steered, direction, matched)
    configs = (Config("baseline", "baseline"), *steered, *controls)
    settings = Settings("m", "bash-block", "brief", 20, 96, temperature)
    return Plan(folder.name, folder, TASKS, configs, interleave(TASKS, configs, attempts, seed), settings)


def report_texts(folder: Path) -> dict[str, str]:
    """The text of every report in a run folder, by file name."""
    plots = sorted(f"plots/{path.name}" for path in (folder / "plots").iterdir())
    names = ("summary.json", "master_summary.csv", "RESULTS.md", "report.html", *plots)
    return {name: (folder / name).read_text() for name in names}


def write_recorded(
    folder: Path,
    *,
    say: Say = plain,
    keep: Callable[[TrialSpec], bool] = lambda _: True,
    seed: int = 0,
    temperature: float = 0.7,
    finished: bool = True,
    shard: Shard | None = None,
    attempts: int = 2,
    claim: Mapping[str, Any] | None = None,
) -> Plan:
    """Write the folder as a session does.

    Args:
        folder: to make.
        say: what trials reply.
        keep: the trials that were collected, as `-k` chooses them.
        seed: of the run.
        temperature: of its settings.
        finished: whether the session came to write its reports.
        shard: the part of the plan that the session ran.
        attempts: of each (task, config).
        claim: what of its preregistration is not what the whole plan is; None for a run without one.
    """
    built = built_direction()
    found = StudyDirection(built.direction, "the traces", built)
    whole = plan_for(folder, built.direction, attempts, seed, temperature)
    plan = whole if shard is None else shard_of(whole, shard, seed)
    (folder / "vectors").mkdir(parents=True)
    built.direction.save(folder / "vectors" / "dir.safetensors")
    built.ranking.write_csv(folder / "vectors" / "ranking.csv", found.flags)
    options = SweepOptions(tasks="multi", seed=seed, gate="no_harm(0.5)", shard=shard)
    images = {task.name: "sha256:0" for task in TASKS}
    about: dict[str, Any] = {"plan": plan, "health": HEALTH.to_json(), "direction": found}
    if claim is not None:
        about["registered"] = registered_for(whole, options, found, **claim)
        (folder / PREREGISTRATION).write_text(about["registered"].text)
    provenance.write(folder, command_line=["pytest"], options=options.recorded("sweep"), images=images, **about)
    ledger, outcomes = Ledger(folder / "trials.jsonl"), []
    for number, spec in enumerate(whole.trials):
        if spec in plan.trials and keep(spec):
            outcomes.append(write_trial(plan, spec, number, say))
            ledger.append(outcomes[-1])
    if finished:
        summary = summarise_run(plan, outcomes)
        collected = [spec.id for spec in plan.trials if keep(spec)]
        recorded = reconcile(collected, outcomes, collected)
        asked = options.gate if shard is None else None
        gates = (*check_zero(plan, outcomes), *check_gate(asked, summary, len(plan.tasks)))
        direction = DirectionSummary.of(found)
        results = results_of(plan, outcomes, direction=direction, gates=gates, completeness=recorded)
        against = compared(plan, provenance.read(folder), outcomes, None)
        write_reports(replace(results, comparison=against))
    return plan


def write_trial(plan: Plan, spec: TrialSpec, number: int, say: Say = plain) -> Outcome:
    """One trial's trajectory, and its outcome: every third is solved, the fifth is an error of the instrument."""
    config, status = plan.config(spec.config), "solved" if number % 3 == 0 else "unsolved"
    steps = [_step(spec, index, say) for index in range(2 + number % 2)]
    outcome = Outcome(
        run=plan.run, task=spec.task, config=spec.config, layer=config.layer, alpha=config.alpha,
        attempt=spec.attempt, seed=spec.seed, outcome=status, reward=float(status == "solved"), steps=len(steps),
        parse_fail=number % 2, no_cmd=number % 3, end_reason="done", started="2026-11-25T03:45:02.655+00:00",
        measured=tuple(Measured(steer.layer, steer.op, target, target) for steer, target in
                       zip(config.steers, config.targets, strict=True)),
    )  # fmt: skip
    if number == 5:
        outcome = replace(outcome, outcome="error", reward=None, end_reason="error", error="the container went away")
    opening = ({"role": "system", "content": "You act."}, {"role": "user", "content": f"Do {spec.task}."})
    write_trajectory(
        plan.folder / "trajectories" / f"{spec.id}.json",
        spec=spec,
        task=plan.task(spec.task),
        config=config,
        model_name="m",
        protocol="bash-block",
        episodes=[Episode(opening, tuple(steps), "done")],
        outcome=outcome,
    )
    return outcome


def _step(spec: TrialSpec, index: int, say: Say) -> Step:
    text = say(spec, index)
    parse = Parse("strict", ("ls",)) if "ls" in text else Parse("failed", error="No command.")
    return Step(index, Reply(text, "stop", 10, 3, 0.1), parse, observation=f"observed {index}")
