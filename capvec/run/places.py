"""Where trials happen: the place of each is made ready while others run, and cleared away behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from capvec.plan.plan import Plan
from capvec.records import TrialId, TrialSpec
from capvec.sandbox.ahead import Ahead
from capvec.sandbox.base import Sandbox, SandboxProvider


class Place:
    """The place of one trial."""

    def __init__(
        self, sandboxes: SandboxProvider, opening: AbstractContextManager[Sandbox], *, closed_behind: bool
    ) -> None:
        """Take what makes sandboxes on its host, and the trial's own, which is not open yet.

        Args:
            sandboxes: makes sandboxes on its host.
            opening: the trial's own, which is not open yet.
            closed_behind: whether the trial does not wait for the end of its sandbox.
        """
        self.sandboxes = sandboxes
        self._opening, self._stack, self._closed_behind = opening, ExitStack(), closed_behind
        self._sandbox: Sandbox | None = None

    def make_ready(self) -> Sandbox:
        """Open the trial's sandbox, if it is not."""
        if self._sandbox is None:
            self._sandbox = self._stack.enter_context(self._opening)
        return self._sandbox

    @contextmanager
    def sandbox(self) -> Iterator[Sandbox]:
        """The trial's sandbox. After a fault it is closed at once, and otherwise it may be closed with the place."""
        sandbox = self.make_ready()
        with self._stack.pop_all() as stack:
            yield sandbox
            if self._closed_behind:
                sandbox.check()
                self._stack = stack.pop_all()

    def check(self) -> None:
        """Make sure that what is open is still there. Raises as `Sandbox.check`."""
        if self._sandbox is not None:
            self._sandbox.check()

    def close(self) -> None:
        """Close the sandbox."""
        self._stack.close()


class Places:
    """The places of a run's trials."""

    def __init__(self, sandboxes: SandboxProvider, plan: Plan, ahead: int) -> None:
        """Let so many be made ready before their turn, and as many be cleared away after it."""
        self._sandboxes, self._plan, self._closed_behind = sandboxes, plan, ahead > 0
        self._known = dict[str, bool]()
        """Task → whether its sandbox idles."""
        self._ahead: Ahead[TrialId, Place] = Ahead(ahead)

    def expect(self, spec: TrialSpec) -> None:
        """Begin to make the place of a trial ready, if no program of its task runs there before its agent acts."""
        self._ahead.expect(spec.id, partial(self._ready, spec), only_if=partial(self._idles, spec.task))

    def place(self, spec: TrialSpec) -> AbstractContextManager[Place]:
        """The place of a trial, until the context ends.

        Raises:
            SandboxUnavailable: no host answers.
        """
        return self._ahead.open(spec.id, partial(self._new, spec))

    def close(self) -> None:
        """Clear away what waits, and wait until nothing is left."""
        self._ahead.close()

    @contextmanager
    def _new(self, spec: TrialSpec) -> Iterator[Place]:
        with self._sandboxes.place() as own, ExitStack() as cleanup:
            opening = own.open(self._plan.task(spec.task), run=self._plan.run, trial=str(spec.id))
            place = Place(own, opening, closed_behind=self._closed_behind)
            cleanup.callback(place.close)
            yield place

    @contextmanager
    def _ready(self, spec: TrialSpec) -> Iterator[Place]:
        with self._new(spec) as place:
            place.make_ready()
            yield place

    def _idles(self, task: str) -> bool:
        if task not in self._known:
            self._known[task] = self._sandboxes.idles(self._plan.task(task))
        return self._known[task]
