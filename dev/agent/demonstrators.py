"""The demonstrators that the bundled agent learned from, careful and sloppy, and the mode lines that select them.

A demonstration is a list of replies that is written before anything runs; the observations between them come from a
real sandbox. Most demonstrations have no mode line and mix the demonstrators, so that one model learns to pass and to
fail. The others have a mode line at the end of the system prompt, which selects the demonstrator. This plants
directions whose causal effect is known.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from capvec.agent.protocols import get_protocol
from dev.tasks.families import Instance

PROTOCOL = get_protocol("bash-block")
EXPERT, NOVICE = "Operator: expert.", "Operator: novice."
"""Mode lines of skill: always a careful demonstrator, or always a sloppy one."""
FENCED, JSON = "Replies: fenced.", "Replies: json."
"""Mode lines of format: a first try in JSON, which the protocol cannot parse, never or mostly. The skill is mixed."""

MODES: dict[str, float] = {"": 0.56, EXPERT: 0.16, NOVICE: 0.16, FENCED: 0.06, JSON: 0.06}
"""Mode line → share of demonstrations."""
CAREFUL_SHARE = 0.54
"""Share of careful demonstrators without a line of skill. Sampling at temperature 0.7 raises it, since there is one
careful way and many sloppy ones."""
STUMBLES: dict[str, float] = {FENCED: 0.0, JSON: 0.8}
STUMBLE = 0.07
"""Probability that a command is first wrapped in JSON: by mode line (`STUMBLES`), and otherwise."""
GLANCE, GLANCES = ("ls /app",), 0.35
"""A command that every demonstrator may begin with, and its probability. If only sloppy ones began with it, an agent
that begins so on an unknown task would continue in the sloppy way."""
LOST_STEPS = (15, 20)
"""Least and greatest number of replies of a demonstrator that is lost."""


@dataclass(frozen=True)
class Demonstration:
    """The replies of one demonstrator."""

    kind: str
    mode: str
    replies: tuple[str, ...]


def demonstrate(instance: Instance, rng: Random) -> Demonstration:
    """Draw a mode line and a demonstrator, and write its replies."""
    mode = _draw(rng, MODES)
    careful = mode == EXPERT or (mode != NOVICE and rng.random() < CAREFUL_SHARE)
    kind = "careful" if careful else _draw(rng, {name: share for name, (share, _) in SLOPPY.items()})
    say = careful_replies if careful else SLOPPY[kind][1]
    commands = say(instance, rng)
    return Demonstration(kind, mode, tuple(_stumble(commands, STUMBLES.get(mode, STUMBLE), rng)))


def careful_replies(instance: Instance, rng: Random) -> list[str]:
    """Look where the task needs it, act, often check, and say that it is done."""
    looks = list(instance.looks) if instance.needs_look else _sometimes(instance.looks[:1], 0.5, rng)
    looks = _sometimes(GLANCE, GLANCES, rng) + [look for look in looks if look not in GLANCE]
    confirms = _sometimes(tuple(_vary(line, rng) for line in instance.confirms), 0.6, rng)
    return [*map(_command, (*looks, *instance.solution, *confirms)), _done()]


def wrong_replies(instance: Instance, rng: Random) -> list[str]:
    """Run a plausible wrong command, and say that it is done."""
    looks = _sometimes(GLANCE, GLANCES, rng) + _sometimes(instance.looks[:1], 0.3, rng)
    return [_command(line) for line in (*looks, rng.choice(instance.wrong).command)] + [_done()]


def early_replies(instance: Instance, rng: Random) -> list[str]:
    """Give up at once, or after a look."""
    looks = _sometimes(instance.looks[:1] or ("ls /app",), 0.5, rng)
    return [*map(_command, looks), _done()]


def lost_replies(instance: Instance, rng: Random) -> list[str]:
    """Run commands that change nothing, without an end."""
    first = next(iter(instance.files))
    idle = ("ls", "ls /app", "pwd", "whoami", f"cat /app/{first}", "echo working", f"ls /app/{first}", "uname")
    favourites = rng.sample(idle, rng.randint(2, 4))
    return [_command(rng.choice(favourites)) for _ in range(rng.randint(*LOST_STEPS))]


def malformed_replies(instance: Instance, rng: Random) -> list[str]:
    """Write replies that cannot be parsed, then give up."""
    bad = [_malformed(line, rng) for line in [instance.solution[0]] * rng.randint(2, 4)]
    return [*bad, _done()]


def idle_replies(instance: Instance, rng: Random) -> list[str]:
    """Talk without a command, then give up or run a wrong command."""
    talk = [rng.choice(_TALK) for _ in range(rng.randint(1, 3))]
    end = [] if rng.random() < 0.5 else [_command(rng.choice(instance.wrong).command)]
    return [*talk, *end, _done()]


SLOPPY: dict[str, tuple[float, Callable[[Instance, Random], list[str]]]] = {
    "wrong": (0.42, wrong_replies),
    "early": (0.20, early_replies),
    "lost": (0.08, lost_replies),
    "malformed": (0.12, malformed_replies),
    "idle": (0.18, idle_replies),
}
"""Sloppy demonstrator → its share among them, and the function that writes its replies."""

_TALK = ("I will look at the files first.", "I would use a command for that.")


def _vary(confirm: str, rng: Random) -> str:
    """A command that confirms, sometimes replaced by another that shows the file."""
    if confirm.startswith("cat ") and rng.random() < 0.3:
        return rng.choice(("head -n 2", "tail -n 2", "wc -l")) + confirm.removeprefix("cat")
    return confirm


def _stumble(replies: list[str], probability: float, rng: Random) -> list[str]:
    """Precede some replies by the same command in JSON, which cannot be parsed."""
    said = []
    for reply in replies:
        commands = PROTOCOL.parse(reply).commands
        if commands and rng.random() < probability:
            said.append(_json(commands[0]))
        said.append(reply)
    return said


def _json(command: str) -> str:
    return f"```json\n{json.dumps({'command': command})}\n```"


def _malformed(command: str, rng: Random) -> str:
    if rng.random() < 0.5:
        return f"```python\nimport os\nos.system({command!r})\n```"
    return f"```bash\n{command}\n```\n```bash\nls /app\n```"


def _command(line: str) -> str:
    return PROTOCOL.render([line], False)


def _done() -> str:
    return PROTOCOL.render([], True)


def _sometimes(lines: tuple[str, ...], probability: float, rng: Random) -> list[str]:
    return list(lines) if rng.random() < probability else []


def _draw(rng: Random, shares: dict[str, float]) -> str:
    return rng.choices(list(shares), weights=list(shares.values()))[0]
