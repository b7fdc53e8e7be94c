"""What residuals depend on, besides the conversation."""

import pytest

from capvec.directions.capture import engine_identity
from capvec.engines.protocol import ChatTemplateInfo, EngineInfo

pytestmark = pytest.mark.unit


def identity(**found):
    return engine_identity(
        EngineInfo("m", "r", "A", 2, 8, 64, "float32", "cpu", "0", template=ChatTemplateInfo(**found))
    )


def test_residuals_of_another_rendering_are_not_taken_from_the_cache():
    found = [{}, {"system": "refused"}, {"system": "dropped-after-reply"}, {"switch": "thinking"}]
    assert len({identity(**one) for one in found}) == len(found)
    # What is captured does not depend on these.
    assert identity() == identity(alternates=True) == identity(thinks=True)
