"""The check of the trials' marks in every process that collects them; in a worker, it reaches the controller."""

from __future__ import annotations

import pytest

from capvec.errors import UsageError
from capvec.pytest_plugin.other_plugins import refuse_marks


class MarksOfTrials:
    """Registered for one session, in the controller and in each worker."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Refuse marks, once every plugin has added its own and before xdist's worker says that it is ready."""
        try:
            refuse_marks(session.items)
        except UsageError as error:
            if not hasattr(session.config, "workerinput"):
                raise pytest.UsageError(str(error)) from None
            # A worker that raises would be taken for one that crashed.
            report = pytest.CollectReport(session.nodeid, "failed", str(error), [], capvec_refused=str(error))
            session.config.hook.pytest_collectreport(report=report)
