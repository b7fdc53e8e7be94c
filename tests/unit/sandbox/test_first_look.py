"""What answers in the place of a Docker, and is none, is refused in one sentence, within bounds of time and memory."""

from __future__ import annotations

import json
import time
import tracemalloc
from itertools import repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.odd_docker import INFO, VERSION, odd_docker

from capvec.errors import SandboxUnavailable
from capvec.sandbox import hosts
from capvec.sandbox.docker_host import DockerHost, check_docker
from capvec.sandbox.hosts import reach

pytestmark = pytest.mark.unit

NONSENSE = {
    "list": b"[]",
    "text": b'"x"',
    "null": b"null",
    "nothing of it": b"{}",
    "empty": b"",
    "200,000 brackets": b"[" * 200_000,
    "no UTF-8": b"\xff\xfe{",
    "status 500 and a list": (500, b"[1,2]"),
    "status 500 and escapes": (500, b'{"message": "\x1b[31mno"}'),
    "status 404": (404, b""),
}
ODD = st.sampled_from([None, 0, -1, 2.5, "many", "", [], {}, True, 10**30, float("nan"), float("inf"), "\x1b[2J"])


@pytest.mark.parametrize("what", ["version", "info"])
@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE)
def test_a_host_that_answers_nonsense_is_one_sentence_that_names_it(what, answer):
    with odd_docker({what: answer}) as address:
        refused(address)


@pytest.mark.parametrize(
    ("what", "key", "value", "said"),
    [
        ("info", "NCPU", "many", "'many': expected a whole number @ info.NCPU"),
        ("info", "NCPU", 0, "its info.NCPU is 0; expected at least 1"),
        ("version", "Arch", [], "expected a text @ version.Arch"),
        ("version", "Arch", "\x1b[2J", r"its version.Arch is \x1b[2J; expected a text that can be printed"),
        ("version", "ApiVersion", "auto", "its version.ApiVersion is auto; expected one such as 1.41"),
    ],
)
def test_the_field_that_is_odd_is_named(what, key, value, said):
    told = json.dumps({"version": VERSION, "info": INFO}[what] | {key: value}).encode()
    with odd_docker({what: told}) as address:
        assert said in refused(address)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([("version", key) for key in VERSION] + [("info", key) for key in INFO]), ODD)
def test_whatever_a_field_holds_the_host_is_taken_or_refused_in_one_sentence(place, odd):
    what, key = place
    told = json.dumps({"version": VERSION, "info": INFO}[what] | {key: odd}).encode()
    with odd_docker({what: told}) as address:
        try:
            with reach([address]) as found:
                assert next(iter(found)).cpus >= 1
        except SandboxUnavailable:
            refused(address)


@pytest.mark.parametrize("what", ["version", "info"])
def test_an_answer_without_an_end_takes_no_more_memory_than_its_bound(what):
    def endless():
        yield b'HTTP/1.1 200 OK\r\n\r\n"'
        yield from repeat(b"x" * 65_536)

    tracemalloc.start()
    try:
        with odd_docker({what: endless}) as address:
            assert f"its answer to GET /{what} has more than 4 MiB" in refused(address)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["in the head", "in the body"])
@pytest.mark.parametrize("what", ["version", "info"])
def test_an_answer_of_one_byte_at_a_time_is_waited_for_no_longer_than_said(what, head, monkeypatch):
    monkeypatch.setattr(hosts, "LOOK_S", 1.0)

    def slow():
        yield head
        while True:
            yield b"H"
            time.sleep(0.2)

    with odd_docker({what: slow}) as address:
        start = time.monotonic()
        assert f"it does not answer GET /{what} within 1 s" in refused(address)
        assert time.monotonic() - start < 10


def test_what_answers_as_docker_does_is_taken():
    with odd_docker({}) as address:
        assert check_docker(DockerHost(address)) == VERSION
        with reach([address]) as found:
            assert [(host.name, host.cpus) for host in found] == [(address, 2)]


def refused(address):
    """The sentence that refuses a host."""
    with pytest.raises(SandboxUnavailable) as caught, reach([address]):
        pass
    said = str(caught.value)
    assert said.startswith(f"the Docker host {address} does not answer")
    assert said.isprintable()
    assert len(said) < 900
    return said
