"""A Docker that lies after the first look: every call ends in time, within bounds of memory, in one sentence."""

from __future__ import annotations

import base64
import copy
import io
import json
import os
import time
import tracemalloc
from itertools import repeat

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.odd_docker import INFO, odd_docker

from capvec.errors import CapvecError, SandboxUnavailable
from capvec.sandbox import docker_api, files
from capvec.sandbox.containers import ImageConfig, most_cpus
from capvec.sandbox.docker_host import DockerHost, Lifeline, connect, faults
from capvec.sandbox.images import pull
from capvec.sandbox.reaper import PID_LABEL, reap, remove
from capvec.sandbox.root_work import Origin
from capvec.sandbox.storage import watched

pytestmark = pytest.mark.unit

STATE = {"Status": "running", "Running": True, "Paused": False, "ExitCode": 0, "StartedAt": "2026-11-28T08:34:47.5Z"}
CONTAINER = {
    "Id": "a",
    "Image": "sha256:b",
    "State": STATE,
    "Config": {"Env": ["PATH=/bin"], "Labels": {"a": "b"}},
    "Mounts": [{"Destination": "/data"}],
}
IMAGE = {
    "Id": "sha256:b",
    "Architecture": "amd64",
    "Config": {"User": "", "Entrypoint": ["x"], "Env": ["A=1"]},
    "RootFS": {"Layers": ["sha256:c"]},
}
LISTED = [{"Id": "a", "State": "exited", "Labels": {PID_LABEL: "gone/1/2/3/4"}, "SizeRw": 5}]
VOLUMES = {"Volumes": [{"Name": "v", "Labels": {PID_LABEL: "gone/1/2/3/4"}}]}
NETWORKS = [{"Id": "n", "Labels": {PID_LABEL: "gone/1/2/3/4"}}]


def watch(client):
    with watched(client, "x", 1):
        pass


CALLS = {
    "an image": ({"json": IMAGE}, lambda client: ImageConfig.inspect(client, "x")),
    "a container": ({"json": CONTAINER}, lambda client: Origin.of(client, "x")),
    "the number of CPUs": ({"info": INFO}, lambda client: most_cpus(client, 4)),
    "all containers": (
        {"json": LISTED, "networks": NETWORKS, "volumes": VOLUMES},
        lambda client: reap(hosts=[client.host]),
    ),
    "their sizes": ({"json": LISTED}, watch),
    "what changed": (
        {"changes": [{"Path": "/a", "Kind": 0}]},
        lambda client: [one["Path"] for one in client.api.diff("x") or ()],
    ),
    "a program": (
        {"exec": {"Id": "e"}, "json": {"ExitCode": 0, "Running": False}},
        lambda client: client.api.exec_inspect("x")["ExitCode"],
    ),
    "a pull": ({"create": {"status": "Pulling"}, "json": IMAGE}, lambda client: pull(client, "x:1", "x", print)),
}
ODD = st.sampled_from([None, 0, -1, 2.5, "many", "", [], {}, [1], {"a": 1}, True, 10**30, "\x1b[2J", [[]], [None]])
JSON = st.recursive(
    ODD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def places(value, way=()):
    yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*way, key))


def changed(value, way, odd):
    if not way:
        return odd
    value = copy.copy(value)
    value[way[0]] = changed(value[way[0]], way[1:], odd)
    return value


def outcome(answers, call, timeout_s=20.0):
    """What came of a call: a value, or the one sentence of its error."""
    told = {
        what: one if callable(one) or isinstance(one, bytes | tuple) else json.dumps(one).encode()
        for what, one in answers.items()
    }
    with odd_docker(told) as address, connect(DockerHost(address), timeout_s=timeout_s) as client:
        try:
            with faults():
                return call(client)
        except CapvecError as error:
            said = str(error)
            assert said.isprintable()
            assert len(said) < 500
            return said


@pytest.mark.parametrize("what", CALLS)
def test_what_docker_says_is_read(what):
    answers, call = CALLS[what]
    found = outcome(answers, call)
    assert not isinstance(found, str) or found.startswith("sha256:"), found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_stands_in_any_place_of_an_answer_it_is_taken_or_refused_in_one_sentence(data):
    answers, call = CALLS[data.draw(st.sampled_from([*CALLS]))]
    what = data.draw(st.sampled_from([*answers]))
    way = data.draw(st.sampled_from([*places(answers[what])]))
    outcome(answers | {what: changed(answers[what], way, data.draw(JSON))}, call)


NO_ANSWERS = {
    "garbage": lambda: iter([b"\x00\xff no HTTP\r\n"]),
    "nothing": lambda: iter([]),
    "cut off": lambda: iter([b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"Id": ']),
    "no JSON": b"\xff\xfe{",
    "200,000 brackets": b"[" * 200_000,
    "status 500 and a list": (500, b"[1,2]"),
    "status 500 and escapes": (500, b'{"message": "\x1b[31mno"}'),
    "status 404 and a number": (404, b'{"message": 5}'),
    "a redirection": lambda: iter(
        [b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"]
    ),
    "a frame that is none": lambda: iter([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"]),
}


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("what", [what for what in CALLS if what != "their sizes"])
def test_what_is_no_answer_is_one_sentence(what, answer):
    answers, call = CALLS[what]
    assert isinstance(outcome(dict.fromkeys(answers, answer), call), str)


def http(value):
    body = json.dumps(value).encode()
    yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def endless():
    yield b'HTTP/1.1 200 OK\r\n\r\n"'
    yield from repeat(b"x" * 65_536)


def endless_error():
    yield b"HTTP/1.1 500 No\r\n\r\n"
    yield from repeat(b"x" * 65_536)


def slow(head):
    def answer():
        yield head
        while True:
            yield b" "
            time.sleep(0.1)

    return answer


UNBOUNDED = {
    "without an end": endless,
    "an error without an end": endless_error,
    "a byte at a time": slow(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a byte of the head at a time": slow(b"HTTP/1.1 200 OK\r\nX: "),
}


@pytest.mark.parametrize("answer", UNBOUNDED.values(), ids=UNBOUNDED)
def test_an_answer_without_bounds_ends_in_time(answer):
    answers, call = CALLS["a container"]
    began = time.monotonic()
    assert isinstance(outcome(dict.fromkeys(answers, answer), call, timeout_s=1.0), str)
    assert time.monotonic() - began < 10


def test_an_answer_without_an_end_takes_no_more_memory_than_its_bound(monkeypatch):
    monkeypatch.setattr(docker_api, "LARGEST", 4 << 20)
    tracemalloc.start()
    try:
        assert "more than 4 MiB" in outcome({"json": endless}, CALLS["a container"][1])
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def archive(properties, body=b""):
    """The answer to a question for an archive."""
    stat = base64.b64encode(properties if isinstance(properties, bytes) else json.dumps(properties).encode()).decode()
    head = f"HTTP/1.1 200 OK\r\nX-Docker-Container-Path-Stat: {stat}\r\n\r\n".encode()

    def answer():
        yield head
        yield from body() if callable(body) else [body]

    return answer


STAT = {"name": "f", "size": 5, "mode": 420, "linkTarget": ""}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*places(STAT)]), JSON, st.binary(max_size=40))
@example(("name",), "f", b"\x1f\x8b")  # gzip's mark: an archive of Docker's is not compressed
def test_whatever_the_properties_and_the_archive_of_a_file_hold_it_is_refused_in_one_sentence(way, odd, body):
    answers = {"archive": archive(changed(STAT, way, odd), body)}
    for call in (files.read, files.size_of, files.is_folder, files.fetch):
        outcome(answers, lambda client, call=call: call(client.api, "x", "/f"))


@pytest.mark.parametrize("properties", [b"", b"{", b"[]", b"\xff"])
def test_properties_that_are_no_json_object_are_one_sentence(properties):
    for call in (files.read, files.size_of):
        assert "Docker failed: its " in str(
            outcome({"archive": archive(properties)}, lambda client, call=call: call(client.api, "x", "/f"))
        )


def test_an_archive_of_a_small_file_that_does_not_end_is_left():
    answers = {"archive": archive(STAT, lambda: repeat(b"x" * 65_536))}
    assert "was to have less" in str(outcome(answers, lambda client: files.fetch(client.api, "x", "/f")))


def test_an_archive_that_comes_too_slowly_is_left():
    def drip():
        while True:
            yield b"x"
            time.sleep(0.1)

    began = time.monotonic()
    answers = {"archive": archive(STAT, drip)}
    said = outcome(answers, lambda client: files.fetch(client.api, "x", "/f"), timeout_s=1.0)
    assert "of a stream in 1 s" in str(said)
    assert time.monotonic() - began < 10


def test_a_container_that_cannot_be_removed_since_docker_says_nonsense_is_left_to_the_next_run():
    for answer in (NO_ANSWERS["garbage"], NO_ANSWERS["nothing"], slow(b"")):
        assert outcome({"x": answer}, lambda client: remove(client, "x"), timeout_s=1.0) == 0


def test_events_of_which_there_are_none_are_waited_for_and_their_end_is_noticed():
    def silent():
        yield b"HTTP/1.1 200 OK\r\n\r\n"
        time.sleep(2)

    with odd_docker({"events": silent}) as address, connect(DockerHost(address), timeout_s=1.0) as client:
        lifeline = Lifeline(client)
        lifeline.check()
        time.sleep(1.5)
        lifeline.check()
        time.sleep(1.5)
        with pytest.raises(SandboxUnavailable, match="restarted"):
            lifeline.check()
        lifeline.close()


@pytest.mark.parametrize(
    ("ask", "sent"),
    [
        (lambda client: client.api.inspect_container("x"), 2),
        (lambda client: client.api.pause("x"), 2),
        (lambda client: client.api.put_archive("x", "/", io.BytesIO(b"archive")), 2),
        (lambda client: client.api.exec_start("x"), 1),
        (lambda client: client.api.pull("x", tag="1"), 1),
    ],
    ids=["inspect", "pause", "archive", "program", "pull"],
)
def test_that_docker_failed_by_itself_is_believed_where_it_says_so_twice(ask, sent):
    """A program is started anew by who wants it, and a pull is not tried for twice its time."""
    asked = []

    def answer():
        asked.append(1)
        yield b'HTTP/1.1 500 No\r\nContent-Length: 17\r\n\r\n{"message": "no"}'

    said = outcome(dict.fromkeys(["json", "pause", "archive", "start", "create"], answer), ask)
    assert (said, len(asked)) == ("Docker failed: no", sent)


def test_what_docker_failed_once_goes_on():
    answers = iter([lambda: iter([b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"])])

    def answer():
        yield from next(answers, lambda: http(CONTAINER))()

    assert outcome({"json": answer}, CALLS["a container"][1]).image == CONTAINER["Image"]


class Changing(dict):
    """An environment from which another thread takes a variable while it is looked through, as pytest does."""

    def __iter__(self):
        raise KeyError("PYTEST_CURRENT_TEST")

    keys = items = __iter__


def test_a_variable_that_pytest_takes_away_stops_no_request(monkeypatch):
    with odd_docker({"json": json.dumps(CONTAINER).encode()}) as address, connect(DockerHost(address)) as client:
        monkeypatch.setattr(os, "environ", Changing(os.environ))
        assert client.api.inspect_container("x") == CONTAINER


def test_a_docker_behind_a_proxy_is_asked_through_it(monkeypatch):
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with odd_docker({}) as proxy, monkeypatch.context() as patch:
        patch.setenv("http_proxy", proxy.replace("tcp", "http"))
        with connect(DockerHost("tcp://docker.invalid:2375")) as client:
            assert client.said["ApiVersion"] == "1.41"
