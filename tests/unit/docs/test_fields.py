"""The page on `capvec serve` names every field that a request may have."""

from __future__ import annotations

import ast

import pytest
from support import REPOSITORY

from capvec.engines.chat_requests import parse_chat, parse_text
from capvec.engines.checks import RequestError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("parse", [parse_chat, parse_text])
def test_every_field_that_is_taken_is_on_the_page(parse):
    with pytest.raises(RequestError, match="unknown fields") as refused:
        parse(b'{"nope": 1}', 4)
    known = ast.literal_eval(str(refused.value).partition("expected some of ")[2])
    assert len(known) > 20
    page = (REPOSITORY / "docs/guides/serve.md").read_text()
    assert [name for name in known if f"`{name}`" not in page] == []
