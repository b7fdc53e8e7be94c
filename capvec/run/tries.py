"""Trying trials again that a fault of the instrument ended. A trial that was judged is never tried again.

* Where Docker or the engine is out, the trial waits for it and begins anew: in a fresh container, with a fresh
  conversation, from the same seed. If it does not come back within a limit, the session stops.
* Where the Docker host of the trial is out, and there are others, it begins anew on one of those at once.
* Where this process was suspended, the trial begins anew, however often that is (`capvec.run.suspension`).
* Another error is the trial's own (an image that is missing, a verifier that fails by itself). It is tried again
  at once, `--retries` times.

Each try leaves a `LostTry` in the outcome and its trajectory under `lost/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from capvec.engines.client import EngineClient
from capvec.engines.protocol import Weights
from capvec.errors import ProcessStopped, SandboxUnavailable, StorageFault, fault_of
from capvec.plan.plan import Plan
from capvec.records import InstrumentPart, LostTry, Outcome, TrialId, TrialSpec
from capvec.run.instrument import Instrument, Notice, Patience
from capvec.run.trial import TrialRunner
from capvec.sandbox.base import SandboxProvider
from capvec.storage import make_folder, writing
from capvec.tasks.unchanged import Unchanged

OUTAGES = 3
"""Tries of one trial that outages may take. One that meets more may well be their cause, and is left in its error."""


@dataclass(frozen=True)
class TrialRepeater:
    """Runs trials, and runs them again where the instrument failed."""

    runner: TrialRunner
    instrument: Instrument
    retries: int

    def run(self, spec: TrialSpec, following: TrialSpec | None = None) -> Outcome:
        """Run one trial until it is judged or has no try left.

        Args:
            spec: the trial.
            following: as for `TrialRunner.run`.

        Raises:
            StorageFault: a trajectory cannot be written.
        """
        outcome = self.runner.run(spec, following)
        while spec.id not in self.runner.finished and outcome.outcome == "error":
            absence = self.instrument.absence()
            lost_host = absence is None and self.runner.sandboxes.is_lost(outcome.host)
            if not self._begins_anew(outcome, out=absence is not None or lost_host):
                return outcome
            wait = self.instrument.wait(absence) if absence is not None else None
            if absence is not None and wait is not None and wait.why_not:
                return replace(outcome, away=absence.part, error=f"{outcome.error}; {wait.why_not}")
            lost = LostTry(
                error=outcome.error,
                away="Docker" if lost_host else absence.part if absence is not None else None,
                host=outcome.host,
                waited_s=round(wait.seconds, 3) if wait is not None else 0.0,
                started=outcome.started,
                wall_s=outcome.wall_s,
            )
            outcome = self._again(spec, (*outcome.lost, lost))
        return outcome

    def run_unless_stopped(self, spec: TrialSpec, following: TrialSpec | None = None) -> Outcome | None:
        """As `run`; None where the run stops, and nothing runs, or where the trajectory cannot be written.

        A disk that refuses stops the run: the trial is not on record, and runs again when the run is resumed.
        """
        if self.instrument.notice.reason:
            return None
        try:
            return self.run(spec, following)
        except StorageFault as fault:
            self.instrument.notice.post(str(fault))
            return None

    def _begins_anew(self, outcome: Outcome, *, out: bool) -> bool:
        """Whether a trial has a try left; `out` says that the last one met an outage."""
        outages = sum(lost.away is not None for lost in outcome.lost)
        if out:
            return outages < OUTAGES
        if self.instrument.notice.reason:
            return False
        if outcome.fault == ProcessStopped.fault:
            return True
        suspended = sum(lost.away is None and fault_of(lost.error) == ProcessStopped.fault for lost in outcome.lost)
        return len(outcome.lost) - outages - suspended < self.retries

    def _again(self, spec: TrialSpec, lost: tuple[LostTry, ...]) -> Outcome:
        plan = self.runner.plan
        if (trajectory := plan.trajectory(spec.id)).exists():
            kept = plan.lost_try(spec.id, len(lost))
            make_folder(kept.parent)
            with writing(kept):
                trajectory.replace(kept)
        with suppress(SandboxUnavailable):  # the try finds out, too
            self.runner.sandboxes.clear(run=plan.run, trial=str(spec.id))
        return replace(self.runner.run(spec), lost=lost)


def repeater(
    plan: Plan,
    client: EngineClient,
    sandboxes: SandboxProvider,
    *,
    weights: Weights,
    patience: Patience,
    finished: Mapping[TrialId, Outcome] = MappingProxyType({}),
    ahead: int,
) -> TrialRepeater:
    """Runs the trials of a plan with an engine.

    Args:
        plan: of the run.
        client: of the engine.
        sandboxes: where trials run.
        weights: what the engine must serve after an outage, too.
        patience: how to bear with faults.
        finished: outcomes of earlier sessions, whose trials do not run again.
        ahead: as for `TrialRunner`.
    """
    directions = {steer.direction for config in plan.configs for steer in config.steers}
    checks: Mapping[InstrumentPart, Callable[[], None]] = {
        "Docker": sandboxes.check,
        "engine": partial(client.check, weights, directions),
    }
    instrument = Instrument(checks, patience, Notice(patience.notice))
    runner = TrialRunner(plan, client, sandboxes, finished, ahead, Unchanged().check)
    return TrialRepeater(runner, instrument, patience.retries)
