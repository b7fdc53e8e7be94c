"""Tiny random models of sizes that vLLM's attention takes on a CPU, and vLLM engines in the test's own process."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from capvec.engines.vllm.layout import KEY
from capvec.engines.vllm.measured import Measured, receipts, residuals
from capvec.receipts import check_finite, check_receipts, closed_forms
from capvec.records import Config, Reply
from capvec.steering import BlockLayout, Steer, direction_hash, vector_hash
from support.tiny_models import CHATML, byte_tokenizer

LAYERS, WIDTH = 4, 64
SIZES: dict[str, Any] = {
    **{"hidden_size": WIDTH, "intermediate_size": 128, "num_hidden_layers": LAYERS, "max_position_embeddings": 2048},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32},
    **{"initializer_range": 0.2, "tie_word_embeddings": False},
}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {}),
    "gemma3": (
        "Gemma3ForCausalLM",
        "Gemma3TextConfig",
        {"sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    ),
    "qwen3-moe": (
        "Qwen3MoeForCausalLM",
        "Qwen3MoeConfig",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
}
"""Classes of transformers for the model and its config, and what the config has besides `SIZES`."""


def save_tiny(folder: Path, architecture: str) -> Path:
    """Save a model of one of `ARCHITECTURES` into `folder`, float32, with a byte-level tokenizer."""
    import torch
    import transformers

    model, config, more = ARCHITECTURES[architecture]
    tokenizer = byte_tokenizer(CHATML)
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(vocab_size=len(tokenizer), **SIZES, **more))
    made.generation_config.eos_token_id = tokenizer.eos_token_id
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def vectors(seed: int) -> np.ndarray:
    """A direction, `[LAYERS, WIDTH]`, that is long enough to change what a tiny model says."""
    return (np.random.default_rng(seed).normal(size=(LAYERS, WIDTH)) * 3 / 8).astype("<f4")


def prompt(seed: int, length: int) -> list[int]:
    """Random tokens."""
    return np.random.default_rng(100 + seed).integers(0, 250, length).tolist()


@dataclass(frozen=True)
class Asked:
    """One request."""

    tokens: list[int]
    steers: tuple[Steer, ...] = ()
    salt: str | None = None
    """By default the steers."""
    assistant: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    asked: Asked
    tokens: list[int]
    logprob: float
    """Of the first token."""
    cached: int
    ranks: list[dict[str, Any]]

    @property
    def measured(self) -> Measured:
        return receipts(self.asked.steers, self.ranks, prompt=self.asked.tokens, drawn=self.tokens)


@dataclass
class Engine:
    """A vLLM engine that capvec steers."""

    llm: Any
    directions: dict[str, np.ndarray] = field(default_factory=dict)
    asked: int = 0

    def put(self, direction: np.ndarray) -> str:
        name = direction_hash(direction)
        answers = self.llm.collective_rpc("capvec_put_direction", args=(name, direction.tobytes()))
        assert set(answers) == {name}
        self.directions[name] = direction
        return name

    def run(self, batch: Sequence[Asked], *, new: int = 6) -> list[Answer]:
        """Serve requests at once."""
        from vllm import SamplingParams, TokensPrompt

        keys = [f"key {self.asked + number}" for number in range(len(batch))]
        self.asked += len(batch)
        prompts, params = [], []
        for key, one in zip(keys, batch, strict=True):
            steers = [steer.to_json() for steer in one.steers]
            extra = {"key": key, "steers": steers, **({"assistant": one.assistant} if one.assistant else {})}
            salt = one.salt or json.dumps(steers)
            prompts.append(TokensPrompt(prompt_token_ids=one.tokens, cache_salt=salt))
            params.append(
                SamplingParams(temperature=0, max_tokens=new, ignore_eos=True, logprobs=1, extra_args={KEY: extra})
            )
        outs = self.llm.generate(prompts, params, use_tqdm=False)
        ranks = self._sent_or_asked(outs, keys, "capvec_receipts")
        return [
            Answer(one, list(out.outputs[0].token_ids), first(out), out.num_cached_tokens, found)
            for one, out, found in zip(batch, outs, ranks, strict=True)
        ]

    def capture(self, tokens: list[int], spans: list[tuple[int, int]]) -> np.ndarray:
        """Residuals of every layer, averaged over these positions, `[LAYERS, WIDTH]`."""
        from vllm import SamplingParams, TokensPrompt

        params = SamplingParams(
            max_tokens=1, skip_reading_prefix_cache=True, extra_args={KEY: {"key": "capture", "capture": spans}}
        )
        outs = self.llm.generate([TokensPrompt(prompt_token_ids=tokens)], [params], use_tqdm=False)
        (ranks,) = self._sent_or_asked(outs, ["capture"], "capvec_captured")
        chosen = sum(end - start for start, end in spans)
        return residuals(ranks, chosen, LAYERS, WIDTH)

    def _sent_or_asked(self, outs: Sequence[Any], keys: Sequence[str], method: str) -> list[list[dict[str, Any]]]:
        """What the ranks measured of each request: a worker in the scheduler's process sends it, others are asked."""
        if outs[0].kv_transfer_params:
            return [out.kv_transfer_params[KEY] for out in outs]
        ranks = self.llm.collective_rpc(method, args=(list(keys),))
        return [[rank[key] for rank in ranks] for key in keys]

    def check(self, answer: Answer) -> None:
        """Check an answer's receipts as a client does.

        Raises:
            SteeringFault: it was not steered as asked.
        """
        steers, measured = answer.asked.steers, answer.measured
        here = [self.directions[steer.direction][steer.layer] for steer in steers]
        described = self.llm.collective_rpc("capvec_describe")[0]
        config = Config(
            "c", "steered", steers, targets=closed_forms(steers, here), vectors=tuple(map(vector_hash, here))
        )
        reply = Reply(
            *("", "length", len(answer.asked.tokens), len(answer.tokens), 0.0),
            receipts=measured.receipts,
            cached_tokens=answer.cached,
            cached_under=steers,
            isolation=measured.isolation,
        )
        check_finite(reply.receipts, reply.isolation)
        check_receipts(reply, config, BlockLayout(described["blocks"], described["layers"]))


def first(out: Any) -> float:
    """The log-probability of the first token drawn."""
    sampled = out.outputs[0]
    return float(sampled.logprobs[0][sampled.token_ids[0]].logprob)


@contextmanager
def engine(folder: Path, **options: Any) -> Iterator[Engine]:
    """A steered engine in this process, on the CPU, with chunks of at most 64 tokens in a step."""
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    from capvec.engines.vllm.plugin.worker import register

    register()
    settings = {"layers": "all", **options.pop("capvec", {})}
    llm = LLM(
        str(folder),
        dtype="float32",
        max_model_len=512,
        max_num_seqs=16,
        max_num_batched_tokens=64,
        disable_log_stats=False,
        additional_config={KEY: settings},
        **{"enforce_eager": True, **options},
    )
    queues = _queues(llm)
    try:
        yield Engine(llm)
    finally:
        llm.llm_engine.engine_core.shutdown()
        for queue in queues:
            queue.local_socket.context.destroy(linger=0)
        del llm
        gc.collect()
        cleanup_dist_env_and_memory()


def _queues(llm: Any) -> list[Any]:
    """Those to and from ranks in processes of their own, whose sockets vLLM leaves open."""
    executor = llm.llm_engine.model_executor
    return [executor.rpc_broadcast_mq, *executor.response_mqs] if hasattr(executor, "rpc_broadcast_mq") else []
