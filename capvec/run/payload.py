"""What the controller of a study sends to the processes that run its trials. They need no statistics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.engines.protocol import Weights
from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.run.instrument import Patience
from capvec.run.tries import TrialRepeater, repeater
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.hosts import DockerHosts
from capvec.serial import Record


@dataclass(frozen=True)
class WorkerPayload(Record):
    """What the controller sends to each worker. Never written to disk, since it holds the engine's token."""

    plan: Plan
    engine_url: str
    engine_token: str
    finished: tuple[Outcome, ...] = ()
    """Outcomes of earlier sessions that stay (`--resume`)."""
    weights: Weights = ("", None, "")
    """What the engine serves."""
    patience: Patience = field(default_factory=Patience)
    hosts: DockerHosts = field(default_factory=DockerHosts)

    @property
    def sandboxes(self) -> DockerProvider:
        """Where the trials run."""
        return DockerProvider.of(self.plan.settings, hosts=self.hosts)

    def trials(self, client: EngineClient, *, at_a_time: int = 1) -> TrialRepeater:
        """What runs the trials in this process, so many at a time, with a client of the engine."""
        finished = {outcome.id: outcome for outcome in self.finished}
        about: dict[str, Any] = {"weights": self.weights, "patience": self.patience}
        return repeater(self.plan, client, self.sandboxes, **about, finished=finished, ahead=at_a_time)

    def direction(self) -> Direction:
        """Read the study's direction from the run folder."""
        return Direction.read(self.plan.folder / "vectors" / "dir.safetensors")
