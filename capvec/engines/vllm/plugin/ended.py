"""What was measured of a reply leaves together with its last token, from the process of vLLM that schedules.

That process waits for each step of the model. A question of the server would wait with it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from vllm.v1.engine.core import EngineCore
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from capvec.engines.vllm.layout import KEY


def follow() -> None:
    """Extend vLLM's class, before its steps are bound."""
    for name in ("step", "step_with_batch_queue"):
        setattr(EngineCore, name, _sending(getattr(EngineCore, name)))


def _sending(step: Any) -> Any:
    @functools.wraps(step)
    def stepped(self: Any) -> Any:
        outputs, executed = step(self)
        # Workers in other processes answer only after the next step; the server asks them.
        steered = KEY in (self.vllm_config.additional_config or {})
        if outputs and steered and isinstance(self.model_executor, UniProcExecutor):
            _send(self, outputs)
        return outputs, executed

    return stepped


def _send(engine: Any, outputs: Mapping[int, Any]) -> None:
    """Put what the worker measured into the outputs of requests that have ended.

    One that takes part in a step under way is left out: the server asks for what was measured of it.
    """
    busy = {request for _, step, _ in engine.batch_queue or () for request in step.num_scheduled_tokens}
    ended = {
        one.request_id: one
        for each in outputs.values()
        for one in each.outputs
        if one.finish_reason is not None and one.request_id not in busy
    }
    if ended:
        (measured,) = engine.model_executor.collective_rpc("capvec_ended", args=(list(ended),))
        for request, found in measured.items():
            ended[request].kv_transfer_params = {KEY: [found]}
