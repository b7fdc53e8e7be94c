"""The pytest plugin: options, markers, fixtures and hooks. Each hook delegates to a function that needs no pytest.

The controller (the only process when there is no xdist) prepares the study (a sweep or a calibration), owns the ledger
and writes the report. Workers get the plan, the engine's URL and its token through `workerinput`, and send one JSON
outcome per trial back on the test report.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.mark.expression import Expression

from capvec.errors import CapvecError, InfrastructureError, UsageError
from capvec.plan.options import parse_options
from capvec.pytest_plugin.options import add_options, given_options
from capvec.records import Outcome, TrialSpec
from capvec.run.trial import TrialRunner, error_outcome
from capvec.text import printable

if TYPE_CHECKING:
    from capvec.directions.direction import Direction
    from capvec.engines.client import EngineClient
    from capvec.run.session import WorkerPayload
    from capvec.run.study import Study

STUDIES = ("sweep", "calibration")
"""Marks that start something: `-m sweep` runs `suite/test_sweep.py`, and so on. One study a session."""
SUITE = Path(__file__).parent / "suite"
MARKERS = {
    "sweep": "one trial of a sweep: a real model in a real container (only with `-m sweep`)",
    "calibration": "one trial of a calibration: effects that are known, really run (only with `-m calibration`)",
    "unit": "fast: no Docker, no weights, no network",
    "integration": "uses the real engine, real weights or real containers",
    "gpu": "needs a CUDA device",
}
_payload_key: pytest.StashKey[WorkerPayload] = pytest.StashKey()
_outcome_key = pytest.StashKey[Outcome]()


# ------------------------------------------------------------------------------------------------ options


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def _study(name: str, config: pytest.Config) -> Study:
    """The study that was asked for, its options checked."""
    raw = given_options(config) | {"command_line": ["pytest", *config.invocation_params.args]}
    # pandas and SciPy are slow to import, and only a study needs them.
    if name == "calibration":
        from capvec.studies.calibration.study import CalibrationStudy, parse_calibration_options  # noqa: PLC0415

        return CalibrationStudy(parse_calibration_options(raw))
    from capvec.studies.sweep import SweepStudy  # noqa: PLC0415

    return SweepStudy(parse_options(raw))


def requested_study(markexpr: str) -> str | None:
    """The study that a `-m` expression asks for: it selects what carries that mark *because* of the mark.

    Raises:
        UsageError: it asks for two; each has its own engine, options and report.
    """
    if not markexpr:
        return None
    try:
        expression: Any = Expression.compile(markexpr)
    except SyntaxError:
        return None  # pytest says what is wrong with it
    if expression.evaluate(lambda _, **__: False):
        return None
    asked = [study for study in STUDIES if expression.evaluate(lambda name, study=study, **_: name == study)]
    if len(asked) > 1:
        raise UsageError(f"-m {markexpr!r} asks for {' and '.join(asked)}: run one of them at a time")
    return asked[0] if asked else None


# ------------------------------------------------------------------------------------------------ session


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """In the controller, before xdist starts its workers: engine, images, direction, plan."""
    config = session.config
    with _readable_errors("study"):
        name = requested_study(config.option.markexpr)
    if name is None:
        return
    # Slow to import, as above.
    from capvec.pytest_plugin.controller import Controller  # noqa: PLC0415
    from capvec.pytest_plugin.progress import progress_of  # noqa: PLC0415
    from capvec.run.session import StudySession, WorkerPayload, config_names  # noqa: PLC0415
    from capvec.studies.reporting import write_all  # noqa: PLC0415

    with _readable_errors(name):
        if workerinput := getattr(config, "workerinput", None):
            config.stash[_payload_key] = WorkerPayload.from_json(json.loads(workerinput["capvec"]))
        elif config.option.collectonly:
            config.stash[_payload_key] = config_names(_study(name, config), _root(config))
        else:
            study = StudySession(_study(name, config), _root(config), say=speaker(config))
            config.add_cleanup(study.close)
            study.prepare()
            study.begin()
            config.stash[_payload_key] = study.payload
            config.pluginmanager.register(Controller(study, write_all), "capvec-controller")
            if progress := progress_of(config, study.recorder.tally):
                config.pluginmanager.register(progress, "capvec-progress")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """`--plan` takes the place of a session, so that nothing is collected and no worker starts.

    After xdist's hook of that name, which works out how many workers there would be.
    """
    if not config.option.plan or config.option.help:
        return None
    try:
        with _readable_errors("study"):
            return 0 if _preview(config) else 1
    except pytest.Session.Failed:
        return 1
    except KeyboardInterrupt:
        print("capvec: interrupted")
        return 2


def _preview(config: pytest.Config) -> bool:
    name = requested_study(config.option.markexpr)
    if name is None:
        raise UsageError("--plan: add -m sweep or -m calibration, to say what to plan")
    for option, given in (("--collect-only", config.option.collectonly), ("-k", config.option.keyword)):
        if given:
            raise UsageError(f"--plan with {option}: a plan is of the whole {name}, and collects nothing; drop one")
    from capvec.run.dry_run import dry_run  # noqa: PLC0415 (slow to import, as below)

    jobs = len(getattr(config.option, "tx", None) or ()) or 1
    return dry_run(_study(name, config), _root(config), jobs, say=lambda line: print(f"capvec: {line}", flush=True))


def _root(config: pytest.Config) -> Path:
    """The folder that holds `reports/`: the project's, or where pytest was started if there is no project around."""
    return config.rootpath if config.inipath is not None else config.invocation_params.dir


def speaker(config: pytest.Config) -> Callable[[str], None]:
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")

    def say(line: str) -> None:
        if reporter is not None and config.option.verbose >= 0:
            reporter.ensure_newline()
            if config.get_terminal_writer().width_of_current_line:
                reporter.line("")  # after the letters of xdist's tests, of which the reporter keeps no account
            reporter.write_line(f"capvec: {line}")
            reporter.flush()

    return say


@contextmanager
def _readable_errors(study: str) -> Iterator[None]:
    """Turn our errors into one message, said once: bad input exits 4, a broken instrument exits 1."""
    try:
        yield
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    except CapvecError as error:
        # In the form of a UsageError; pytest.exit would say it twice, with the name of an exception.
        print(f"ERROR: capvec cannot start the {study}: {error}\n", file=sys.stderr)
        raise pytest.Session.Failed from None


# ------------------------------------------------------------------------------------------------ collection


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without `-m sweep` or `-m calibration` the suite does not exist; with one, the other's file does not.

    Of the package, nothing but the suite holds tests: `--pyargs capvec` need not look into hundreds of task folders.
    """
    beside = collection_path.parent in {SUITE.parent, SUITE.parent.parent}
    if beside and collection_path not in {SUITE, SUITE.parent}:
        return True
    # The file, and not only its folder: a folder that was named on the command line is never ignored.
    if SUITE not in {collection_path, collection_path.parent}:
        return None
    name = requested_study(config.option.markexpr)
    return None if name and (collection_path == SUITE or _study_of(collection_path) == name) else True


def _study_of(file: Path) -> str:
    """The study whose trials a file of the suite runs."""
    return file.stem.removeprefix("test_")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.path.parent == SUITE and "outcome" in metafunc.fixturenames:
        payload = metafunc.config.stash.get(_payload_key, None)
        ours = payload is not None and payload.plan.study == _study_of(metafunc.definition.path)
        trials = payload.plan.trials if payload is not None and ours else ()
        metafunc.parametrize("outcome", trials, ids=[str(trial.id) for trial in trials], indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.parent == SUITE:
        item.add_marker(_study_of(item.path))


# ------------------------------------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> Iterator[EngineClient]:
    """A client of the study's engine."""
    from capvec.engines.client import EngineClient  # noqa: PLC0415 (no HTTP client unless a sweep runs)

    payload = request.config.stash[_payload_key]
    with EngineClient(payload.engine_url, payload.engine_token) as client:
        yield client


@pytest.fixture(scope="session")
def direction(request: pytest.FixtureRequest) -> Direction:
    """The direction that is studied, float32 `[n_layers, d_model]`, built or loaded once per session."""
    loaded: Direction = request.config.stash[_payload_key].direction()
    return loaded


@pytest.fixture(scope="session")
def run_trial(request: pytest.FixtureRequest, engine: EngineClient) -> TrialRunner:
    """Runs trials of the plan against the study's engine and Docker."""
    from capvec.sandbox.docker import DockerProvider  # noqa: PLC0415 (no Docker SDK unless a sweep runs)

    payload = request.config.stash[_payload_key]
    finished = {outcome.id: outcome for outcome in payload.finished}
    return TrialRunner(payload.plan, engine, DockerProvider(), finished)


@pytest.fixture
def outcome(request: pytest.FixtureRequest, run_trial: TrialRunner) -> Outcome:
    """The outcome of the trial that the test is parametrised with; of a config that has stopped, none is wanted."""
    from capvec.results.interim import why_stopped  # noqa: PLC0415 (SciPy, which only a study needs)

    spec: TrialSpec = request.param
    if spec.id not in run_trial.finished and (why := why_stopped(run_trial.plan, spec.id)) is not None:
        pytest.skip(why)
    result = run_trial.run(spec)
    request.node.stash[_outcome_key] = result
    if result.outcome == "error":
        raise InfrastructureError(result.error)
    return result


# ------------------------------------------------------------------------------------------------ reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the outcome, as plain JSON, to the report of the phase that produced it."""
    report = yield
    payload = item.config.stash.get(_payload_key, None)
    if item.path.parent != SUITE or call.when == "teardown" or payload is None:
        return report
    result = item.stash.get(_outcome_key, None)
    no_fault = (KeyboardInterrupt, pytest.skip.Exception)
    if result is None and call.excinfo is not None and not call.excinfo.errisinstance(no_fault):
        spec: TrialSpec = item.callspec.params["outcome"]  # type: ignore[attr-defined]
        config = payload.plan.config(spec.config)
        result = item.stash[_outcome_key] = error_outcome(payload.plan.run, spec, config, call.excinfo.exconly())
    if result is not None and (report.failed or call.when == "call"):
        report.capvec = result.to_json()  # type: ignore[attr-defined]
        item.user_properties[:] = [(key, value) for key, value in result.to_json().items() if value is not None]
        if report.failed and call.excinfo is not None and call.excinfo.errisinstance(InfrastructureError):
            report.longrepr = printable(result.error)
            # The headline of pytest's section of errors: the trial, and not the test that all of them share.
            report.location = (*report.location[:2], result.trial)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A trial reads solved, unsolved or error."""
    result = getattr(report, "capvec", None)
    if result is None:
        return None
    status = result["outcome"]
    return status, {"solved": "S", "unsolved": "u", "error": "E"}[status], status.upper()
