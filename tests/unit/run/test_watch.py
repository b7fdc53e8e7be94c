"""What the watch says of Docker and the engine, and what it does for an engine that came back."""

from __future__ import annotations

import threading

import pytest
from support.scripted_sandbox import OnOneHost

from capvec.engines.protocol import EngineState
from capvec.errors import EngineUnavailable, SandboxUnavailable
from capvec.run import watch as watching
from capvec.run.instrument import Notice, Patience
from capvec.run.watch import SAID_AFTER_S, EngineLook, Sight, Watch, docker_look

pytestmark = pytest.mark.unit

WEIGHTS = ("m", None, "float32")


class Engine:
    """As a client sees it: a script of states, `None` for one that does not tell, and exceptions."""

    def __init__(self, *states) -> None:
        self._states, self.restored = list(states), []

    def check(self, weights):
        assert weights == WEIGHTS
        if isinstance(self._states[0], Exception):
            raise self._states.pop(0)

    def state(self):
        return self._states.pop(0)

    def restore_directions(self, held=()):
        self.restored.append(tuple(held))


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def state(steps, requests=1, directions=("d",)):
    return EngineState(directions, requests, steps)


def test_an_engine_with_requests_that_takes_no_step_is_said_after_some_seconds(clock):
    look, sight = EngineLook(Engine(*map(state, (7, 8, 8, 8, 9))), WEIGHTS, Notice(None)), Sight("engine", clock)
    words = []
    for _ in range(5):
        look(sight)
        words.append(sight.words)
        clock.now += 6
    assert words == ["", "", "the engine has made no token for 6 s", "the engine has made no token for 12 s", ""]


def test_an_engine_without_requests_may_stand_still(clock):
    look, sight = EngineLook(Engine(*[state(7, requests=0)] * 5), WEIGHTS, Notice(None)), Sight("engine", clock)
    for _ in range(5):
        look(sight)
        clock.now += 60
    assert sight.words == ""


def test_an_engine_gets_the_directions_that_it_lacks(clock):
    engine = Engine(state(1), state(0, directions=()))
    look, sight = EngineLook(engine, WEIGHTS, Notice(None)), Sight("engine", clock)
    look(sight)
    look(sight)
    assert engine.restored == [("d",), ()]


def test_an_engine_that_does_not_tell_gets_all_directions_when_it_was_away(clock):
    engine = Engine(None, EngineUnavailable("refused"), None, None)
    look, sight = EngineLook(engine, WEIGHTS, Notice(None)), Sight("engine", clock)
    look(sight)
    with pytest.raises(EngineUnavailable):
        look(sight)
    sight.trouble("has not answered", clock.now)
    look(sight)
    look(sight)
    assert engine.restored == [()]


def test_a_silence_is_said_while_it_lasts_and_when_it_ends(monkeypatch):
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(watching, "TICK_S", 0.01)
    monkeypatch.setattr(watching, "SAID_AFTER_S", 0.05)
    out, said, told, drawn = threading.Event(), [], threading.Event(), threading.Event()
    out.set()

    class Provider(OnOneHost):
        def check(self):
            if out.is_set():
                raise SandboxUnavailable("refused")

    def say(line):
        said.append(line)
        told.set()

    watch = Watch(docker_look(Provider()), lambda _: None, Patience(docker_s=90))
    watch.start(say, drawn.set)
    assert told.wait(10)
    assert drawn.wait(10)
    assert watch.words().startswith("Docker has not answered for")
    told.clear()
    out.clear()
    assert told.wait(10)
    watch.stop()
    assert watch.words() == ""
    assert "wait up to 90 s" in said[0]
    assert said[1].startswith("Docker answers again")
    assert len(said) == 2


def test_a_question_without_an_answer_counts_from_when_it_was_put(clock):
    sight = Sight("Docker", clock)
    sight.asked = clock.now
    clock.now += SAID_AFTER_S - 1
    assert sight.words == ""
    clock.now += 10
    assert sight.words == "Docker has not answered for 14 s"
