"""Files of receipts, written by what `capvec serve --receipts` writes them with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from capvec.directions.direction import Direction
from capvec.engines.protocol import EngineInfo
from capvec.engines.published import BASELINE, Answered, Published
from capvec.plan.configs import SteeringMode, control_configs, steered_config
from capvec.plan.option_parsers import parse_controls
from capvec.records import Config, Reply
from capvec.steering import IsolationCheck, Receipt, Steer

DIRECTION = Direction(np.full((4, 4), 1.5, np.float32), np.full(4, 30.0))
"""Vectors of length 3."""
INFO = EngineInfo("m", None, "Llama", 4, 4, 64, "float32", "cpu", "0", "model.layers")
_PROMPT, _DRAWN, _CACHED = 12, 5, 4
"""Tokens of each reply: a pass over the prompt that was not cached, then one for each token fed back."""


def steered(alpha: float = 4.0, layers: int | Sequence[int] = 1, **mode: object) -> Config:
    """A config of the direction."""
    return steered_config(DIRECTION, layers, alpha, mode=SteeringMode(**mode))  # type: ignore[arg-type]


CONTROLS = control_configs(
    parse_controls("zero,random:1,negated,prompt"),
    [steered()],
    DIRECTION,
    {"random": [Direction(-DIRECTION.vectors, DIRECTION.ambient_norm)]},
)
BY_NAME = {config.name: config for config in (BASELINE, steered(), steered(2.0), *CONTROLS)}
"""`baseline`, `steered-L1-a4`, `steered-L1-a2`, `random1-L1-a4` and the other controls."""


def write_served(path: Path, **replies: int) -> Path:
    """A file with so many replies of each config, by its name in `BY_NAME`."""
    return write_lines(path, [BY_NAME[name] for name, count in replies.items() for _ in range(count)])


def write_lines(path: Path, configs: Sequence[Config]) -> Path:
    """A file with a reply of each config, in this order."""
    published = Published(INFO)
    published.publish(tuple({config.name: config for config in configs}.values()))
    published.record(path)
    for number, config in enumerate(configs):
        published.check(config.name, _reply(config), Answered(f"r{number}", 0, 1, 7))
    return path


def _reply(config: Config) -> Reply:
    receipts = tuple(map(_receipt, config.steers, config.targets, config.vectors))
    still = IsolationCheck(_DRAWN, 1, 1, sum(one.steered for one in receipts), 0.0)
    return Reply(
        *("", "stop", _PROMPT, _DRAWN, 0.1),
        receipts=receipts,
        cached_tokens=_CACHED,
        cached_under=config.steers,
        isolation=still,
    )


def _receipt(steer: Steer, target: float | None, vector: str) -> Receipt:
    value, passed = target or 0.0, _PROMPT - _CACHED + _DRAWN - 1
    of_kind = {"all": passed, "prompt": _PROMPT - _CACHED, "generated": _DRAWN - 1, "assistant": _DRAWN - 1}
    return Receipt(
        steer, _DRAWN, _DRAWN, passed, of_kind[steer.positions], f"model.layers.{steer.layer}",
        f"model.layers.{steer.layer + 1}", vector, *[value] * 3, *[value] * 3, 1.0, 1.0, 30.0,
        1e-6, 1e-6, 1e-6, 0.0, 0.5, 1.0, 1.0,
    )  # fmt: skip
