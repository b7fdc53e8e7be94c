"""The pytest plugin: markers, fixtures and hooks.

The controller (the only process without xdist) prepares the study, owns the ledger and has the reports written. A
worker receives the plan, the address of the engine and its token through `workerinput`, and attaches the outcome of
each trial, as JSON, to its test report.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from capvec.errors import InfrastructureError
from capvec.exits import accept_any_character
from capvec.pytest_plugin.items import TrialItems, following
from capvec.pytest_plugin.options import add_options, files_and_folders, is_in_conftest, wants_plan
from capvec.pytest_plugin.other_plugins import refuse_loop
from capvec.pytest_plugin.preparation import plan_only, prepared, readable_errors, requested_study
from capvec.records import Outcome, TrialSpec
from capvec.run.trial import error_outcome
from capvec.signals import stop_arrived, stopping_on_signals
from capvec.text import printable

# What is slow to import (pandas, SciPy, HTTP, Docker) is imported by the functions that need it, so that a session
# without a study starts without it.
if TYPE_CHECKING:
    from capvec.directions.direction import Direction
    from capvec.engines.client import EngineClient
    from capvec.run.payload import WorkerPayload
    from capvec.run.tries import TrialRepeater

SUITE = Path(__file__).parent / "suite"
MARKERS = {
    "sweep": "one trial of a sweep: a real model in a real container (only with `-m sweep`)",
    "calibration": "one trial of a calibration: known effects, measured by real trials (only with `-m calibration`)",
    "unit": "fast: no Docker, no weights, no network",
    "integration": "uses the real engine, real weights or real containers",
    "gpu": "needs a CUDA device",
    "vllm": "needs vLLM in the environment",
    "siege": "faults, attacks and hostile input that take long or break what they touch",
    "bench": "prints seconds, and asserts on none (only with `-m bench`)",
    "slow": "of the siege: left out of `make test`",
}
_payload_key: pytest.StashKey[WorkerPayload] = pytest.StashKey()
_outcome_key = pytest.StashKey[Outcome]()


# ------------------------------------------------------------------------------------------------ session


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if is_in_conftest(pluginmanager):
        add_options(parser)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, object, object]:
    """Add the options after those of all plugins and conftest files, whose names stay theirs."""
    early_config.known_args_namespace.file_or_dir = files_and_folders(parser, args)
    try:
        return (yield)
    finally:
        add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """`--plan` replaces the session, so that nothing is collected and no worker starts.

    Runs after xdist's hook of this name, which determines the number of workers.
    """
    if not wants_plan(config) or config.option.help:
        return None
    accept_any_character()
    try:
        with stopping_on_signals(), readable_errors("study"):
            return 0 if plan_only(config) else 1
    except pytest.Session.Failed:
        return 1
    except KeyboardInterrupt:
        print("capvec: interrupted")
        return 2


@pytest.hookimpl(specname="pytest_cmdline_main", tryfirst=True)
def pytest_cmdline_loop(config: pytest.Config) -> None:
    """Refuse `--looponfail`, which replaces the session too."""
    with readable_errors("study"):
        if requested_study(config.option.markexpr) and not config.option.help:
            refuse_loop(config)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare the study in the controller before xdist starts workers; read its payload in a worker."""
    config = session.config
    with readable_errors("study"):
        name = requested_study(config.option.markexpr)
    if name is None:
        return
    signals = ExitStack()
    signals.enter_context(stopping_on_signals())
    config.add_cleanup(signals.close)  # after every other cleanup
    with readable_errors(name):
        config.stash[_payload_key] = prepared(name, config)
    if not config.option.collectonly:
        config.pluginmanager.register(TrialItems(), "capvec-items")


def pytest_keyboard_interrupt() -> None:
    stop_arrived()


# ------------------------------------------------------------------------------------------------ collection


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the suite unless its mark is asked for, and of the suite the other study's file.

    Nothing else in the package holds tests, so `--pyargs capvec` need not search hundreds of task folders.
    """
    beside = collection_path.parent in {SUITE.parent, SUITE.parent.parent}
    if beside and collection_path not in {SUITE, SUITE.parent}:
        return True
    # The file, and not only its folder: pytest never ignores a folder that was named on the command line.
    if SUITE not in {collection_path, collection_path.parent}:
        return None
    name = requested_study(config.option.markexpr)
    return None if name and (collection_path == SUITE or _study_of(collection_path) == name) else True


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Collect the suite's files under any setting of `python_files`."""
    collectors = yield
    if not collectors and file_path.parent == SUITE and file_path.match("test_*.py"):
        return [pytest.Module.from_parent(parent, path=file_path)]
    return collectors


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
    from capvec.engines.client import EngineClient  # noqa: PLC0415 (slow)

    payload = request.config.stash[_payload_key]
    with EngineClient(payload.engine_url, payload.engine_token) as client:
        yield client


@pytest.fixture(scope="session")
def direction(request: pytest.FixtureRequest) -> Direction:
    """The study's direction, float32 `[n_layers, d_model]`, read once per session."""
    loaded: Direction = request.config.stash[_payload_key].direction()
    return loaded


@pytest.fixture(scope="session")
def run_trial(request: pytest.FixtureRequest, engine: EngineClient) -> Iterator[TrialRepeater]:
    """Runs trials of the plan with the study's engine and Docker, again where these fail."""
    trials = request.config.stash[_payload_key].trials(engine)
    yield trials
    trials.runner.close()


@pytest.fixture
def outcome(request: pytest.FixtureRequest, run_trial: TrialRepeater) -> Outcome:
    """The outcome of the trial that the test is parametrised with.

    The test is skipped if its config has stopped, or if the session stops because the instrument is out.
    """
    from capvec.results.stopped import why_stopped  # noqa: PLC0415 (slow)

    spec: TrialSpec = request.param
    runner = run_trial.runner
    if spec.id not in runner.finished and (why := why_stopped(runner.plan, spec.id)) is not None:
        pytest.skip(why)
    result = run_trial.run_unless_stopped(spec, following(request.node))
    if stopped := run_trial.instrument.notice.reason:
        request.session.shouldfail = stopped
    if result is None:
        pytest.skip(stopped)
    request.node.stash[_outcome_key] = result
    if result.outcome == "error":
        raise InfrastructureError(result.error)
    return result


# ------------------------------------------------------------------------------------------------ test reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the outcome, as JSON, to the report of the phase that produced it."""
    report = yield
    payload = item.config.stash.get(_payload_key, None)
    if item.path.parent != SUITE or call.when == "teardown" or payload is None:
        return report
    result = item.stash.get(_outcome_key, None)
    no_fault = (KeyboardInterrupt, pytest.skip.Exception)
    if result is None and call.excinfo is not None and not call.excinfo.errisinstance(no_fault):
        spec: TrialSpec = item.callspec.params["outcome"]  # type: ignore[attr-defined]
        config = payload.plan.config(spec.config)
        result = error_outcome(payload.plan.run, spec, config, call.excinfo.exconly())
        result = item.stash[_outcome_key] = replace(result, session=payload.plan.session)
    if result is not None and (report.failed or call.when == "call"):
        report.capvec = result.to_json()  # type: ignore[attr-defined]
        item.user_properties[:] = [
            (key, printable(value) if isinstance(value, str) else value)
            for key, value in result.to_json().items()
            if value is not None
        ]
        if report.failed and call.excinfo is not None and call.excinfo.errisinstance(InfrastructureError):
            report.longrepr = printable(result.error)
            # The headline in pytest's section of errors: the trial, since all trials share one test function.
            report.location = (*report.location[:2], result.trial)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """A trial reads solved, unsolved or error."""
    result = getattr(report, "capvec", None)
    if result is None:
        return None
    status = result["outcome"]
    return status, {"solved": "S", "unsolved": "u", "error": "E"}[status], status.upper()


def _study_of(file: Path) -> str:
    """The study that a file of the suite runs."""
    return file.stem.removeprefix("test_")
