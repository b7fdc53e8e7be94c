"""Configs that any client can ask for as models, and the record of what they answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from capvec.engines.checks import RequestError
from capvec.engines.protocol import EngineInfo
from capvec.errors import SteeringFault
from capvec.receipts import check_finite, check_receipts
from capvec.records import Config, Message, Reply
from capvec.steering import BlockLayout

BASELINE = Config(Config.BASELINE, "baseline")


@dataclass(frozen=True)
class Answered:
    """What a line of the receipts file says of a reply beside its receipts."""

    id: str
    """Of the answer, as its client has it."""
    index: int
    """Of the choice."""
    created: int
    """Seconds since 1970, as in the answer."""
    seed: int


class Published:
    """The configs of an engine by their names, which clients use as names of models."""

    def __init__(self, info: EngineInfo) -> None:
        """Until others are published, there is the baseline, under its name and the model's."""
        self._layout: BlockLayout = info.layout
        self._configs: Mapping[str, Config] = {info.model: BASELINE, BASELINE.name: BASELINE}
        self._chosen = False
        self._file: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(self._configs)

    def record(self, path: Path) -> None:
        """From now on, append a line of JSON to a file for each reply."""
        self._file = path

    def publish(self, configs: Sequence[Config]) -> None:
        """Offer these configs in place of the baseline alone.

        Raises:
            RequestError: two have one name, or others were published before.
        """
        named = {config.name: config for config in configs}
        if not configs or len(named) < len(configs):
            raise RequestError("configs: expected at least one, each with a name of its own", "invalid_value")
        if self._chosen and named != self._configs:
            raise RequestError(
                "this engine publishes other configs, and a name keeps its meaning; start another engine",
                "conflict",
                409,
            )
        self._configs, self._chosen = named, True

    def config(self, name: str) -> Config:
        """The config that is published under a name.

        Raises:
            RequestError: there is none.
        """
        if name not in self._configs:
            raise RequestError(
                f"no model {name[:80]!r}; this engine serves {', '.join(self._configs)}", "model_not_found", 404
            )
        return self._configs[name]

    def check_asked(self, name: str | None, *, own: bool) -> None:
        """Refuse a request that says in no way how to steer, once configs are published: no receipt would tell of it.

        Args:
            name: of the config that is asked for.
            own: whether the client gives the steers itself.

        Raises:
            RequestError: it is neither.
        """
        if self._chosen and name is None and not own:
            raise RequestError(f"model: it is missing; expected one of {', '.join(self._configs)}", "invalid_value")

    def check(self, name: str, reply: Reply, answered: Answered) -> None:
        """Check that a reply was steered as the config of its name says, and record it, whether it was or not.

        Raises:
            SteeringFault: it was not.
        """
        config = self._configs[name]
        try:
            check_finite(reply.receipts, reply.isolation)
            check_receipts(reply, config, self._layout)
        except SteeringFault as fault:
            self._record(name, config, reply, answered, str(fault))
            raise
        self._record(name, config, reply, answered, "")

    def _record(self, name: str, config: Config, reply: Reply, answered: Answered, fault: str) -> None:
        if self._file is None:
            return
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "id": answered.id,
            "choice": answered.index,
            "created": answered.created,
            "model": name,
            "held": not fault,
            "fault": fault,
            "seed": answered.seed,
            "config": config.to_json(),
            "layout": self._layout.to_json(),
            "receipts": [receipt.to_json() for receipt in reply.receipts],
            "isolation": reply.isolation.to_json() if reply.isolation is not None else None,
            "cached_under": [steer.to_json() for steer in reply.cached_under],
            "finish_reason": reply.finish_reason,
            "usage": {
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
                "cached_tokens": reply.cached_tokens,
            },
        }
        finite = json.loads(json.dumps(line), parse_constant=lambda _: None)  # what overflowed is null
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")


def with_suffix(messages: Sequence[Message], suffix: str) -> tuple[Message, ...]:
    """A conversation under the config's addition to the system prompt, which is put first where there is none."""
    if not suffix:
        return tuple(messages)
    if messages[0]["role"] != "system":
        return ({"role": "system", "content": suffix}, *messages)
    first = messages[0]
    return (dict(first) | {"content": f"{first['content']} {suffix}"}, *messages[1:])
