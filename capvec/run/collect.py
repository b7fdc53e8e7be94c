"""Collect traces: baseline trials without a direction, for others to build directions from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from capvec.agent.protocols import get_protocol
from capvec.engines.process import client_of
from capvec.errors import UsageError
from capvec.models import resolve_model
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, interleave, settings_for
from capvec.records import Config, Outcome
from capvec.results import provenance
from capvec.results.ledger import Ledger
from capvec.run.progress import Tally
from capvec.run.status_line import progress_on_stdout
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import check_docker
from capvec.sandbox.reaper import reap
from capvec.tasks import load_tasks
from capvec.tasks.loader import notes_in_words
from capvec.text import one_line, printable


def collect(options: SweepOptions, *, out: Path, jobs: int) -> tuple[Plan, tuple[Outcome, ...]]:
    """Run the baseline on every task and keep the trajectories, readable by `--traces`; says how far it is.

    Args:
        options: of them, tasks, model, attempts, seed and how the agent acts count.
        out: a folder that is new or empty; gets `trajectories/`, `trials.jsonl` and `provenance.json`.
        jobs: trials at a time.

    Raises:
        UsageError: a bad option, or `out` is not empty.
        InfrastructureError: Docker or the engine does not answer.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: choose a new folder, so that two collections do not mix")
    tasks = load_tasks(options.tasks)
    get_protocol(options.protocol)
    check_docker()
    for line in notes_in_words(tasks):
        print(f"capvec: {one_line(line)}")
    source = resolve_model(options.model)
    out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(out / "trials.jsonl")
    outcomes = []
    with client_of(source, out / "engine.log") as client, ThreadPoolExecutor(jobs) as pool:
        health = client.health()
        settings = settings_for(options, health.defaults, health.model)
        baseline = Config(Config.BASELINE, "baseline")
        trials = interleave(tasks, [baseline], options.attempts, options.seed)
        plan = Plan(out.name, out, tasks, (baseline,), trials, settings)
        provider = DockerProvider()
        images = {task.name: provider.prepare(task) for task in tasks}
        about: dict[str, Any] = {"plan": plan, "health": health.to_json(), "direction": None, "images": images}
        provenance.write(out, command_line=options.command_line, options=options.recorded("collect"), **about)
        runner = TrialRunner(plan, client, provider)
        with progress_on_stdout(at_a_time=jobs) as progress:
            progress.update(Tally(left=len(trials)))
            for done in as_completed([pool.submit(runner.run, trial) for trial in trials]):
                outcome = done.result()
                ledger.append(outcome)
                outcomes.append(outcome)
                if outcome.outcome == "error":
                    progress.say(f"capvec: error: {outcome.trial}: {printable(outcome.error)}")
                progress.update(Tally.of((o.outcome for o in outcomes), len(trials) - len(outcomes)))
    reap(plan.run)
    return plan, tuple(outcomes)
