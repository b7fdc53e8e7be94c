"""The controller's side of a study: prepare, collect outcomes, judge. Knows nothing of pytest or of reports."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from capvec.agent.protocols import get_protocol
from capvec.directions.direction import Direction
from capvec.engines.client import EngineClient
from capvec.engines.process import start_engine
from capvec.engines.protocol import TOKEN_VARIABLE, GenerationDefaults, ModelSource
from capvec.errors import SandboxUnavailable, UsageError
from capvec.models import resolve_model
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, interleave, settings_for
from capvec.records import Config, Outcome
from capvec.results import provenance
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate, check_names, split_gate
from capvec.results.interim import Monitor, drawn_order, not_needed
from capvec.results.ledger import Completeness, Ledger, reconcile
from capvec.results.results import Results, summarise_run
from capvec.run.assumptions import assumptions_of
from capvec.run.progress import Tally
from capvec.run.study import Study, StudyContext, StudyDesign
from capvec.run.trial import error_outcome
from capvec.sandbox.docker import DockerProvider, check_engine, reap
from capvec.serial import Record
from capvec.stats.summary import Summary
from capvec.steering import BlockLayout
from capvec.tasks.loader import notes_in_words
from capvec.text import counted, one_line

_TRIAL_ID = re.compile(r"\[(.+)\]$")


@dataclass(frozen=True)
class WorkerPayload(Record):
    """What the controller gives each worker. Never written to disk: it holds the engine's token."""

    plan: Plan
    engine_url: str
    engine_token: str
    finished: tuple[Outcome, ...] = ()

    def direction(self) -> Direction:
        """The sweep's direction, from the run folder."""
        return Direction.load(self.plan.folder / "vectors" / "dir.safetensors")


class StudySession:
    """One run of a study, from checked options to its `Results`."""

    def __init__(self, study: Study, root: Path, say: Callable[[str], None]) -> None:
        """Check whatever can be checked without starting anything.

        Args:
            study: what to run, and what it means.
            root: the folder that holds `reports/`.
            say: prints one line of progress.

        Raises:
            UsageError: a bad gate or protocol, or the run exists.
        """
        self.study = study
        self.options = options = study.options
        _check(options)
        self.assumptions = assumptions_of(options)
        self.folder = run_folder(options, root)
        self.run = self.folder.name
        self.ledger = Ledger(self.folder / "trials.jsonl")
        self._say = say
        self._resources = ExitStack()
        self._expected: dict[str, None] = {}
        self._recorded: dict[str, Outcome] = {}
        self._ran: set[str] = set()
        self._finished: tuple[Outcome, ...] = ()
        self._payload: WorkerPayload | None = None
        self._design: StudyDesign | None = None
        self._watch: Monitor | None = None
        self._about: dict[str, Any] = {}

    # -------------------------------------------------------------------------------------------- before

    def prepare(self) -> None:
        """Start or find the engine, build the images and the directions, and fix the plan; `begin` comes next.

        Raises:
            UsageError: the model, the direction, a layer or a task's environment is not usable.
            InfrastructureError: Docker or the engine does not answer.
        """
        options = self.options
        check_engine()
        for line in notes_in_words(self.study.tasks):
            self._say(one_line(line))
        self._reap()
        self._resources.callback(self._reap_at_end)
        source = resolve_model(options.model) if options.base_url is None else None
        if not self.folder.exists():
            self._resources.callback(self._discard)
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(1) as pool:
            images = pool.submit(self._prepare_images)
            url, token = self._engine(source)
            client = self._resources.enter_context(EngineClient(url, token))
            health = client.health()
            digests = images.result()
        settings = settings_for(options, health.defaults, health.model)
        self._design = design = self.study.design(StudyContext(client, health, settings, self.folder, self._say))
        plan = self._plan(design, settings, health.layout)
        if options.gate is not None:
            check_names(options.gate, plan.configs)
        about: dict[str, Any] = {"plan": plan, "health": health.to_json(), "direction": design.directions}
        provenance.check_same_study(self.folder, options=self.study.asked, **about)
        self._finished = self._resumable(plan)
        self._payload = WorkerPayload(plan, url, token, self._finished)
        self._about = about | {"images": digests}

    def begin(self) -> None:
        """Put the run on record, and say what is to come."""
        asked = self.study.asked
        provenance.write(self.folder, command_line=self.options.command_line, options=asked, **self._about)
        _point_latest(self.folder)
        self._announce(self.payload().plan)

    def _discard(self) -> None:
        """A start that failed leaves no folder of a run that never was; the engine has ended when this is called."""
        if self._payload is None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _engine(self, source: ModelSource | None) -> tuple[str, str]:
        """URL and token of the engine that serves `source`, or of the one that the user named."""
        if source is None:
            return str(self.options.base_url), os.environ.get(TOKEN_VARIABLE, "")
        self._say(f"starting the engine with {source.name}")
        engine = self._resources.enter_context(start_engine(source, log_path=self.folder / "engine.log"))
        return engine.url, engine.token

    def _plan(self, design: StudyDesign, settings: Settings, layout: BlockLayout) -> Plan:
        plan = _plan_of(self.study, self.run, self.folder, design.configs, settings)
        return replace(plan, layout=layout)

    def _announce(self, plan: Plan) -> None:
        kept = {outcome.trial for outcome in self._finished}
        spared = (self._watch.spared if self._watch is not None else frozenset()) - kept
        todo = len(plan.trials) - len(kept | spared)
        again = f", {len(kept)} kept from before" if kept else ""
        again += f", {len(spared)} spared by what was decided" if spared else ""
        self._say(f"{counted(todo, 'trial')}: {plan.size}{again}")
        if self._watch is not None:
            self._say(self._watch.words)
        if (short := self.assumptions.power_warning(plan)) is not None:
            self._say(f"{short.words} --plan tells what would be enough.")

    def _prepare_images(self) -> dict[str, str]:
        provider = DockerProvider()
        return {task.name: provider.prepare(task) for task in self.study.tasks}

    def _reap(self) -> None:
        if removed := reap():
            self._say(f"removed {removed} container{'s' if removed > 1 else ''} that an earlier run left behind")

    def _reap_at_end(self) -> None:
        try:
            self._reap()
        except SandboxUnavailable:
            self._say("Docker does not answer any more; the next run removes the containers that may be left")

    def _resumable(self, plan: Plan) -> tuple[Outcome, ...]:
        self.ledger.mend()
        outcomes = self.ledger.read()
        planned = {trial.id: trial for trial in plan.trials}
        for outcome in outcomes:
            if outcome.trial in planned and outcome.seed != planned[outcome.trial].seed:
                raise UsageError(
                    f"--resume: {outcome.trial} ran with seed {outcome.seed}, this {plan.study} has another --seed"
                )
        self._recorded = {outcome.trial: outcome for outcome in outcomes}
        ours = [outcome for outcome in outcomes if outcome.trial in planned]
        counted: tuple[Outcome, ...] = ()
        if plan.sequential:
            self._watch = Monitor(plan, self._say)
            counted = self._watch.resume(ours)
            self._ran |= {outcome.trial for outcome in counted}
        return tuple(outcome for outcome in ours if outcome.outcome != "error" or outcome in counted)

    def payload(self) -> WorkerPayload:
        """What workers need; `prepare` must have run."""
        assert self._payload is not None
        return self._payload

    # -------------------------------------------------------------------------------------------- during

    def expect(self, node_ids: Iterable[str]) -> None:
        """Note which trials pytest collected, after `-k` and the like; every one of them must leave a record."""
        planned = {trial.id for trial in self.payload().plan.trials}
        collected = [match[1] for node in node_ids if (match := _TRIAL_ID.search(node))]
        self._expected |= {trial: None for trial in collected if trial in planned}

    def record(self, outcome: Outcome) -> None:
        """Put an outcome on disk as it arrives; one kept from an earlier session is there already."""
        if outcome in self._finished:
            return
        self._recorded[outcome.trial] = outcome
        self._ran.add(outcome.trial)
        self.ledger.append(outcome)
        if self._watch is not None:
            self._watch.note(outcome)

    def record_crash(self, node_id: str, detail: str) -> None:
        """A test failed without an outcome (its worker died, say): an `error`, never "unsolved"."""
        match = _TRIAL_ID.search(node_id)
        plan = self.payload().plan
        spec = next((trial for trial in plan.trials if match and trial.id == match[1]), None)
        if spec is not None and spec.id not in self._ran | {outcome.trial for outcome in self._finished}:
            reason = detail.strip().splitlines()[-1] if detail.strip() else "the test ended without an outcome"
            self.record(error_outcome(plan.run, spec, plan.config(spec.config), reason))

    def tally(self) -> Tally:
        """What the trials came to so far, without those kept from before; those that a stop spares are not to come."""
        kept = {outcome.trial for outcome in self._finished}
        spared = self._watch.spared if self._watch is not None else frozenset()
        left = self._expected.keys() - self._ran - kept - spared
        return Tally.of((self._recorded[trial].outcome for trial in self._ran - kept), len(left))

    # -------------------------------------------------------------------------------------------- after

    def finish(self, *, interrupted: bool = False) -> Results:
        """Judge what is on record.

        Args:
            interrupted: whether the user stopped the session; the reports say so.
        """
        plan = self.payload().plan
        outcomes = tuple(self._recorded[trial.id] for trial in plan.trials if trial.id in self._recorded)
        summary = summarise_run(plan, outcomes)
        assert self._design is not None
        judgement = self.study.judge(plan, outcomes, summary, self._design)
        asked = check_gate(self.options.gate, summary, len(plan.tasks)) if self.options.gate is not None else ()
        return Results(
            plan=plan,
            outcomes=outcomes,
            summary=summary,
            direction=DirectionSummary.of(self._design.directions),
            judgement=judgement,
            gates=(*judgement.gates, *asked),
            completeness=self._completeness(summary, interrupted),
        )

    def _completeness(self, summary: Summary, interrupted: bool) -> Completeness:
        spared = not_needed(self.payload().plan, summary.sequential) if summary.sequential is not None else ()
        recorded = self._recorded.values()
        return reconcile(self._expected, recorded, self._ran, interrupted=interrupted, not_needed=spared)

    def close(self) -> None:
        """Stop the engine and remove containers; safe to call more than once."""
        self._resources.close()


def run_folder(options: SweepOptions, root: Path) -> Path:
    """Where the run goes: `reports/NAME`, or `reports/` and the time.

    Raises:
        UsageError: a run is there already, and it is not to be resumed.
    """
    folder = root / "reports" / (options.run or datetime.now().strftime("%Y%m%d-%H%M%S"))
    if (folder / "trials.jsonl").exists() and not options.resume:
        raise UsageError(f"{folder} holds a run already: add --resume to finish it, or choose another --run")
    return folder


def config_names(study: Study, root: Path) -> WorkerPayload:
    """The plan as `--collect-only` shows it; nothing is started.

    Raises:
        UsageError: a bad gate or protocol.
    """
    options = study.options
    _check(options)
    settings = settings_for(options, GenerationDefaults(), options.model)
    run = options.run or "collect-only"
    return WorkerPayload(_plan_of(study, run, root / "reports" / run, study.config_names(), settings), "", "")


def _plan_of(study: Study, run: str, folder: Path, configs: tuple[Config, ...], settings: Settings) -> Plan:
    options = study.options
    tasks = drawn_order(study.tasks, options.seed) if options.sequential else study.tasks
    trials = interleave(tasks, configs, options.attempts, options.seed)
    plan = Plan(run, folder, study.tasks, configs, trials, settings, study.name)
    return replace(plan, sequential=options.sequential, effect=options.effect)


def _check(options: SweepOptions) -> None:
    get_protocol(options.protocol)
    if options.gate is not None:
        split_gate(options.gate)


def _point_latest(folder: Path) -> None:
    latest = folder.parent / "latest"
    try:
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    except OSError:
        # A file system without links costs the shortcut, not the run.
        return
