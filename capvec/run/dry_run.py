"""`--plan`: prepare and probe a study, print its duration and power, and leave nothing behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from capvec.engines.client import EngineClient
from capvec.errors import UsageError
from capvec.plan.plan import Settings
from capvec.results.departures import NAMED
from capvec.run.capacity import WORKERS, Forecast, capacities, recorded_work
from capvec.run.engine_speed import measure_engine
from capvec.run.folder import run_folder
from capvec.run.forecast import detections_of, forecast_lines
from capvec.run.probe import Probe, run_probe
from capvec.run.session import StudySession
from capvec.run.study import Study
from capvec.run.trial import TrialRunner


def dry_run(study: Study, root: Path, jobs: int, say: Callable[[str], None]) -> bool:
    """Print what the study takes and which effects it can detect. False if a trial of the probe ended in an error.

    Args:
        study: to plan.
        root: the folder that holds `reports/`; nothing is written there.
        jobs: trials at a time.
        say: prints one line of progress.

    Raises:
        UsageError: a bad option, or `--resume`.
        InfrastructureError: Docker or the engine does not answer.
    """
    options = study.options
    folder = run_folder(options, root)
    if options.resume:
        raise UsageError(
            "--plan with --resume: only a study that has not begun can be planned; drop one of them. To plan with the "
            f"baseline of that run, use another --run, or none, and --base-rate {folder}"
        )
    with ExitStack() as resources:
        scratch = Path(resources.enter_context(TemporaryDirectory(prefix="capvec-plan-")))
        session = resources.enter_context(closing(StudySession(study, scratch, say)))
        started = time.monotonic()
        session.prepare()
        preparation_s = time.monotonic() - started
        payload = session.payload
        client = resources.enter_context(EngineClient(payload.engine_url, payload.engine_token))
        for departure in session.departures:
            say(f"departs from the preregistration: {departure.in_words(NAMED)}")
        probe = run_probe(TrialRunner(payload.plan, client, payload.sandboxes), jobs, say)
        capacity = forecast_capacity(probe, client, payload.plan.settings, say)
        battery_s = session.battery_seconds()
        if options.write_preregistration is not None:
            registered = session.preregister(Path(options.write_preregistration))
            say(f"preregistered in {options.write_preregistration}: hash {registered.hash}")
    say("computing the power of the plan")
    detections = detections_of(payload.plan, session.assumptions)
    print()
    for line in forecast_lines(
        payload.plan, session.assumptions, detections, probe, preparation_s, capacity, battery_s
    ):
        print(line, flush=True)
    return not probe.that("error")


def forecast_capacity(
    probe: Probe, client: EngineClient, settings: Settings, say: Callable[[str], None]
) -> Forecast | None:
    """What 16, 64 and 256 workers would make, from the trials of the probe and the engine's own speed.

    Returns:
        The forecast; None where no trial of the probe came to its end, or the engine's speed cannot be told.
    """
    outcomes = [one.outcome for one in probe.that("whole") if one.outcome is not None and one.outcome.steps]
    if not outcomes:
        return None
    prompt = sum(one.prompt_tokens for one in outcomes) // sum(one.steps for one in outcomes)
    speed = measure_engine(client, client.health().backend, prompt, settings.thinking, say)
    if speed is None:
        return None
    cores, workers = os.cpu_count() or 1, sorted({probe.jobs, *WORKERS})
    return Forecast(capacities(recorded_work(outcomes), speed, cores, workers), speed, cores)
