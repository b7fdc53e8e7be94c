"""`--plan`: prepare and probe a study, print its duration and power, and leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from capvec.engines.client import EngineClient
from capvec.errors import UsageError
from capvec.run.forecast import detections_of, forecast_lines
from capvec.run.probe import run_probe
from capvec.run.session import StudySession, run_folder
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
        probe = run_probe(TrialRunner(payload.plan, client, payload.sandboxes), jobs, say)
    say("computing the power of the plan")
    detections = detections_of(payload.plan, session.assumptions)
    print()
    for line in forecast_lines(payload.plan, session.assumptions, detections, probe, preparation_s):
        print(line, flush=True)
    return not probe.that("error")
