"""Planted directions: contrasts of prompts and not of traces, whose causal effect is known to exist.

The bundled agent was trained to follow a line at the end of its system prompt. The difference that such a line makes to
the residual, where the reply begins, is a direction that must do what the line does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.agent.prompts import opening_messages
from capvec.agent.protocols import get_protocol
from capvec.cache import cache_root
from capvec.directions.activations import Activations, cached_activations
from capvec.directions.capture import capture_all, engine_identity
from capvec.directions.direction import Direction
from capvec.directions.estimate import ambient_norms, mean_difference
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.plan import Settings
from capvec.records import Message, Task
from capvec.run.directions import send_direction
from capvec.run.study import StudyContext


@dataclass(frozen=True)
class Mode:
    """Two lines of a system prompt that the agent was trained to follow."""

    name: str
    positive: str
    negative: str


SKILL = Mode("skill", positive="Operator: expert.", negative="Operator: novice.")
"""Changes how well the agent works."""
FORMAT = Mode("format", positive="Replies: json.", negative="Replies: fenced.")
"""Changes how it words its replies, and nothing else: a JSON reply does not parse, and is then corrected."""

POOLING = "last"
"""An opening waits for a reply, so its last token is the one that the reply is drawn from."""


@dataclass(frozen=True)
class PlantedDirections(StudyDirection):
    """Both planted directions, the skill's as `direction`, with its random controls."""

    format: Direction = field(kw_only=True)
    contrast_tasks: tuple[str, ...] = field(kw_only=True)
    revision: str | None = field(kw_only=True)
    """Of the model that they were captured from."""
    notes: tuple[str, ...] = field(kw_only=True, default=())
    """What else the report has to warn of."""

    def describe(self) -> str:
        return (
            f"Planted: mean difference of the residual at the token that the reply is drawn from, between "
            f"`{SKILL.positive}` and `{SKILL.negative}` at the end of the system prompt, over the instructions of "
            f"{len(self.contrast_tasks)} tasks. The format direction, `{self.format.hash}`, is built in the same way "
            f"from `{FORMAT.positive}` and `{FORMAT.negative}`. No trial has such a line in its prompt."
        )

    def caveats(self) -> list[str]:
        return list(self.notes)

    def provenance(self) -> dict[str, Any]:
        return super().provenance() | {
            "pooling": POOLING,
            "contrast": {mode.name: [mode.positive, mode.negative] for mode in (SKILL, FORMAT)},
            "contrast_tasks": list(self.contrast_tasks),
            "format": {"hash": self.format.hash, "norms": [float(norm) for norm in self.format.norms]},
        }


def plant(
    mode: Mode,
    tasks: Sequence[Task],
    settings: Settings,
    *,
    identity: str,
    capture: Callable[[Sequence[Sequence[Message]]], Activations],
    cache: Path,
) -> Direction:
    """Build a mode's direction: the mean residual under its positive line minus that under its negative one.

    Args:
        mode: the two lines.
        tasks: whose instructions are asked, under both lines.
        settings: protocol and prompt style, as in the trials.
        identity: whatever changes residuals about the engine.
        capture: residuals of openings, where the reply begins.
        cache: folder of captured residuals; created when needed.

    Raises:
        UsageError: no task.
    """
    if not tasks:
        raise UsageError(f"the planted direction {mode.name!r} needs the instruction of at least one task")
    protocol = get_protocol(settings.protocol)
    openings = [
        opening_messages(task.instruction, protocol, settings.prompt_style, line)
        for line in (mode.positive, mode.negative)
        for task in tasks
    ]
    key = f"{identity} {POOLING}"
    residuals = cached_activations(openings, key, lambda: capture(openings), cache).residuals
    return Direction(mean_difference(residuals[: len(tasks)], residuals[len(tasks) :]), ambient_norms(residuals))


def plant_both(
    bench: StudyContext, tasks: Sequence[Task], controls: Callable[[Direction], Sequence[Direction]] = lambda _: ()
) -> PlantedDirections:
    """Build both planted directions, give them and the skill's controls to the engine, and write the run's `vectors/`.

    Args:
        bench: the engine, the agent's settings and the run folder.
        tasks: whose instructions the contrasts are made of.
        controls: makes the matched controls of the skill direction.
    """
    skill, form = (
        plant(
            mode,
            tasks,
            bench.settings,
            identity=engine_identity(bench.health),
            capture=lambda openings: capture_all(openings, bench.client, bench.say, POOLING),
            cache=cache_root() / "activations",
        )
        for mode in (SKILL, FORMAT)
    )
    random = controls(skill)
    for direction in (skill, form, *random):
        send_direction(direction, bench.client)
    vectors = bench.folder / "vectors"
    vectors.mkdir(exist_ok=True)
    skill.save(vectors / "dir.safetensors")
    form.save(vectors / "format.safetensors")
    skill.save(vectors / "dir.pt")
    return PlantedDirections(
        skill,
        f"prompts ending in `{SKILL.positive}` and `{SKILL.negative}`",
        controls={"random": random} if random else {},
        format=form,
        contrast_tasks=tuple(task.name for task in tasks),
        revision=bench.health.revision,
    )
