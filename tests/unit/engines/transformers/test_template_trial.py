"""A first rendering of a chat template, in a process with bounds."""

from __future__ import annotations

import subprocess

import pytest
from support.tiny_models import CHATML, byte_tokenizer

from capvec.errors import UsageError

pytestmark = pytest.mark.unit

LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path))


def tried(template):
    from capvec.engines.transformers.template_trial import tried_template

    return tried_template(byte_tokenizer(template), "the model", seconds=1)


@pytest.mark.parametrize(
    "template",
    [
        LOOPS,
        CHATML + "{% if add_generation_prompt %}" + LOOPS + "{% endif %}",
        "{{ 'a' * 10**10 }}",
        "{% macro again() %}{{ again() ~ again() }}{% endmacro %}" + LOOPS,
        "{% set n = namespace(s='a' * 1000) %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
    ],
)
def test_a_template_without_bounds_is_one_sentence(template):
    with pytest.raises(
        UsageError, match=r"the chat template of 'the model' cannot render a conversation of 200 messages"
    ):
        tried(template)


def test_a_template_that_went_well_is_not_tried_again(monkeypatch):
    found = tried(CHATML)
    monkeypatch.setattr(subprocess, "run", None)
    assert tried(CHATML).info == found.info


def test_what_a_template_refuses_is_told_as_before():
    with pytest.raises(UsageError, match="no system"):
        tried("{{ raise_exception('no system, no user') }}")
