"""Engines broken on purpose, on a real model: the hook and the probe share the fault, and the check refuses it."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from support.checked import as_reply, asked, layout_of
from support.tiny_models import LAYERS, WIDTH, load_tiny, save_tiny

from capvec.errors import SteeringFault, UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = pytest.mark.integration

VECTORS = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
MANNERS = list(product(["add", "ablate", "set"], ["all", "prompt", "generated", "assistant"], [False, True]))
WITH_STRENGTH = [manner for manner in MANNERS if manner[0] != "ablate"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("model"), "llama")


TALK = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]


def decode(loaded, rows, vectors):
    """Replies to one conversation under each of `rows`, all in one batch; `vectors` holds v_L of every layer."""
    import torch

    from capvec.engines.transformers.decode import Decoder, Request

    rendered = loaded.render_marked(TALK, prompt=True)
    decoder, results = Decoder(replace(loaded, stop_ids=frozenset()), prefix_bytes=1 << 20), [Future() for _ in rows]
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        own = tuple(torch.as_tensor(vectors[steer.layer]) for steer in row)
        decoder.add(Request(rendered.ids, 6, number, 0.8, (), tuple(row), own, rendered.assistant), result)
    while decoder.rows:
        decoder.step()
    return [result.result(timeout=0) for result in results]


@pytest.fixture
def ask(loaded):
    """As `decode`; with another path of the residual, or other vectors than those that were asked for where asked."""
    return lambda rows, path=None, vectors=VECTORS: decode(replace(loaded, path=path or loaded.path), rows, vectors)


@pytest.fixture
def check(loaded):
    """Holds a reply against the steers that were asked for, and the vectors of the direction's file."""

    def check(completion, steers):
        check_receipts(as_reply(completion), asked(steers, [VECTORS[s.layer] for s in steers]), layout_of(loaded))

    return check


def steer_of(op, positions, keep_norm, layer=1, alpha=2.0):
    return Steer(layer, "d", 1.0 if op == "ablate" else alpha, op, positions, keep_norm)


@pytest.mark.parametrize("manner", MANNERS)
def test_an_honest_engine_passes(ask, check, manner):
    rows = [(steer_of(*manner),), (), (steer_of(*manner, layer=3), steer_of(*manner, layer=0))]
    for completion, row in zip(ask(rows), rows, strict=True):
        check(completion, row)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("dose", [0.01, 0.3, 3.0, 100.0])
def test_whatever_the_dtype_rounds_away_an_honest_engine_passes_well_within_the_bounds(tmp_path_factory, dtype, dose):
    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch
    from capvec.engines.transformers.models import load_model

    folder = save_tiny(tmp_path_factory.mktemp("model"), "llama")
    coarse = load_model(str(folder), dtype=dtype, device="cpu")
    talk = prepare(coarse.template, TALK, "mean-last:8", "talk", most=coarse.context_length)
    residuals = capture_batch(coarse, [talk])[0].numpy()
    lengths = dose * np.linalg.norm(residuals, axis=1) / np.linalg.norm(VECTORS, axis=1)
    vectors = (lengths[:, None] * VECTORS).astype(np.float32)
    rows = [(steer_of(*manner, layer=number % LAYERS, alpha=1.0),) for number, manner in enumerate(MANNERS)]
    for row, completion in zip(rows, decode(coarse, rows, vectors), strict=True):
        check_receipts(as_reply(completion), asked(row, [vectors[s.layer] for s in row]), layout_of(coarse))
        (receipt,) = completion.receipts
        if receipt.steered:
            # One bound is of three standard deviations, the other of the worst case, which independent uniform errors
            # come to 1/√3 = 0.58 of, and 32 of them not much nearer.
            assert receipt.error_max <= receipt.rounding_max
            assert receipt.off_axis_max <= 0.9


# ------------------------------------------------------------------------------------------------ into other rows


@pytest.mark.parametrize("share", [1.0, 1e-5])
def test_a_steer_that_reaches_its_neighbours_in_the_batch_is_refused_in_their_replies(ask, check, monkeypatch, share):
    from capvec.engines.transformers.hooks.path import hidden_of
    from capvec.engines.transformers.hooks.site import Site

    honest = Site.move

    def leaking(site, module, args, output):
        result = honest(site, module, args, output)
        before, after = hidden_of(output), hidden_of(result).clone()
        (steered,) = [row for row, here in enumerate(site.here) if here]
        for row in set(range(len(site.here))) - {steered}:
            after[row] += share * (after[steered] - before[steered])
        return (after, *result[1:]) if isinstance(result, tuple) else after

    monkeypatch.setattr(Site, "move", leaking)
    rows = [(Steer(1, "d", 4.0),), (), (Steer(3, "d", 4.0),)]
    for completion, row in zip(ask(rows), rows, strict=True):
        with pytest.raises(SteeringFault, match="another request in the batch"):
            check(completion, row)
    check(ask([()])[0], ())  # alone there is no neighbour to leak


def test_a_prompt_that_goes_on_from_what_was_computed_under_other_steers_is_refused(ask, check, monkeypatch):
    from capvec.engines.transformers.caches import PrefixStore

    rows = [(Steer(1, "d", 4.0),), (Steer(1, "d", 2.0),)]
    for completion, row in zip(ask(rows), rows, strict=True):
        check(completion, row)
    honest, first = PrefixStore.find, []

    def forgetful(store, steers, tokens):
        first.append(steers)
        return honest(store, first[0], tokens)

    monkeypatch.setattr(PrefixStore, "find", forgetful)
    first, second = ask(rows)
    check(first, rows[0])
    with pytest.raises(SteeringFault, match=r"were taken over from a request under the steers .* alpha 4,"):
        check(second, rows[1])


def test_what_leaked_into_a_reply_is_not_kept_for_the_next_one(ask, monkeypatch):
    from capvec.engines.transformers.caches import PrefixStore
    from capvec.engines.transformers.hooks.site import Site

    kept = []
    monkeypatch.setattr(PrefixStore, "keep", lambda _self, steers, tokens, _cache: kept.append((steers, len(tokens))))
    ask([(Steer(1, "d", 4.0),), ()])
    prompt = min(length for _, length in kept)
    assert sorted(length - prompt for steers, length in kept if not steers) == [0, 5]  # the prompt, then the reply
    kept.clear()
    monkeypatch.setattr(Site, "leaks", lambda site, was, _now: was.new_full((len(site.rows),), 1e-9))
    ask([(Steer(1, "d", 4.0),), ()])
    assert [length - prompt for steers, length in kept if not steers] == [0]


@pytest.mark.parametrize("positions", ["prompt", "generated", "assistant"])
def test_a_steer_that_reaches_the_rows_other_positions_is_refused(ask, check, monkeypatch, positions):
    from capvec.engines.transformers.hooks.path import hidden_of
    from capvec.engines.transformers.hooks.site import Site

    honest = Site.move

    def everywhere(site, module, args, output):
        after = hidden_of(honest(site, module, args, output)) + 1e-4
        return (after, *output[1:]) if isinstance(output, tuple) else after

    monkeypatch.setattr(Site, "move", everywhere)
    row = (Steer(1, "d", 2.0, positions=positions),)
    with pytest.raises(SteeringFault, match="or of other positions"):
        check(ask([row])[0], row)


# ------------------------------------------------------------------------------------------------ a wrong strength


@pytest.mark.parametrize("manner", WITH_STRENGTH)
@pytest.mark.parametrize("factor", [1.05, 0.5, -1.0])
def test_a_strength_that_hook_and_witness_both_have_wrong_is_refused(ask, check, monkeypatch, manner, factor):
    from capvec.engines.transformers.hooks import Accumulator

    monkeypatch.setattr(Accumulator, "coefficient", property(lambda own: factor * own.steer.alpha * own.length))
    row = (steer_of(*manner),)
    (completion,) = ask([row])
    assert completion.receipts[0].error_max < 1e-3  # hook and downstream probe agree with each other
    with pytest.raises(SteeringFault, match=r"measured a \w+ (shift|level)"):
        check(completion, row)


@pytest.mark.parametrize("op", ["add", "set"])
@pytest.mark.parametrize("keep_norm", [False, True])
def test_a_strength_that_is_wrong_in_one_pass_of_many_is_refused(ask, check, monkeypatch, op, keep_norm):
    from capvec.engines.transformers.hooks import Accumulator

    def coefficient(accumulator):
        return (1.05 if accumulator.fired == 3 else 1.0) * accumulator.steer.alpha * accumulator.length

    monkeypatch.setattr(Accumulator, "coefficient", property(coefficient))
    row = (steer_of(op, "all", keep_norm),)
    with pytest.raises(SteeringFault, match="measured a largest"):
        check(ask([row])[0], row)


@pytest.mark.parametrize(("wanted", "said"), [(True, "the norm became"), (False, "no steer keeps the norm")])
@pytest.mark.parametrize("op", ["add", "ablate", "set"])
def test_a_norm_that_hook_and_witness_keep_unasked_or_do_not_keep_is_refused(ask, check, monkeypatch, op, wanted, said):
    from capvec.engines.transformers.hooks import Accumulators

    honest = Accumulators.receipts

    def pretending(row, forwards):
        return tuple(replace(receipt, steer=steer_of(op, "all", wanted)) for receipt in honest(row, forwards))

    monkeypatch.setattr(Accumulators, "receipts", pretending)
    (completion,) = ask([(steer_of(op, "all", not wanted),)])
    with pytest.raises(SteeringFault, match=said):
        check(completion, (steer_of(op, "all", wanted),))


# ------------------------------------------------------------------------------------------------ a wrong place


@pytest.mark.parametrize("order", ["one later", "one earlier", "reversed", "the last for all"])
def test_hook_and_witness_at_another_block_are_refused_by_its_name(loaded, ask, check, order):
    blocks = list(loaded.path.blocks)
    moved = {
        "one later": [*blocks[1:], blocks[-1]],
        "one earlier": [blocks[0], *blocks[:-1]],
        "reversed": blocks[::-1],
        "the last for all": [blocks[-1]] * LAYERS,
    }[order]
    # The module that follows in the model, so that the downstream probe is where it belongs behind the wrong block.
    following = dict(zip(blocks, [*blocks[1:], loaded.path.end], strict=True))

    class Astray(type(loaded.path)):
        def receiver(self, layer):
            return following[self.blocks[layer]]

    path = Astray(moved, loaded.path.end, loaded.path.name, loaded.path.names)
    row = (Steer(2 if order == "one earlier" else 1, "d", 2.0),)
    with pytest.raises(
        SteeringFault, match=rf"the hook ran on model\.layers\.\d, .*expected model\.layers\.{row[0].layer}"
    ):
        check(ask([row], path)[0], row)


def test_a_witness_behind_another_block_is_refused(loaded, ask, check):
    class Late(type(loaded.path)):
        def receiver(self, layer):
            return super().receiver(layer + 1)

    path = Late(loaded.path.blocks, loaded.path.end, loaded.path.name, loaded.path.names)
    row = (Steer(1, "d", 2.0),)
    with pytest.raises(
        SteeringFault, match=r"measured at model\.layers\.3; expected model\.layers\.1, and model\.layers\.2"
    ):
        check(ask([row], path)[0], row)


def test_a_model_that_runs_its_blocks_in_another_order_is_not_loaded(tmp_path, monkeypatch):
    from capvec.engines.transformers import models

    honest, folder = models.find_residual_path, save_tiny(tmp_path, "llama")

    def reversed_path(model, n_layers):
        path = honest(model, n_layers)
        return replace(path, blocks=list(path.blocks)[::-1])

    monkeypatch.setattr(models, "find_residual_path", reversed_path)
    with pytest.raises(UsageError, match=r"ran in the order \[3, 2, 1, 0\]"):
        models.load_model(str(folder), dtype="float32", device="cpu")


# ------------------------------------------------------------------------------------------------ a wrong vector


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("fault", ["scaled", "of another layer", "reversed", "rounded to bfloat16"])
def test_another_vector_under_the_same_name_is_refused_even_where_it_shows_the_same_numbers(ask, check, manner, fault):
    import torch

    wrong = {
        "scaled": VECTORS * np.float32(1.5),
        "of another layer": np.roll(VECTORS, 1, axis=0),
        "reversed": -VECTORS,
        "rounded to bfloat16": torch.as_tensor(VECTORS).bfloat16().float().numpy(),
    }[fault]
    row = (steer_of(*manner),)
    with pytest.raises(SteeringFault, match="multiplied has the hash"):
        check(ask([row], vectors=wrong)[0], row)


@pytest.mark.parametrize("number", [0, 3, 5])
def test_another_vector_in_one_pass_of_many_is_refused(ask, check, monkeypatch, number):
    """Hook and probe read one table of unit vectors, in which this row has another's, of the same length."""
    from capvec.engines.transformers.hooks.site import Site

    honest = Site.__post_init__

    def mixed_up(site):
        honest(site)
        if site.here[0][0].fired == number:
            site.terms = replace(site.terms, units=site.terms.units.roll(1, -1))

    monkeypatch.setattr(Site, "__post_init__", mixed_up)
    row = (Steer(1, "d", 2.0),)
    with pytest.raises(SteeringFault, match="multiplied has the hash"):
        check(ask([row])[0], row)


def test_a_vector_that_is_changed_after_it_was_looked_up_is_refused(ask, check, monkeypatch):
    from capvec.engines.transformers.hooks import Accumulator

    honest = Accumulator.__post_init__

    def turned(accumulator):
        honest(accumulator)
        accumulator.unit = accumulator.unit.roll(1)

    monkeypatch.setattr(Accumulator, "__post_init__", turned)
    row = (Steer(1, "d", 2.0),)
    with pytest.raises(SteeringFault, match="multiplied has the hash"):
        check(ask([row])[0], row)
