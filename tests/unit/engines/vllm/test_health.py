"""Whether vLLM still works."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from capvec.engines.vllm.health import trouble
from capvec.engines.vllm.replicas import Replica

pytestmark = pytest.mark.unit


@dataclass
class Working:
    died: str = ""
    busy: int = 0
    requests: tuple[int, ...] = (1,)

    def __post_init__(self):
        self.replicas = [Replica(number, requests) for number, requests in enumerate(self.requests)]

    def step(self):
        for replica in self.replicas[: self.busy]:
            replica.steps += 1


def looked_at(engine, *, looks=40):
    """What is said of an engine whose server ends after so many looks."""

    async def serve():
        for _ in range(looks):
            engine.step()
            await asyncio.sleep(0.005)

    async def run():
        serving = asyncio.ensure_future(serve())
        said = await trouble(serving, engine, every_s=0.001, stalled_s=0.05)
        serving.cancel()
        return said

    return asyncio.run(run())


def test_the_end_of_the_server_is_no_trouble():
    assert looked_at(Working(), looks=2) == ""


def test_a_process_that_died_ends_the_engine_at_once():
    assert looked_at(Working(died="EngineCore_DP1")) == "a process of vLLM died: EngineCore_DP1"


def test_no_step_while_replies_are_waited_for_ends_it():
    assert looked_at(Working()) == "vLLM has made no step for 0.05 s"


def test_no_step_of_one_copy_of_the_model_ends_it_while_the_other_goes_on():
    assert looked_at(Working(busy=1, requests=(1, 1))) == "vLLM has made no step in copy 1 of 2 for 0.05 s"


@pytest.mark.parametrize(
    "engine",
    [Working(requests=(0,)), Working(busy=1), Working(busy=1, requests=(1, 0))],
    ids=["idle", "busy", "one of two"],
)
def test_an_engine_that_has_nothing_to_do_or_goes_on_is_not_stalled(engine):
    assert looked_at(engine) == ""
