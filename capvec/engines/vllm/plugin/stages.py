"""What a stage of a pipeline hands on to the next one, beside the residual.

With pipeline parallelism each stage holds some of the blocks, one after the other. The output of the last of them
arrives in the next stage and is measured there: against what was kept of it before it was steered, and as rows of the
tokens that the first stage has read.
"""

from __future__ import annotations

from typing import Any

from vllm.sequence import IntermediateTensors

from capvec.engines.vllm.plugin.buffers import Buffers

IDS, STASH = "capvec_ids", "capvec_stash"
"""Names among the tensors that vLLM sends."""


def pass_on(runner: Any, buffers: Buffers, *, stashed: bool) -> None:
    """Let a runner send these buffers along to the next stage, and take what the stage before has sent.

    Args:
        runner: vLLM's model runner, of its first version.
        buffers: of this stage.
        stashed: whether there is a site at the last block here.
    """
    execute, gather = runner.execute_model, runner.sync_and_gather_intermediate_tensors

    def execute_model(*args: Any, **kwargs: Any) -> Any:
        answer = execute(*args, **kwargs)
        if not isinstance(answer, IntermediateTensors):
            return answer
        count = len(answer["hidden_states"])
        own = {IDS: buffers.ids[:count]} | ({STASH: buffers.stash[:count]} if stashed else {})
        return IntermediateTensors({**answer.tensors, **own})

    def sync_and_gather_intermediate_tensors(count: int, arrived: Any, *args: Any, **kwargs: Any) -> Any:
        if arrived is not None:
            for name, buffer in ((IDS, buffers.ids), (STASH, buffers.stash)):
                if (sent := arrived.tensors.pop(name, None)) is not None:
                    buffer[: len(sent)].copy_(sent, non_blocking=True)
        return gather(count, arrived, *args, **kwargs)

    runner.execute_model = execute_model
    runner.sync_and_gather_intermediate_tensors = sync_and_gather_intermediate_tensors
