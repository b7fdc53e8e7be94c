"""The controller's side of a study: prepare it, and judge what came of it. Knows neither pytest nor reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from capvec.agent.protocols import get_protocol
from capvec.battery import load_items
from capvec.engines.client import EngineClient
from capvec.engines.protocol import TOKEN_VARIABLE, EngineInfo, GenerationDefaults, ModelSource
from capvec.engines.selection import EngineChoice, choose
from capvec.engines.supervised import SupervisedEngine
from capvec.errors import EngineUnavailable, SandboxUnavailable, StorageFault, UsageError
from capvec.models import resolve_model
from capvec.plan.options import SweepOptions
from capvec.plan.plan import settings_for
from capvec.reading import check_tree
from capvec.results import provenance
from capvec.results.battery import battery_of
from capvec.results.departures import NAMED, Departure, compare_plan, compared, dated_ahead
from capvec.results.direction import DirectionSummary
from capvec.results.gates import check_gate, check_names, split_gate
from capvec.results.interim import not_needed
from capvec.results.ledger import TRIALS, Ledger
from capvec.results.lock import LOCK, locked
from capvec.results.preregistration import (
    PREREGISTRATION,
    Preregistration,
    RegisteredDirection,
    RegisteredModel,
    check_new,
    preregister,
)
from capvec.results.results import Results, summarise_run
from capvec.results.sessions import new_session
from capvec.run.assumptions import assumptions_of
from capvec.run.battery import Battery
from capvec.run.directions import layers_known_before
from capvec.run.folder import check_free, point_latest, run_folder, still_registered
from capvec.run.instrument import Notice, Patience
from capvec.run.payload import WorkerPayload
from capvec.run.preparation import PreparedTasks, TaskPreparation
from capvec.run.recorder import TrialRecorder
from capvec.run.study import Study, StudyContext, StudyDesign
from capvec.run.trial_plan import dealt, plan_of
from capvec.run.watch import EngineLook, Watch, docker_look
from capvec.sandbox.hosts import DockerHosts, describe, reach
from capvec.sandbox.reaper import reap_and_say
from capvec.signals import finishing
from capvec.storage import write_text
from capvec.tasks.loader import left_out_in_words, notes_in_words
from capvec.text import counted, one_line

_Started = tuple[ModelSource, EngineChoice]
"""A model, and the engine that is started for it."""


@dataclass(frozen=True)
class _Prepared:
    """What `StudySession.prepare` leaves for the session's later steps."""

    design: StudyDesign
    recorder: TrialRecorder
    payload: WorkerPayload
    provenance: dict[str, Any]
    """Arguments of `provenance.write`."""
    watch: Watch
    notice: Notice
    battery: Battery
    client: EngineClient


class StudySession:
    """One run of a study, from checked options to its `Results`: `prepare`, `begin`, trials, `finish`, `close`."""

    def __init__(self, study: Study, root: Path, say: Callable[[str], None]) -> None:
        """Check the options without starting anything; `root` is the folder that holds `reports/`.

        Raises:
            UsageError: a bad gate, protocol or shard, or the run exists.
        """
        self.study = study
        self.options = options = study.options
        _check(options)
        self._dealing, self._tasks = dealt(study)
        self._items = load_items(options.battery, options.battery_limit) if options.battery is not None else ()
        self.assumptions = assumptions_of(options)
        named = options.preregistration
        self._registered = None if named is None else Preregistration.read(Path(named))
        self.folder = run_folder(options, root)
        self._say = say
        self._resources = ExitStack()
        self._prepared: _Prepared | None = None

    # -------------------------------------------------------------------------------------------- before

    def prepare(self) -> None:
        """Start or find the engine, build the images and the directions, check the tasks and fix the plan.

        `begin` comes next.

        Raises:
            UsageError: the model, the direction, a layer or a task is not usable, or a resumed run was another study.
            InfrastructureError: Docker or the engine does not answer.
        """
        options = self.options
        self._lock()
        hosts = self._resources.enter_context(reach(options.docker_hosts))
        for line in (*notes_in_words(self._tasks), *left_out_in_words(self.study.left_out)):
            self._say(one_line(line))
        reap_and_say(self._say, hosts=hosts)
        self._resources.callback(self._reap_at_end, hosts)
        started = _to_start(options)
        engine, prepared = self._engine_and_tasks(started, hosts)
        url, token = _address(engine, options)
        client = self._resources.enter_context(EngineClient(url, token))
        health = _health(client, engine)
        settings = settings_for(options, health.defaults, health.model, health.template)
        for line in health.in_words(settings.thinking):
            self._say(line)
        design = self.study.design(StudyContext(client, health, settings, self.folder, self._say))
        plan = plan_of(self.study, self.folder, design.configs, settings, prepared, self._dealing)
        plan = replace(plan, session=new_session(), layout=health.layout, template=health.template)
        plan = replace(plan, battery={item.id: item.digest for item in self._items})
        battery = Battery(self._items, plan)
        battery.check(client, health.template)
        if options.gate is not None:
            check_names(options.gate, plan.configs)
        about: dict[str, Any] = {"plan": plan, "health": health.to_json(), "direction": design.directions}
        about |= {"images": prepared.images, "hosts": describe(hosts)}
        provenance.check_same_study(self.folder, options=self.study.asked, **about)
        recorder = TrialRecorder(plan, Ledger(self.folder / TRIALS), self._say)
        patience = self._patience(engine)
        payload = WorkerPayload(plan, url, token, recorder.finished, health.weights, patience, hosts)
        notice = Notice(patience.notice)
        look = EngineLook(client, health.weights, notice, engine)
        watch = Watch(docker_look(payload.sandboxes), look, patience)
        self._resources.callback(watch.stop)  # before the engine ends
        self._prepared = _Prepared(design, recorder, payload, about, watch, notice, battery, client)

    def begin(self) -> None:
        """Write `provenance.json` and an empty ledger, and say how many trials will run."""
        prepared, line = self._ready, self.options.command_line
        Ledger(self.folder / TRIALS).create()
        if self._registered is not None:
            write_text(self.folder / PREREGISTRATION, self._registered.text)
        about = prepared.provenance | {"registered": self._registered}
        provenance.write(self.folder, command_line=line, options=self.study.asked, **about)
        point_latest(self.folder)
        plan, recorder = prepared.payload.plan, prepared.recorder
        skipped = recorder.skipped - recorder.kept
        words = f"{counted(len(plan.trials) - len(recorder.kept | skipped), 'trial')}: {plan.size}"
        words += f", {len(recorder.kept)} kept from earlier sessions" if recorder.kept else ""
        words += f", {len(skipped)} skipped, since their configs have stopped" if skipped else ""
        self._say(words)
        if unrecorded := recorder.unrecorded:
            self._say(
                f"{counted(len(unrecorded), 'trial')} left a trajectory and no line in {TRIALS}, {unrecorded[0]} "
                "first, and will run again"
            )
        if recorder.monitor is not None:
            self._say(recorder.monitor.words)
        if self._registered is not None:
            self._say(f"preregistered ({self._registered.in_words})")
        for departure in self.departures:
            self._say(f"departs from the preregistration: {departure.in_words(NAMED)}")
        if (warning := self.assumptions.power_warning(plan)) is not None:
            self._say(f"{warning.words} Use --plan to see how many tasks or attempts would be enough.")

    @property
    def departures(self) -> tuple[Departure, ...]:
        """From the preregistration, as far as the plan shows them; available after `prepare`."""
        if self._registered is None:
            return ()
        ahead = dated_ahead(self._registered, datetime.now(UTC))
        return (*ahead, *compare_plan(self._registered, self._ready.payload.plan, self._record))

    @property
    def _record(self) -> dict[str, Any]:
        """What a preregistration is compared with beside the plan."""
        about, directions = self._ready.provenance, self._ready.design.directions
        return {"options": self.study.asked, "model": about["health"], "direction": directions.provenance()}

    def preregister(self, path: Path) -> Preregistration:
        """Write what was prepared as a preregistration, with the layers and the direction that were found.

        Raises:
            UsageError: something is there already, or the hypothesis is empty.
        """
        plan, record = self._ready.payload.plan, self._record
        served = record["model"]
        model = RegisteredModel(served["model"], served["revision"], provenance.engine_in_words(served))
        contrast = (record["direction"]["contrast"] or {}).get("hash")
        recipe = None if contrast is None else self.options.recipe
        direction = RegisteredDirection(record["direction"]["hash"], contrast, recipe)
        registered = preregister(self.options, plan.configs, plan.tasks, model=model, direction=direction)
        registered.write(path)
        return registered

    @property
    def payload(self) -> WorkerPayload:
        """For the workers; available after `prepare`."""
        return self._ready.payload

    @property
    def recorder(self) -> TrialRecorder:
        """Takes the outcomes in; available after `prepare`."""
        return self._ready.recorder

    @property
    def _ready(self) -> _Prepared:
        assert self._prepared is not None, "prepare() has not run"
        return self._prepared

    @property
    def watch(self) -> Watch:
        """Of Docker and the engine, to be started with the trials; available after `prepare`."""
        return self._ready.watch

    @property
    def stopped(self) -> str:
        """Why the session stops before its last trial, and how to go on; empty if it does not."""
        reason = self._ready.notice.reason
        return f"{reason}. Mend that, and go on with --run {self.folder.name} --resume" if reason else ""

    def stop(self, reason: str) -> None:
        """Let no further trial begin."""
        self._ready.notice.post(reason)

    def _patience(self, engine: SupervisedEngine | None) -> Patience:
        folder = self._resources.enter_context(TemporaryDirectory(prefix="capvec-"))
        return Patience.of(self.options, engine.start_s if engine is not None else 0.0, Path(folder) / "stopped")

    def _lock(self) -> None:
        """Keep other writers out of the folder until `close`, and look again at what is in it."""
        existed = self.folder.exists()
        self._resources.enter_context(locked(self.folder, "--run"))
        if existed:
            check_tree(self.folder, "a run folder")
        else:
            self._resources.callback(self._discard)
        check_free(self.folder, self.options)
        provenance.check_comparable(self.folder, self.folder / TRIALS)
        self._registered = still_registered(self._registered, self.folder)

    def _engine_and_tasks(
        self, started: _Started | None, hosts: DockerHosts
    ) -> tuple[SupervisedEngine | None, PreparedTasks]:
        """The engine and the tasks, which are made ready at the same time."""
        preparation = TaskPreparation(self.options, hosts, self._say)
        with ThreadPoolExecutor(1) as pool:
            tasks = pool.submit(preparation.prepare, self._tasks)
            try:
                return self._engine(started), tasks.result()
            except BaseException:
                preparation.stop()
                raise

    def _engine(self, started: _Started | None) -> SupervisedEngine | None:
        """An engine that serves the model; None where the one at `--base-url` is used."""
        if started is None:
            return None
        source, choice = started
        self._say(f"starting the engine with {source.name}: {choice.in_words}")
        return self._resources.enter_context(closing(SupervisedEngine(source, self.folder / "engine.log", choice)))

    def _discard(self) -> None:
        """Remove the folder of a run whose preparation failed; called after the engine, which logs there, has ended."""
        if self._prepared is None:
            for path in self.folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name != LOCK:  # whoever waits for it must find the folder as it is
                    path.unlink(missing_ok=True)

    def _reap_at_end(self, hosts: DockerHosts) -> None:
        for host in hosts:
            try:
                # And this process's own, which it left where it was stopped.
                reap_and_say(self._say, self.folder.name, (host,))
            except SandboxUnavailable:
                self._say(f"Docker{host} no longer answers; the next run removes the containers that may be left")

    # -------------------------------------------------------------------------------------------- after

    def battery_seconds(self) -> float | None:
        """About how long the questions of `--battery` take; None where there are none, or one cannot be asked."""
        return self._ready.battery.predict(self._ready.client)

    def ask_battery(self) -> None:
        """Ask the questions of `--battery`, unless the session stops; what is left is asked with `--resume`."""
        if self._items and not self.stopped:
            try:
                self._ready.battery.run(self._ready.client, self._say)
            except StorageFault as fault:
                self.stop(str(fault))

    def finish(self, *, interrupted: bool = False) -> Results:
        """Judge the outcomes on record."""
        prepared = self._ready
        prepared.watch.stop()
        plan, outcomes = prepared.payload.plan, prepared.recorder.outcomes
        summary = summarise_run(plan, outcomes)
        judgement = self.study.judge(plan, outcomes, summary, prepared.design)
        skipped = not_needed(plan, summary.sequential) if summary.sequential is not None else ()
        return Results(
            plan=plan,
            outcomes=outcomes,
            summary=summary,
            direction=DirectionSummary.of(prepared.design.directions),
            judgement=judgement,
            gates=(*judgement.gates, *check_gate(None if plan.shard else self.options.gate, summary, len(plan.tasks))),
            completeness=prepared.recorder.completeness(skipped, interrupted=interrupted, stopped=self.stopped),
            battery=battery_of(plan),
            comparison=compared(plan, provenance.read(self.folder), outcomes, summary.sequential),
        )

    def close(self) -> None:
        """Stop the engine and remove containers, whatever signals come meanwhile; safe to call more than once."""
        with finishing(then_stop=False):
            self._resources.close()


def _to_start(options: SweepOptions) -> _Started | None:
    """The model and its engine; None where the one at `--base-url` is used."""
    if options.base_url is not None:
        return None
    source = resolve_model(options.model)
    choice, layers = choose(options.engine, options.engine_args, source.path_or_id), layers_known_before(options)
    return source, choice.steering_only(layers) if layers else choice


def _address(engine: SupervisedEngine | None, options: SweepOptions) -> tuple[str, str]:
    """URL and token of the engine, or of the one at `--base-url`."""
    return (
        (engine.url, engine.token)
        if engine is not None
        else (str(options.base_url), os.environ.get(TOKEN_VARIABLE, ""))
    )


def _health(client: EngineClient, own: SupervisedEngine | None) -> EngineInfo:
    """The engine's description of itself.

    Raises:
        UsageError: no engine is at `--base-url`, or it wants another token.
        EngineUnavailable: the session's own engine does not answer.
    """
    try:
        return client.health()
    except EngineUnavailable as error:
        if own is not None:
            raise
        raise UsageError(f"--base-url: {error}") from error


def config_names(study: Study, root: Path) -> WorkerPayload:
    """The plan as `--collect-only` shows it, with configs that have names only; nothing is started.

    Raises:
        UsageError: a bad gate or protocol.
    """
    _check(study.options)
    settings = settings_for(study.options, GenerationDefaults(), study.options.model)
    folder = root / "reports" / (study.options.run or "collect-only")
    dealing, tasks = dealt(study)
    prepared = PreparedTasks(tasks, {}, {}, {})
    return WorkerPayload(plan_of(study, folder, study.config_names(), settings, prepared, dealing), "", "")


def _check(options: SweepOptions) -> None:
    get_protocol(options.protocol)
    if options.write_preregistration is not None:
        check_new(Path(options.write_preregistration))
    if options.gate is not None:
        split_gate(options.gate)
