"""The trials as items of pytest, in each process that has them: their marks are checked, and each knows the next."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from capvec.errors import UsageError
from capvec.pytest_plugin.other_plugins import parameter_of, refuse_marks
from capvec.records import TrialSpec

_next_key = pytest.StashKey[pytest.Item | None]()


class TrialItems:
    """Registered for one session, in the controller and in each worker."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Run a trial as with `--runxfail`: a mark that comes only now would make an error an expected failure."""
        item.stash[_next_key] = nextitem
        option = item.config.option
        given = option.runxfail
        option.runxfail = given or bool(parameter_of(item.nodeid))
        try:
            return (yield)
        finally:
            option.runxfail = given

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse marks, once every plugin has added its own and before xdist's worker says that it is ready.

        What a worker refuses reaches the controller.
        """
        try:
            refuse_marks(session.items)
        except UsageError as error:
            if not hasattr(session.config, "workerinput"):
                raise pytest.UsageError(str(error)) from None
            # A worker that raises would be taken for one that crashed.
            report = pytest.CollectReport(session.nodeid, "failed", str(error), [], capvec_refused=str(error))
            session.config.hook.pytest_collectreport(report=report)


def following(item: pytest.Item) -> TrialSpec | None:
    """The trial that this process runs after an item; None where there is none, or it is not known yet."""
    call = getattr(item.stash.get(_next_key, None), "callspec", None)
    spec = call.params.get("outcome") if call is not None else None
    return spec if isinstance(spec, TrialSpec) else None
