"""The study of a session: which one its `-m` asks for, and how its process prepares it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.mark.expression import Expression

from capvec.errors import CapvecError, UsageError
from capvec.exits import no_more_threads, refused
from capvec.plan.options import parse_options
from capvec.programs import lasting_imports
from capvec.pytest_plugin.options import given_options
from capvec.pytest_plugin.other_plugins import refuse_other_plugins
from capvec.text import printable

if TYPE_CHECKING:
    from capvec.run.payload import WorkerPayload
    from capvec.run.study import Study

STUDIES = ("sweep", "calibration")
"""The marks that run a study: `-m sweep` runs `suite/test_sweep.py`, and so on. A session runs one study."""


def requested_study(markexpr: str) -> str | None:
    """The study whose mark a `-m` expression selects; None if it selects none.

    Raises:
        UsageError: it selects two studies, and each needs its own session.
    """
    if not markexpr:
        return None
    try:
        expression: Any = Expression.compile(markexpr)
    except SyntaxError:
        return None  # pytest reports the error
    if expression.evaluate(lambda _, **__: False):
        return None  # it selects tests without any mark, as `not gpu` does
    asked = [study for study in STUDIES if expression.evaluate(lambda name, study=study, **_: name == study)]
    if len(asked) > 1:
        raise UsageError(f"-m {markexpr!r} asks for {' and '.join(asked)}: run one of them at a time")
    return asked[0] if asked else None


def speaker(config: pytest.Config) -> Callable[[str], None]:
    """A function that prints one line between what pytest prints; none with `-q`."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None and config.option.verbose >= 0:
            reporter.ensure_newline()
            if config.get_terminal_writer().width_of_current_line:
                reporter.line("")  # after the letters of xdist's tests, which the reporter does not track
            reporter.write_line(f"capvec: {line}")
            reporter.flush()

    return say


def prepared(name: str, config: pytest.Config) -> WorkerPayload:
    """What this process needs of the study: received in a worker, names alone for `--collect-only`, else prepared."""
    if workerinput := getattr(config, "workerinput", None):
        with lasting_imports():
            from capvec.run.payload import WorkerPayload  # noqa: PLC0415 (slow)

        return WorkerPayload.from_json(json.loads(workerinput["capvec"]))
    with lasting_imports():
        from capvec.run.process_limits import allow_trials  # noqa: PLC0415 (slow)
        from capvec.run.session import StudySession, config_names  # noqa: PLC0415 (slow)

    if config.option.collectonly:
        return config_names(_study(name, config), _root(config))

    refuse_other_plugins(config)
    workers = _workers(config)
    allow_trials(workers or 1, f"-n {workers}")
    with lasting_imports():
        from capvec.pytest_plugin.controller import Controller  # noqa: PLC0415 (slow)
        from capvec.pytest_plugin.progress import progress_of  # noqa: PLC0415 (slow)
        from capvec.studies.reporting import write_all  # noqa: PLC0415 (slow)

    study = StudySession(_study(name, config), _root(config), say=speaker(config))
    config.add_cleanup(study.close)
    study.prepare()
    study.begin()
    config.pluginmanager.register(Controller(study, write_all), "capvec-controller")
    say = speaker(config)
    if progress := progress_of(config, study.recorder.tally, study.watch.words):
        config.pluginmanager.register(progress, "capvec-progress")
        study.watch.start(progress.around(say), progress.redraw)
    else:
        study.watch.start(say)
    return study.payload


def plan_only(config: pytest.Config) -> bool:
    """Print what the study takes, for `--plan`. False if a trial of the probe ended in an error. See `dry_run`."""
    name = requested_study(config.option.markexpr)
    if name is None:
        raise UsageError("--plan: add -m sweep or -m calibration, to say what to plan")
    for option, given in (("--collect-only", config.option.collectonly), ("-k", config.option.keyword)):
        if given:
            raise UsageError(f"--plan with {option}: a plan is of the whole {name}, and collects nothing; drop one")
    with lasting_imports():
        from capvec.run.dry_run import dry_run  # noqa: PLC0415 (slow)
        from capvec.run.process_limits import allow_trials  # noqa: PLC0415 (slow)

    jobs = _workers(config) or 1
    allow_trials(jobs, f"-n {_workers(config)}")
    return dry_run(_study(name, config), _root(config), jobs, say=lambda line: print(f"capvec: {line}", flush=True))


@contextmanager
def readable_errors(study: str) -> Iterator[None]:
    """Print capvec's errors once and without a traceback; bad input exits with 4, an infrastructure error with 1."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(printable(str(error))) from None
    except OSError as error:
        raise pytest.UsageError(refused(error)) from None
    except RuntimeError as error:
        if said := no_more_threads(error):
            raise pytest.UsageError(said) from None
        raise
    except CapvecError as error:
        # In the form of a UsageError; pytest.exit would print it twice, with the name of an exception.
        print(f"ERROR: capvec cannot start the {study}: {printable(str(error))}\n", file=sys.stderr)
        raise pytest.Session.Failed from None


def _workers(config: pytest.Config) -> int:
    """How many processes run tests beside this one."""
    return len(getattr(config.option, "tx", None) or ())


def _study(name: str, config: pytest.Config) -> Study:
    """The study that the user asked for, with its options checked."""
    raw = given_options(config) | {"command_line": ["pytest", *config.invocation_params.args]}
    if name == "calibration":
        from capvec.studies.calibration.study import CalibrationStudy, parse_calibration_options  # noqa: PLC0415 (slow)

        return CalibrationStudy(parse_calibration_options(raw))
    from capvec.studies.sweep import SweepStudy  # noqa: PLC0415 (slow)

    return SweepStudy(parse_options(raw))


def _root(config: pytest.Config) -> Path:
    """The folder that holds `reports/`: the project's root, or the working directory outside of a project."""
    return config.rootpath if config.inipath is not None else config.invocation_params.dir
