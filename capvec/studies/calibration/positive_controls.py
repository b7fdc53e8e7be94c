"""Positive controls: directions from contrasts of prompts, whose causal effect is known to exist.

The bundled agent was trained to follow a line at the end of its system prompt. The difference that this line makes to
the residual, at the position that the reply is drawn from, is a direction that must have the effect of the line.
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
from capvec.directions.estimate import estimate_direction
from capvec.directions.study_direction import StudyDirection
from capvec.errors import UsageError
from capvec.plan.plan import Settings
from capvec.records import Message
from capvec.run.directions import send_direction
from capvec.run.study import StudyContext
from capvec.storage import make_folder
from capvec.task_records import Task


@dataclass(frozen=True)
class Mode:
    """Two lines of a system prompt that the agent was trained to follow."""

    name: str
    positive: str
    negative: str


SKILL = Mode("skill", positive="Operator: expert.", negative="Operator: novice.")
"""Changes how well the agent works."""
FORMAT = Mode("format", positive="Replies: json.", negative="Replies: fenced.")
"""Changes only the format of its replies: a JSON reply does not parse, and the agent then corrects it."""

POOLING = "last"
"""The reply is drawn from the last token of the opening messages."""


@dataclass(frozen=True)
class PositiveControls(StudyDirection):
    """The skill direction, as `direction` with its random controls, and the format direction."""

    format: Direction = field(kw_only=True)
    contrast_tasks: tuple[str, ...] = field(kw_only=True)
    revision: str | None = field(kw_only=True)
    """Of the model that the directions come from."""
    notes: tuple[str, ...] = field(kw_only=True, default=())
    """Caveats of the report."""

    def describe(self) -> str:
        return (
            f"Positive control: mean difference of the residual at the token that the reply is drawn from, between "
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


def build_positive_control(
    mode: Mode,
    tasks: Sequence[Task],
    settings: Settings,
    *,
    identity: str,
    capture: Callable[[Sequence[Sequence[Message]]], Activations],
    cache: Path,
) -> Direction:
    """Build the direction of a mode: the mean residual under its positive line minus that under its negative line.

    Args:
        mode: the two lines.
        tasks: their instructions are used under both lines.
        settings: protocol and prompt style, as in the trials.
        identity: of the engine; part of the cache key.
        capture: returns the residuals of opening messages at `POOLING`.
        cache: folder of captured residuals; created if needed.

    Raises:
        UsageError: no task.
    """
    if not tasks:
        raise UsageError(f"the {mode.name} direction needs at least one task; got none")
    protocol = get_protocol(settings.protocol)
    openings = [
        opening_messages(task.instruction, protocol, settings.prompt_style, line)
        for line in (mode.positive, mode.negative)
        for task in tasks
    ]
    key = f"{identity} {POOLING}"
    residuals = cached_activations(openings, key, lambda: capture(openings), cache).residuals
    return estimate_direction(residuals, [True] * len(tasks) + [False] * len(tasks))


def build_positive_controls(
    context: StudyContext, tasks: Sequence[Task], controls: Callable[[Direction], Sequence[Direction]] = lambda _: ()
) -> PositiveControls:
    """Build both directions, send them and the skill's controls to the engine, and write `vectors/` of the run."""
    skill, form = (
        build_positive_control(
            mode,
            tasks,
            context.settings,
            identity=engine_identity(context.health),
            capture=lambda openings: capture_all(openings, context.client, context.say, POOLING),
            cache=cache_root() / "activations",
        )
        for mode in (SKILL, FORMAT)
    )
    random = controls(skill)
    for direction in (skill, form, *random):
        send_direction(direction, context.client)
    vectors = context.folder / "vectors"
    make_folder(vectors)
    skill.save(vectors / "dir.safetensors")
    form.save(vectors / "format.safetensors")
    skill.save(vectors / "dir.pt")
    return PositiveControls(
        skill,
        f"prompts ending in `{SKILL.positive}` and `{SKILL.negative}`",
        controls={"random": random} if random else {},
        format=form,
        contrast_tasks=tuple(task.name for task in tasks),
        revision=context.health.revision,
    )
