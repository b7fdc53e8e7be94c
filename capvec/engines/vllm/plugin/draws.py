"""A prompt that takes several steps draws a token after each, and all but the last are taken back.

vLLM takes a draw back by the offset of the request's generator, which generators of a CPU do not have: a seeded request
whose prompt was cut would end the engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def take_back_by_state(runner: Any) -> None:
    """Let a runner of the CPU build set such generators back to the state before the draw.

    Args:
        runner: vLLM's model runner, of its first version.
    """
    sample, bookkeep = runner._sample, runner._bookkeeping_sync

    def _sample(*args: Any, **kwargs: Any) -> Any:
        partial = [(generator, generator.get_state()) for generator in _partial(runner).values()]
        answer = sample(*args, **kwargs)
        for generator, state in partial:
            generator.set_state(state)
        return answer

    def _bookkeeping_sync(*args: Any, **kwargs: Any) -> Any:
        batch, partial = runner.input_batch, _partial(runner)
        everyone = batch.generators
        batch.generators = {row: generator for row, generator in everyone.items() if row not in partial}
        try:
            return bookkeep(*args, **kwargs)
        finally:
            batch.generators = everyone

    runner._sample, runner._bookkeeping_sync = _sample, _bookkeeping_sync


def _partial(runner: Any) -> dict[int, Any]:
    """Row → generator, of requests whose prompt is not computed whole yet."""
    batch = runner.input_batch
    rows = np.flatnonzero(runner.discard_request_mask.np[: batch.num_reqs])
    return {int(row): batch.generators[int(row)] for row in rows if int(row) in batch.generators}
