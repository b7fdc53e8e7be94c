"""What the ranks measured is fetched for all replies that ended meanwhile in one call."""

from __future__ import annotations

import asyncio

import pytest

from capvec.engines.vllm.collected import Collected
from capvec.errors import EngineUnavailable

pytestmark = pytest.mark.unit


class Ranks:
    """Two ranks that answer when they are let."""

    def __init__(self):
        self.asked, self.open = [], asyncio.Event()

    async def __call__(self, keys):
        self.asked.append(keys)
        await self.open.wait()
        if "bad" in keys:
            raise EngineUnavailable("a rank does not answer")
        return [{key: {"rank": rank, "key": key} for key in keys} for rank in range(2)]


def test_replies_that_end_at_once_share_a_call_which_does_not_wait_for_the_one_before():
    async def run():
        ranks = Ranks()
        collected = Collected(ranks)
        waiting = [asyncio.ensure_future(collected.of("first"))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting += [asyncio.ensure_future(collected.of(key)) for key in ("second", "third")]
        collected.discard("given up")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked = list(ranks.asked)
        ranks.open.set()
        return asked, await asyncio.gather(*waiting)

    asked, answers = asyncio.run(run())
    assert [set(keys) for keys in asked] == [{"first"}, {"second", "third", "given up"}]
    assert answers[2] == [{"rank": 0, "key": "third"}, {"rank": 1, "key": "third"}]


def test_a_call_that_fails_fails_its_replies_and_no_later_ones():
    async def run():
        ranks = Ranks()
        ranks.open.set()
        collected = Collected(ranks)
        with pytest.raises(EngineUnavailable, match="does not answer"):
            await collected.of("bad")
        return await collected.of("good")

    assert len(asyncio.run(run())) == 2
