"""What is opened before its turn and closed after it: everything once, and no fault is lost or invented."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import SandboxUnavailable, StorageExceeded
from capvec.sandbox.ahead import Ahead

pytestmark = pytest.mark.unit
LIMIT_S = 10


class Opened:
    """One of the things that are opened."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.gone = False

    def check(self) -> None:
        if self.gone:
            raise SandboxUnavailable("gone")


class Things:
    """Opens things, and counts."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.closed = Counter[Opened]()
        self.threads = dict[Opened, tuple[int, int]]()
        """In which a thing was opened and closed."""
        self.faults = list[Exception]()
        """What the next openings raise."""

    def opener(self, key: str):
        @contextmanager
        def context():
            if self.faults:
                raise self.faults.pop(0)
            thing, opened_in = Opened(key), threading.get_ident()
            self.opened.append(thing)
            try:
                yield thing
            finally:
                self.closed[thing] += 1
                self.threads[thing] = opened_in, threading.get_ident()

        return context


@pytest.fixture
def things():
    return Things()


def always() -> bool:
    return True


def wait_for(condition) -> None:
    event = threading.Event()
    for _ in range(100 * LIMIT_S):
        if condition():
            return
        event.wait(0.01)
    raise AssertionError("it did not come")


def test_what_was_expected_is_opened_and_closed_in_another_thread(things) -> None:
    ahead, here = Ahead[str, Opened](1), threading.get_ident()
    ahead.expect("a", things.opener("a"), only_if=always)
    with ahead.open("a", things.opener("a")) as thing:
        assert thing.key == "a"
    ahead.close()
    assert things.opened == [thing]
    assert things.closed == {thing: 1}
    assert here not in things.threads[thing]


def test_what_was_not_expected_or_may_not_wait_is_opened_in_its_turn(things) -> None:
    ahead, here = Ahead[str, Opened](1), threading.get_ident()
    ahead.expect("a", things.opener("a"), only_if=lambda: False)
    for key in ("a", "b"):
        with ahead.open(key, things.opener(key)) as thing:
            pass
        wait_for(lambda thing=thing: thing in things.threads)
        opened_in, closed_in = things.threads[thing]
        assert opened_in == here != closed_in
    ahead.close()
    assert len(things.opened) == 2


def test_what_fails_ahead_is_opened_anew_in_its_turn_where_a_fault_is_met(things) -> None:
    ahead = Ahead[str, Opened](1)
    things.faults = [SandboxUnavailable("once")]
    ahead.expect("a", things.opener("a"), only_if=always)
    with ahead.open("a", things.opener("a")) as thing:
        assert things.opened == [thing]
    things.faults = [SandboxUnavailable("once"), SandboxUnavailable("again")]
    ahead.expect("b", things.opener("b"), only_if=always)
    with pytest.raises(SandboxUnavailable, match="again"), ahead.open("b", things.opener("b")):
        pass
    ahead.close()
    assert things.closed == {thing: 1}


def test_what_is_gone_by_its_turn_is_closed_and_opened_anew(things) -> None:
    ahead = Ahead[str, Opened](1)
    ahead.expect("a", things.opener("a"), only_if=always)
    wait_for(lambda: things.opened)
    things.opened[0].gone = True
    with ahead.open("a", things.opener("a")) as thing:
        assert not thing.gone
    ahead.close()
    assert things.closed == dict.fromkeys(things.opened, 1)
    assert len(things.opened) == 2


def test_where_too_many_would_wait_those_that_wait_longest_are_closed(things) -> None:
    ahead = Ahead[str, Opened](2)
    for key in "abcde":
        ahead.expect(key, things.opener(key), only_if=always)
    wait_for(lambda: len(things.opened) == 5 and things.closed.total() == 3)
    assert {thing.key for thing in things.opened if not things.closed[thing]} == {"d", "e"}
    ahead.close()
    assert things.closed == dict.fromkeys(things.opened, 1)


@pytest.mark.parametrize("expected", [False, True])
def test_a_fault_closes_at_once_and_may_become_another_one(expected) -> None:
    @contextmanager
    def turning():
        try:
            yield Opened("a")
        except SandboxUnavailable as fault:
            raise StorageExceeded("too much") from fault

    ahead = Ahead[str, Opened](1)
    if expected:
        ahead.expect("a", turning, only_if=always)
    with pytest.raises(StorageExceeded), ahead.open("a", turning):
        raise SandboxUnavailable("gone")
    ahead.close()


def test_whoever_stops_while_waiting_leaves_nothing_open(things, monkeypatch) -> None:
    ahead, began, goes_on = Ahead[str, Opened](1), threading.Event(), threading.Event()

    def when_told() -> bool:
        began.set()
        return goes_on.wait(LIMIT_S)

    ahead.expect("a", things.opener("a"), only_if=when_told)
    assert began.wait(LIMIT_S)

    wait = Future.result

    def interrupted(future, timeout=None):
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        return wait(future, timeout)

    with monkeypatch.context() as patched:
        patched.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(KeyboardInterrupt), ahead.open("a", things.opener("a")):
            pass
    goes_on.set()
    ahead.close()
    assert things.closed == dict.fromkeys(things.opened, 1)
    assert len(things.opened) == 1


@given(
    at_most=st.integers(0, 3),
    actions=st.lists(st.tuples(st.sampled_from(["expect", "use", "fail"]), st.sampled_from("abcd")), max_size=25),
)
def test_everything_that_is_opened_is_closed_once(at_most, actions) -> None:
    things, ahead = Things(), Ahead[str, Opened](at_most)
    for action, key in actions:
        if action == "expect":
            ahead.expect(key, things.opener(key), only_if=always)
            continue
        try:
            with ahead.open(key, things.opener(key)) as thing:
                assert thing.key == key
                assert not things.closed[thing]
                if action == "fail":
                    raise SandboxUnavailable("fault")
        except SandboxUnavailable:
            assert action == "fail"
    ahead.close()
    ahead.expect("a", things.opener("a"), only_if=always)
    assert things.closed == dict.fromkeys(things.opened, 1)
