"""Watches the instrument while trials run: says what does not answer, and starts an engine again that ended.

Workers wait by themselves (`capvec.run.instrument`). The watch is the controller's, and is there for the user.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from capvec.engines.client import EngineClient
from capvec.engines.protocol import EngineState, Weights
from capvec.engines.supervised import SupervisedEngine
from capvec.errors import EngineUnavailable, InfrastructureError
from capvec.records import InstrumentPart
from capvec.run.instrument import NAMES, Notice, Patience
from capvec.sandbox.base import SandboxProvider

LOOK_EVERY_S, TICK_S = 2.0, 1.0
SAID_AFTER_S = 5.0
"""Silence that is worth a word."""
_SILENT = "has not answered"


def _nothing() -> None:
    """Redraws no line."""


@dataclass
class Sight:
    """What is known of one part."""

    part: InstrumentPart
    clock: Callable[[], float] = time.monotonic
    elsewhere: bool = False
    """Whether trials go on without what is out."""
    asked: float | None = None
    """When the question was put that has no answer yet, on the clock; None between questions."""
    since: float | None = None
    """When the trouble began; None while there is none."""
    what: str = _SILENT
    """The trouble, as in `Docker has not answered`."""

    def trouble(self, what: str, since: float) -> None:
        """Note a trouble; one that lasts keeps its beginning."""
        self.what, self.since = what, since if self.since is None else self.since

    @property
    def words(self) -> str:
        """What is wrong, and for how long; empty if nothing is, or it has just begun."""
        since = self.asked if self.since is None else self.since
        if since is None or (lasted := self.clock() - since) < SAID_AFTER_S:
            return ""
        return f"{NAMES[self.part]} {_SILENT if self.since is None else self.what} for {lasted:.0f} s"


Look = Callable[[Sight], None]
"""Looks once, raises an `InfrastructureError` if a part is out, and clears its sight if all is well."""


class EngineLook:
    """Looks at the engine, and after one that ended."""

    def __init__(
        self, client: EngineClient, weights: Weights, notice: Notice, engine: SupervisedEngine | None = None
    ) -> None:
        """Take the engine's client, which sent it its directions.

        Args:
            client: of the engine.
            weights: what it must serve.
            notice: where it is said that it cannot be started again.
            engine: the process; None for the engine at `--base-url`.
        """
        self._client, self._weights, self._notice, self._engine = client, weights, notice, engine
        self._before: EngineState | None = None
        self._moved = 0.0

    def __call__(self, sight: Sight) -> None:
        """Look once.

        Raises:
            InfrastructureError: the engine does not answer, or is not what it was.
        """
        if self._engine is not None and self._engine.ended:
            self._revive(self._engine, sight)
        self._client.check(self._weights)
        state = self._client.state()
        if state is not None:
            self._client.restore_directions(state.directions)
        elif sight.since is not None:  # it does not tell what it holds, and was away
            self._client.restore_directions()
        self._look_for_progress(sight, state)

    def _revive(self, engine: SupervisedEngine, sight: Sight) -> None:
        sight.trouble("ended, and has been starting again", sight.clock())
        try:
            engine.revive()
        except EngineUnavailable as error:
            self._notice.post(str(error))
            raise

    def _look_for_progress(self, sight: Sight, state: EngineState | None) -> None:
        before, self._before, now = self._before, state, sight.clock()
        if state is None or before is None or not state.requests or state.steps != before.steps:
            self._moved, sight.since = now, None
        else:
            sight.trouble("has made no token", self._moved)


class Watch:
    """Looks at Docker and the engine every few seconds, each from a thread of its own."""

    def __init__(self, docker: Look, engine: Look, patience: Patience) -> None:
        """Take what to look at; `start` begins.

        Args:
            docker: looks at Docker.
            engine: looks at the engine.
            patience: of the run.
        """
        self._looks: Mapping[InstrumentPart, Look] = {"Docker": docker, "engine": engine}
        self._patience = patience
        self._sights = {part: Sight(part) for part in self._looks}
        self._said: dict[InstrumentPart, float] = {}
        """What is in trouble according to the log, and since when."""
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._say: Callable[[str], None] = print
        self._redraw: Callable[[], None] = _nothing

    def words(self) -> str:
        """What does not answer now, and for how long; empty if all does."""
        return ", ".join(filter(None, (sight.words for sight in self._sights.values())))

    def start(self, say: Callable[[str], None], redraw: Callable[[], None] = _nothing) -> None:
        """Begin.

        Args:
            say: prints a line; called from another thread.
            redraw: called every second while something does not answer, and once when it does again; likewise.
        """
        self._say, self._redraw = say, redraw
        self._threads = [threading.Thread(target=self._tell, daemon=True)]
        self._threads += [
            threading.Thread(target=self._look_on, args=[one], daemon=True) for one in self._sights.values()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; a look that takes longer is not waited for."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=TICK_S)

    def _look_on(self, sight: Sight) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            asked = sight.asked = sight.clock()
            try:
                self._looks[sight.part](sight)
            except InfrastructureError:
                sight.trouble(_SILENT, asked)
            sight.asked = None

    def _tell(self) -> None:
        while not self._stopped.wait(TICK_S):
            before = bool(self._said)
            for part, sight in self._sights.items():
                self._log(part, sight)
            if before or self._said:
                self._redraw()

    def _log(self, part: InstrumentPart, sight: Sight) -> None:
        words, now = sight.words, sight.clock()
        if words and part not in self._said:
            self._said[part] = now
            limit = self._patience.limit(part)
            waiting = f"trials that need it wait up to {limit:.0f} s for it"
            goes_on = "its trials run on the other hosts" if sight.elsewhere else waiting
            self._say(f"{words}, at {datetime.now():%H:%M:%S}; {goes_on}")
        elif not words and part in self._said:
            lasted = now - self._said.pop(part) + SAID_AFTER_S
            self._say(f"{NAMES[part]} answers again, after {lasted:.0f} s")


def docker_look(sandboxes: SandboxProvider) -> Look:
    """What looks at Docker, on every host."""

    def look(sight: Sight) -> None:
        sandboxes.check()
        asked, silent = sight.clock(), sandboxes.silent()
        sight.elsewhere = bool(silent)
        if silent:
            sight.trouble(f"at {' and '.join(silent)} {_SILENT}", asked)
        else:
            sight.since = None

    return look
