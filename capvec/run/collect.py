"""Collect traces: trials of the baseline alone, from which directions can be built."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from capvec.agent.protocols import get_protocol
from capvec.engines.client import EngineClient
from capvec.engines.selection import choose
from capvec.engines.supervised import SupervisedEngine
from capvec.errors import SandboxUnavailable
from capvec.models import resolve_model
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, interleave, settings_for
from capvec.records import Config, Outcome
from capvec.results import provenance
from capvec.results.ledger import TRIALS, Ledger
from capvec.results.sessions import new_session
from capvec.run.instrument import Patience
from capvec.run.preparation import TaskPreparation
from capvec.run.process_limits import allow_trials
from capvec.run.recorder import TrialRecorder, run_trials
from capvec.run.tries import repeater
from capvec.run.watch import EngineLook, Watch, docker_look
from capvec.sandbox.compose_file import check_services
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.hosts import DockerHosts, describe, reach
from capvec.sandbox.reaper import reap, reap_and_say
from capvec.tasks import load_tasks
from capvec.tasks.loader import LoadedTasks, left_out_in_words, notes_in_words
from capvec.text import counted, one_line


@dataclass(frozen=True)
class Collection:
    """What was collected."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    """In the plan's order."""
    stop: KeyboardInterrupt | None = None
    """What stopped it before its last trial, where that was Ctrl-C or a signal."""


def collect(options: SweepOptions, *, out: Path, jobs: int) -> Collection:
    """Run the baseline on every task and keep the trajectories, which `--traces` reads; prints its progress.

    Args:
        options: tasks, model, attempts, seed and the agent's settings; other options are ignored.
        out: a folder that nobody else writes (`results.lock.locked_new`); gets `trajectories/`, `trials.jsonl` and
            `provenance.json`.
        jobs: trials at a time.

    Raises:
        KeyboardInterrupt: it was stopped before its first trial.
        UsageError: a bad option, or nothing can be measured with a task.
        InfrastructureError: Docker or the engine does not answer.
    """
    allow_trials(jobs, f"--jobs {jobs}")
    loaded = load_tasks(
        options.tasks,
        skip=options.skip_unsupported,
        allow_network=options.allow_network,
        force_build=options.force_build,
        check=check_services,
    )
    get_protocol(options.protocol)
    with reach(options.docker_hosts) as hosts:
        return _collect(options, loaded, hosts, out, jobs)


def _collect(options: SweepOptions, loaded: LoadedTasks, hosts: DockerHosts, out: Path, jobs: int) -> Collection:
    for line in (*notes_in_words(loaded.tasks), *left_out_in_words(loaded.left_out)):
        _say(line)
    reap_and_say(_say, hosts=hosts)
    source = resolve_model(options.model)
    choice = choose(options.engine, options.engine_args, source.path_or_id)
    _say(f"the engine: {choice.in_words}")
    prepared = TaskPreparation(options, hosts, _say).prepare(loaded.tasks)
    with (
        closing(SupervisedEngine(source, out / "engine.log", choice)) as engine,
        EngineClient(engine.url, engine.token) as client,
    ):
        health = client.health()
        settings = settings_for(options, health.defaults, health.model, health.template)
        for line in health.in_words(settings.thinking):
            print(f"capvec: {line}")
        baseline = Config(Config.BASELINE, "baseline")
        trials = interleave(prepared.tasks, [baseline], options.attempts, options.seed)
        plan = replace(
            Plan(out.name, out, prepared.tasks, (baseline,), trials, settings),
            session=new_session(),
            left_out={**loaded.left_out, **prepared.unfit},
            unproved=prepared.unproved,
            template=health.template,
        )
        about: dict[str, Any] = {"plan": plan, "health": health.to_json(), "direction": None, "images": prepared.images}
        about["hosts"] = describe(hosts)
        provenance.write(out, command_line=options.command_line, options=options.recorded("collect"), **about)
        recorder = TrialRecorder(plan, Ledger(out / TRIALS), say=print)
        patience = Patience.of(options, engine.start_s)
        sandboxes = DockerProvider.of(plan.settings, _say, hosts)
        runner = repeater(plan, client, sandboxes, weights=health.weights, patience=patience, ahead=jobs)
        notice = runner.instrument.notice
        look = EngineLook(client, health.weights, notice, engine)
        stop: KeyboardInterrupt | None = None
        try:
            run_trials(runner, recorder, jobs, Watch(docker_look(sandboxes), look, patience))
        except KeyboardInterrupt as told:
            stop = told
    with suppress(SandboxUnavailable):  # the next run removes what is left
        reap(plan.run, hosts)
    if notice.reason:
        _say(f"stopped after {counted(len(recorder.outcomes), 'trial')} of {len(plan.trials)}: {notice.reason}")
    return Collection(plan, recorder.outcomes, stop)


def _say(line: str) -> None:
    print(f"capvec: {one_line(line)}", flush=True)
