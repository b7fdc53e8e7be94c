"""What decoding takes as rows and context grow, beside `generate` of transformers, by turns.

The bundled agent, or another model, steered at its middle layer with receipts; `generate` has the same weights in the
same dtype, and is not steered. A step gives every row a token. The bound is that of memory: a step reads every weight
that capvec keeps once, and every row's keys and values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from statistics import median

import pytest
from support.benchmarks import by_turns, ratio, read_bandwidth

from capvec.models import resolve_model
from capvec.steering import Steer

pytestmark = pytest.mark.bench


def read_each_step(model) -> int:
    """Bytes of the weights that a step reads: all but the table of embeddings, of which it reads one row a token."""
    from capvec.engines.transformers.packed import PackedLinear

    table = model.get_input_embeddings().weight
    packed = [one for one in model.modules() if isinstance(one, PackedLinear)]
    own = sum(value.nbytes for value in model.parameters() if value is not table)
    head = 0 if packed or model.get_output_embeddings().weight is not table else table.nbytes
    return own + head + sum(2 * one.in_features * one.out_features for one in packed)


@contextmanager
def as_an_engine() -> Iterator[None]:
    """In its context, models attend as in an engine's process; outside, as transformers has it."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from capvec.engines.transformers.attention import attend

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "sdpa", attend)
        yield


def test_decoding(bench, torch):
    from capvec.engines.transformers.decode import Decoder, Request
    from capvec.engines.transformers.models import load_model

    sizes = bench.sizes(
        {"model": "pocket", "rounds": 3, "new": 16, "rows": (1, 8, 32), "contexts": (128, 512, 1536)},
        {"rounds": 1, "new": 3, "rows": (1, 2), "contexts": (16,)},
    )
    source = resolve_model(sizes.model)
    with as_an_engine():
        loaded = load_model(source.path_or_id, context_length=source.context_length, packed=True)
    plain = type(loaded.model).from_pretrained(source.path_or_id, dtype=loaded.dtype).to(loaded.device).eval()
    steers = (Steer(loaded.n_layers // 2, "bench", 1.0),)
    vectors = (torch.ones(loaded.d_model, device=loaded.device),)

    def ours(rows: int, context: int) -> tuple[float, float]:
        """Seconds of the prompts, and of a step after them."""
        decoder, started = Decoder(loaded, prefix_bytes=0), time.perf_counter()
        for seed in range(rows):
            prompt = (500 + seed,) * context
            decoder.add(Request(prompt, sizes.new, seed, 0.7, steers=steers, vectors=vectors), Future())
        decoder.step()
        first, steps = time.perf_counter(), 0
        while decoder.rows:
            decoder.step()
            steps += 1
        return first - started, (time.perf_counter() - first) / steps

    def theirs(rows: int, context: int) -> float:
        """Seconds of a step of `generate`, the prompts left out."""
        ids = torch.arange(500, 500 + rows)[:, None].expand(rows, context).to(loaded.device)

        def seconds(tokens: int) -> float:
            started = time.perf_counter()
            plain.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=True,
                temperature=0.7,
                pad_token_id=0,
            )
            return time.perf_counter() - started

        return (seconds(sizes.new) - seconds(1)) / (sizes.new - 1)

    bandwidth = read_bandwidth(str(loaded.device), 64 if bench.small else 512)
    weights = read_each_step(loaded.model)
    config = loaded.model.config.get_text_config()
    heads = config.num_key_value_heads * getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    a_position = 2 * config.num_hidden_layers * heads * loaded.dtype.itemsize
    bench.say(
        f"{source.name}, {weights / 1e6:.0f} MB of weights, {a_position / 1e3:.0f} kB a position; memory is read at "
        f"{bandwidth / 1e9:.1f} GB/s"
    )
    for context in sizes.contexts:
        for rows in sizes.rows:
            prompts: list[float] = []

            def own_step(rows: int = rows, context: int = context, prompts: list[float] = prompts) -> float:
                with as_an_engine():
                    prompt, step = ours(rows, context)
                prompts.append(prompt)
                return step

            found = by_turns(
                sizes.rounds, {"capvec": own_step, "generate": lambda rows=rows, context=context: theirs(rows, context)}
            )
            bound = (weights + rows * context * a_position) / bandwidth
            step, other = median(found["capvec"]), median(found["generate"])
            prefill = rows * context / median(prompts)
            bench.add(
                f"{rows:3} rows of {context:4} tokens: a step {1000 * step:6.1f} ms, {rows / step:6.1f} tokens/s, "
                f"generate {1000 * other:6.1f} ms, ratio {ratio(found['generate'], found['capvec']):.2f}, bound "
                f"{1000 * bound:5.1f} ms; prompts {prefill:6.0f} tokens/s",
                rows=rows, context=context, step_s=found["capvec"], generate_s=found["generate"],
                ratio=ratio(found["generate"], found["capvec"]), bound_s=bound, prompt_tokens_per_s=prefill,
            )  # fmt: skip
