"""vLLM steers each row as asked, whatever else is in the batch, in its cache, or in the chunk."""

from __future__ import annotations

import pytest
from support.vllm_models import ARCHITECTURES, Asked, engine, prompt, save_tiny, vectors

from capvec.steering import Steer

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=ARCHITECTURES)
def folder(request, tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def steered(folder):
    with engine(folder) as running:
        for seed in (0, 1):
            running.put(vectors(seed))
        yield running


@pytest.fixture(scope="module")
def batch(steered):
    """Every operation and kind of position; the same prompt unsteered, twice, and with nothing added."""
    a, b = steered.directions
    asked = [
        [Steer(1, a, 4.0)],
        [Steer(2, a, 1.0, "ablate")],
        [Steer(1, a, -3.0), Steer(3, a, 2.0, "set")],
        [Steer(0, a, 5.0, "add", "prompt")],
        [Steer(2, a, 5.0, "add", "generated")],
        [Steer(1, a, 2.0, "add", "all", True), Steer(1, b, 1.0, "add", "assistant")],
        [Steer(3, b, 3.0, "add", "all", True)],
        [Steer(layer, a, 1.0) for layer in range(4)],
    ]
    rows = [Asked(prompt(n, 30 + 17 * n), tuple(steers), assistant=((5, 20),)) for n, steers in enumerate(asked)]
    same = [Asked(prompt(50, 40), steers) for steers in ((), (Steer(1, a, 0.0),))]
    return [*rows, *same, Asked(prompt(60, 200), (Steer(1, a, 4.0),))]


@pytest.fixture(scope="module")
def mixed(steered, batch):
    return steered.run(batch)


def test_every_reply_of_a_mixed_batch_passes_the_check_of_its_receipts(steered, mixed):
    for answer in mixed:
        steered.check(answer)
    assert len({tuple(answer.tokens) for answer in mixed}) >= len(mixed) - 1


def test_a_row_says_the_same_alone_and_again_from_the_prefix_cache(steered, batch, mixed):
    again = steered.run(batch)
    assert [answer.tokens for answer in again] == [answer.tokens for answer in mixed]
    assert max(answer.cached for answer in again) >= 128
    for answer in again:
        steered.check(answer)
        assert answer.measured.cached_tokens == answer.cached
    for one, together in zip(batch[::3], mixed[::3], strict=True):
        (alone,) = steered.run([one])
        steered.check(alone)
        assert alone.tokens == together.tokens


def test_nothing_added_is_unsteered(mixed):
    *_, unsteered, nothing, _ = mixed
    assert unsteered.tokens == nothing.tokens
    assert unsteered.logprob == nothing.logprob


def test_a_prompt_in_chunks_takes_more_passes_and_has_the_counts_of_one(mixed):
    measured = mixed[-1].measured
    assert measured.apart.passes > len(mixed[-1].tokens)
    assert measured.receipts[0].forwards == len(mixed[-1].tokens)


def test_the_first_token_has_the_log_probability_that_the_transformers_engine_gives_it(folder, steered, mixed):
    import torch

    from capvec.engines.transformers.hooks import accumulators, steer
    from capvec.engines.transformers.loaded import call
    from capvec.engines.transformers.models import load_model

    loaded = load_model(str(folder), dtype="float32", device="cpu")
    for answer in mixed:
        asked = answer.asked
        here = [torch.from_numpy(steered.directions[one.direction][one.layer]) for one in asked.steers]
        said = torch.zeros(1, len(asked.tokens), dtype=torch.bool)
        for start, end in asked.assistant:
            said[0, start:end] = True
        row = accumulators(asked.steers, here)
        ids = torch.tensor([asked.tokens])
        with torch.no_grad(), steer(loaded.path, [row], torch.ones_like(ids, dtype=torch.bool), assistant=said):
            logits = call(loaded.model, input_ids=ids, use_cache=False)[0, -1]
        expected = float(logits.double().log_softmax(-1)[answer.tokens[0]])
        assert answer.logprob == pytest.approx(expected, abs=2e-4)


def test_captured_residuals_are_those_of_the_transformers_engine(folder, steered):
    import torch

    from capvec.engines.transformers.hooks import record
    from capvec.engines.transformers.loaded import call
    from capvec.engines.transformers.models import load_model

    loaded = load_model(str(folder), dtype="float32", device="cpu")
    tokens, spans = prompt(70, 150), [(3, 9), (60, 70), (149, 150)]
    chosen = torch.zeros(1, len(tokens), dtype=torch.bool)
    for start, end in spans:
        chosen[0, start:end] = True
    with torch.no_grad(), record(loaded.path, chosen) as kept:
        call(loaded.model, input_ids=torch.tensor([tokens]), use_cache=False)
    expected = torch.cat(kept).numpy()
    assert steered.capture(tokens, spans) == pytest.approx(expected, rel=1e-3, abs=1e-4 * float(abs(expected).max()))
