"""Which study the `-m` of a session asks for."""

import pytest

from capvec.errors import UsageError
from capvec.pytest_plugin.preparation import requested_study

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("expression", ["sweep", "sweep and not gpu", "sweep or unit"])
def test_an_expression_that_selects_because_of_the_mark_asks_for_the_sweep(expression):
    assert requested_study(expression) == "sweep"
    assert requested_study(expression.replace("sweep", "calibration")) == "calibration"


@pytest.mark.parametrize("expression", ["", "unit", "not sweep", "not unit", "sweep and gpu"])
def test_an_expression_that_would_select_anyway_or_never_does_not_ask_for_it(expression):
    assert requested_study(expression) is None
    assert requested_study(expression.replace("sweep", "calibration")) is None


def test_two_studies_in_one_session_are_refused():
    with pytest.raises(UsageError, match="one of them at a time"):
        requested_study("sweep or calibration")
