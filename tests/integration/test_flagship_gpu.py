"""Steering and capture at the flagship's size, in bfloat16 on a GPU: rounding is coarse, and receipts must hold."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from support.checked import as_reply, asked, layout_of
from support.flagship import LAYERS, WIDTH, build_flagship

from capvec.errors import SteeringFault
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = pytest.mark.gpu

MANNERS = list(product(["add", "ablate", "set"], ["all", "prompt", "generated", "assistant"], [False, True]))
TALK = (
    {"role": "user", "content": "Count the files in /app. " * 8},
    {"role": "assistant", "content": "```bash\nls /app | wc -l\n```"},
    {"role": "user", "content": "3"},
)


@pytest.fixture(scope="module")
def loaded():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return build_flagship()


def answer(loaded, steers, vectors, tokens=12):
    """Replies to one conversation under each of `steers`, all in one batch."""
    import torch

    from capvec.engines.transformers.decode import Decoder, Request

    rendered = loaded.render_marked(TALK, prompt=True)
    decoder, results = Decoder(loaded, prefix_bytes=0), [Future() for _ in steers]
    for row, result in zip(steers, results, strict=True):
        directions = tuple(torch.tensor(vectors[steer.layer], device="cuda") for steer in row)
        request = Request(tuple(rendered.ids), tokens, 7, 0.7, (), row, directions, tuple(rendered.assistant))
        decoder.add(request, result)
    while decoder.rows:
        decoder.step()
    return [result.result() for result in results]


def directions(loaded):
    """Random vectors with a dose of 0.3 at α = 1, by the model's own residual norms."""
    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch

    residuals = capture_batch(
        loaded, [prepare(loaded.template, TALK, "mean-last:64", "talk", most=loaded.context_length)]
    )[0].numpy()
    noise = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    noise *= (0.3 * np.linalg.norm(residuals, axis=1) / np.linalg.norm(noise, axis=1))[:, None]
    return noise


def test_every_operation_shows_its_receipt_in_bfloat16(loaded):
    vectors = directions(loaded)
    steers = [
        (Steer(layer, "d", 1.0, op, positions, keep),)
        for (op, positions, keep), layer in zip(MANNERS, [0, 3, 11, 22, 30, 31] * 4, strict=True)
    ]
    steers += [(Steer(11, "d", 1.0), Steer(22, "d", 0.5)), ()]
    for row, completion in zip(steers, answer(loaded, steers, vectors), strict=True):
        check_receipts(as_reply(completion), asked(row, [vectors[steer.layer] for steer in row]), layout_of(loaded))


def test_a_vector_of_another_length_is_caught_in_bfloat16(loaded):
    vectors = directions(loaded)
    row = (Steer(22, "d", 1.0),)
    (completion,) = answer(loaded, [row], vectors * np.float32(1.1))
    config = asked(row, [vectors[22]])
    with pytest.raises(SteeringFault, match="multiplied a vector with the hash"):
        check_receipts(as_reply(completion), config, layout_of(loaded))
    (receipt,) = completion.receipts
    claimed = replace(completion, receipts=(replace(receipt, vector=config.vectors[0]),))
    with pytest.raises(SteeringFault, match="shift"):
        check_receipts(as_reply(claimed), config, layout_of(loaded))


def test_nothing_is_steered_where_alpha_is_zero(loaded):
    vectors = directions(loaded)
    plain, zero = answer(loaded, [(), (Steer(22, "d", 0.0),)], vectors)
    assert zero.text == plain.text


def test_what_a_capture_holds_does_not_grow_with_the_length(loaded):
    import torch

    from capvec.engines.transformers.hooks import record

    def held(length):
        ids = torch.randint(1000, (2, length), device="cuda")
        chosen = torch.zeros(2, length, dtype=torch.bool, device="cuda")
        chosen[:, -8:] = True
        torch.cuda.synchronize()
        with torch.inference_mode(), record(loaded.path, chosen) as kept:
            output = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1)
            del output
            torch.cuda.synchronize()
            return sum(tensor.nelement() * tensor.element_size() for tensor in kept), torch.cuda.memory_allocated()

    held(256)
    small, large = held(512), held(4096)
    assert small[0] == large[0] == 2 * LAYERS * WIDTH * 4
    # What stays allocated after a pass is ids and mask, 2 · 3584 · 9 bytes more of them, in blocks of some kilobytes.
    assert large[1] - small[1] < 1 << 20


def test_batched_and_alone_give_the_same_residuals_up_to_bfloat16(loaded):
    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch

    talks = [TALK, (*TALK, {"role": "assistant", "content": "There are 3 files."})]
    prepared = [prepare(loaded.template, talk, "last", "talk", most=loaded.context_length) for talk in talks]
    together = capture_batch(loaded, prepared).numpy()
    alone = np.concatenate([capture_batch(loaded, [one]).numpy() for one in prepared])
    for layer in range(LAYERS):
        apart = np.linalg.norm(together[:, layer] - alone[:, layer], axis=-1)
        # Each of up to 32 blocks rounds to 8 bits of mantissa several times: a few per cent of the norm, and no more.
        assert (apart < 0.06 * np.linalg.norm(alone[:, layer], axis=-1)).all(), layer


def test_a_row_of_a_batch_is_steered_by_its_own_steer_alone(loaded):
    vectors = directions(loaded)
    steers = [(Steer(22, "d", alpha),) for alpha in (0.5, 1.0, -1.0)]
    for row, completion in zip(steers, answer(loaded, steers, vectors), strict=True):
        (receipt,) = completion.receipts
        assert receipt.shift_mean == pytest.approx(row[0].alpha * np.linalg.norm(vectors[22]), rel=0.02)
        assert receipt.steer == row[0]
