"""A regular expression over the tokens of a model: every way through it is a match, and ends within its room."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.engines.transformers import automaton
from capvec.errors import UsageError

pytestmark = pytest.mark.unit
STOP = 999
PAIRS = ["ab", "``", "```", "\n`", " a", "bc\n", "é"]
WORDS = {bytes([byte]): [byte] for byte in range(256)} | {
    pair.encode(): [256 + place, 300 + place] for place, pair in enumerate(PAIRS)
}
SAYS = {token: word for word, tokens in WORDS.items() for token in tokens}
REGEXES = ("(?:a|bc)*d", r"[^`]*```\n[^`\n]+\n```", "é{2,3}|x", "DONE")


@pytest.fixture(scope="module", params=REGEXES)
def made(request):
    return request.param, automaton.compiled(request.param, WORDS, STOP)


@settings(max_examples=150)
@given(data=st.data(), more=st.integers(0, 12))
def test_every_way_through_it_matches_and_ends_within_its_room(made, data, more):
    regex, found = made
    room, state, said = int(found.needs[0]) + more, 0, b""
    while True:
        allowed = [*found.allowed(state, room).tolist(), *([STOP] if found.needs[state] == 1 else [])]
        assert allowed  # it never gets stuck
        token = data.draw(st.sampled_from(sorted(allowed)))
        room -= 1
        assert room >= 0
        if token == STOP:
            break
        state, said = found.after(state, token), said + SAYS[token]
    assert re.fullmatch(regex, said.decode())


def test_with_room_every_match_is_allowed_in_each_of_its_spellings():
    found = automaton.compiled("ab+", WORDS, STOP)
    assert set(found.allowed(0, 50)) == {ord("a"), 256, 300}
    assert found.after(0, 256) == found.after(0, 300)
    assert set(found.allowed(0, 2)) == {256, 300}  # `ab` in one token, and the end
    assert found.needs[0] == 2


@pytest.mark.parametrize(
    ("regex", "words"),
    [("(((", WORDS), ("a(?=b)", WORDS), ("xyz", {b"a": [1]}), (r"[^\x00-\U0010ffff]", WORDS)],
)
def test_what_cannot_constrain_a_model_is_refused_in_one_sentence(regex, words):
    with pytest.raises(UsageError, match="cannot constrain this model's replies") as caught:
        automaton.automaton_of(regex, words, STOP)
    assert "\n" not in str(caught.value)


def test_an_automaton_without_bound_ends_its_own_process_alone():
    before = time.monotonic()
    with pytest.raises(UsageError, match="its automaton is too large"):
        automaton.automaton_of("(a|b)*a(a|b){40}", WORDS, STOP, seconds=3)
    assert time.monotonic() - before < 60


def test_an_automaton_that_nobody_waits_for_any_more_is_given_up():
    with pytest.raises(automaton.GivenUpError):
        automaton.automaton_of("(a|b)*a(a|b){40}", WORDS, STOP, given_up=lambda: True)


def test_a_process_that_starts_slowly_gets_all_that_it_was_given(monkeypatch):
    monkeypatch.setattr(automaton, "LOOK_S", 0.001)  # every look comes before the process reads
    words = WORDS | {f"word {n}".encode(): [1000 + n] for n in range(50_000)}  # more than a pipe holds
    end = time.monotonic() + 60
    found = automaton.automaton_of("(?:a|bc)*d", words, STOP, given_up=lambda: time.monotonic() > end)
    assert len(found.tokens) == len(automaton.compiled("(?:a|bc)*d", WORDS, STOP).tokens)


def test_the_process_makes_what_this_one_makes():
    here, there = automaton.compiled("(?:a|bc)*d", WORDS, STOP), automaton.automaton_of("(?:a|bc)*d", WORDS, STOP)
    assert all((one == other).all() for one, other in zip(vars(here).values(), vars(there).values(), strict=True))
