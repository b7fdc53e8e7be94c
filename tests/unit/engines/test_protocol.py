"""What an engine says of its model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capvec.engines.protocol import ChatTemplateInfo, EngineInfo

pytestmark = pytest.mark.unit
INFO = EngineInfo("m", None, "Phi3", 2, 4, 64, "float32", "cpu", "0")


def test_a_limited_context_is_said_before_what_the_template_needs():
    template = ChatTemplateInfo(blank=" ")
    limited = replace(INFO, context_limit="It is short.", template=template)
    assert limited.in_words(None) == ("It is short.", *template.in_words(None))
    assert INFO.in_words(None) == ()
