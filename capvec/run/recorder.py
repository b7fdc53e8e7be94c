"""The outcomes of a session: which trials were collected, which ran, and what is on record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from itertools import chain, repeat

from capvec.errors import SandboxUnavailable, StorageFault, UsageError
from capvec.plan.plan import Plan
from capvec.records import Outcome, TrialId
from capvec.results.interim import Monitor
from capvec.results.ledger import Completeness, Ledger, check_receipts, reconcile
from capvec.run.progress import Tally
from capvec.run.status_line import progress_on_stdout
from capvec.run.trial import error_outcome
from capvec.run.tries import TrialRepeater
from capvec.run.watch import Watch
from capvec.signals import finishing
from capvec.text import printable


class TrialRecorder:
    """Writes outcomes to the ledger as they arrive, and knows what is still to come."""

    def __init__(self, plan: Plan, ledger: Ledger, say: Callable[[str], None]) -> None:
        """Read what earlier sessions of the run recorded.

        Raises:
            UsageError: an earlier session ran a trial with another seed, or one has no receipts.
        """
        self.plan = plan
        self.monitor = Monitor(plan, say) if plan.sequential else None
        self._ledger = ledger
        self._expected: dict[TrialId, None] = {}
        self._recorded: dict[TrialId, Outcome] = {}
        self._ran: set[TrialId] = set()
        self.finished = self._resume()
        """The outcomes of earlier sessions that stay: the valid ones, and errors that an interim analysis counted."""

    def _resume(self) -> tuple[Outcome, ...]:
        self._ledger.mend()
        seeds = {trial.id: trial.seed for trial in self.plan.trials}
        outcomes = [outcome for outcome in self._ledger.read() if outcome.id in seeds]
        for outcome in outcomes:
            if outcome.seed != seeds[outcome.id]:
                raise UsageError(
                    f"--resume: {outcome.id} ran with seed {outcome.seed}; this {self.plan.study} would run it with "
                    f"{seeds[outcome.id]}. Use the --seed of the earlier session"
                )
        check_receipts(self._ledger.path, self.plan.configs, outcomes)
        self._recorded = {outcome.id: outcome for outcome in outcomes}
        counted = self.monitor.resume(outcomes) if self.monitor is not None else ()
        self._ran |= {outcome.id for outcome in counted}
        return tuple(outcome for outcome in outcomes if outcome.outcome != "error" or outcome in counted)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All on record, in the plan's order."""
        return tuple(self._recorded[trial.id] for trial in self.plan.trials if trial.id in self._recorded)

    @property
    def kept(self) -> frozenset[TrialId]:
        """The trials of `finished`."""
        return frozenset(outcome.id for outcome in self.finished)

    @property
    def unrecorded(self) -> tuple[TrialId, ...]:
        """Trials with a trajectory and no outcome: a session was killed between the two, or the ledger lost lines."""
        known = self._recorded
        return tuple(
            spec.id for spec in self.plan.trials if spec.id not in known and self.plan.trajectory(spec.id).exists()
        )

    @property
    def skipped(self) -> frozenset[TrialId]:
        """The trials that an interim analysis made unnecessary."""
        return self.monitor.skipped if self.monitor is not None else frozenset()

    def expect(self, trials: Iterable[TrialId]) -> None:
        """Note which trials were collected; each of them must leave a record."""
        self._expected |= dict.fromkeys(trials)

    def record(self, outcome: Outcome) -> None:
        """Write an outcome to disk; one of `finished` is there already.

        Raises:
            StorageFault: the disk refuses; the trial counts as not run, and the message says what it came to.
        """
        if outcome in self.finished:
            return
        try:
            self._ledger.append(outcome)
        except StorageFault as fault:
            raise StorageFault(f"{fault} ({outcome.trial}, which was {outcome.outcome}, is not on record)") from fault
        self._recorded[outcome.id] = outcome
        self._ran.add(outcome.id)
        if self.monitor is not None:
            self.monitor.note(outcome)

    def record_crash(self, trial: TrialId, detail: str) -> None:
        """Record an `error` for a trial whose test failed without an outcome, because its worker died, say."""
        if trial not in self._ran | self.kept:
            reason = detail.strip().splitlines()[-1] if detail.strip() else "the test ended without an outcome"
            spec = next(spec for spec in self.plan.trials if spec.id == trial)
            outcome = error_outcome(self.plan.run, spec, self.plan.config(trial.config), reason)
            self.record(replace(outcome, session=self.plan.session))

    def tally(self) -> Tally:
        """The counts of this session so far; outcomes of earlier sessions and skipped trials are not among them."""
        left = self._expected.keys() - self._ran - self.kept - self.skipped
        return Tally.of((self._recorded[trial].outcome for trial in self._ran - self.kept), len(left))

    def completeness(self, not_needed: Iterable[TrialId], *, interrupted: bool, stopped: str = "") -> Completeness:
        """The collected trials compared with those on record, as `reconcile` does."""
        recorded = self._recorded.values()
        skipped = frozenset(not_needed)
        return reconcile(
            self._expected, recorded, self._ran, interrupted=interrupted, not_needed=skipped, stopped=stopped
        )


def run_trials(trials: TrialRepeater, recorder: TrialRecorder, jobs: int, watch: Watch) -> None:
    """Run every trial of the plan in this process and record its outcome; prints the progress.

    Where the instrument does not come back, or the disk is full, the trials that have not begun are left out.
    """
    specs = recorder.plan.trials
    recorder.expect(spec.id for spec in specs)
    pool = ThreadPoolExecutor(jobs)
    with progress_on_stdout(at_a_time=jobs, trouble=watch.words) as progress:
        progress.update(recorder.tally())
        watch.start(progress.say, progress.redraw)
        try:
            following = chain(specs[jobs:], repeat(None))
            running = [pool.submit(trials.run_unless_stopped, *both) for both in zip(specs, following, strict=False)]
            for done in as_completed(running):
                if (outcome := done.result()) is None:
                    continue
                with finishing():
                    recorder.record(outcome)
                if outcome.outcome == "error":
                    progress.say(f"capvec: error: {outcome.trial}: {printable(outcome.error)}")
                progress.update(recorder.tally())
        except StorageFault as fault:
            _stop(pool, trials, recorder.plan, str(fault))
        except BaseException as error:
            _stop(pool, trials, recorder.plan, str(error) or type(error).__name__)
            raise
        finally:
            watch.stop()
            pool.shutdown(wait=False)
            trials.runner.close()


def _stop(pool: ThreadPoolExecutor, trials: TrialRepeater, plan: Plan, reason: str) -> None:
    """Begin no further trial, and take away the containers of those that run, which end by that."""
    trials.instrument.notice.post(reason)
    pool.shutdown(wait=False, cancel_futures=True)
    with suppress(SandboxUnavailable):  # the next run removes what is left
        trials.runner.sandboxes.clear(run=plan.run)
