"""`capvec.steer` around a model's own `generate` and forward passes: real torch, tiny random models."""

from __future__ import annotations

import doctest
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.tiny_models import ARCHITECTURES, LAYERS, WIDTH, byte_tokenizer

import capvec
from capvec import SteeringFault, UsageError
from capvec.steering import Steer

pytestmark = pytest.mark.integration

VECTORS = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
TEXTS = ["hello", "a longer text than that", "mid-sized one"]


@pytest.fixture(scope="module")
def build(torch):
    """A model by its architecture; the same one each time."""
    made = {}

    def build(architecture="llama"):
        if architecture not in made:
            torch.manual_seed(0)
            made[architecture] = ARCHITECTURES[architecture](258).eval().requires_grad_(False)
        return made[architecture]

    return build


@pytest.fixture
def model(build):
    return build()


@pytest.fixture(scope="module")
def direction():
    return capvec.Direction(VECTORS, np.full(LAYERS, 10.0))


@pytest.fixture(scope="module")
def batch():
    """Three texts, padded on the left."""
    tokenizer = byte_tokenizer(None)
    tokenizer.padding_side = "left"
    encoded = tokenizer(TEXTS, return_tensors="pt", padding=True)
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


@pytest.fixture(scope="module")
def prompt():
    return {"input_ids": byte_tokenizer(None)("hello", return_tensors="pt")["input_ids"]}


@pytest.fixture
def generate(torch):
    """Sampled replies of eight tokens; the seed makes them the same each time."""

    def generate(model, inputs, count=8, **changes):
        torch.manual_seed(0)
        return model.generate(**inputs, max_new_tokens=count, min_new_tokens=count, do_sample=True, **changes)

    return generate


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def residuals(model, inputs, layer, **options):
    """What the module after block `layer` receives in one forward pass."""
    blocks, seen = model.model.layers, []
    receiver = blocks[layer + 1] if layer + 1 < len(blocks) else model.model.norm
    handle = receiver.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    try:
        model(**inputs, **options)
    finally:
        handle.remove()
    return seen[0]


# ------------------------------------------------------------------------------------------------ the examples


def test_the_example_of_the_docstring_runs(model, prompt, direction, tmp_path):
    from capvec.directions.steer import steer

    direction.save(tmp_path / "dir.pt")
    test = doctest.DocTestFinder().find(steer, "steer", globs={})[0]
    test.globs |= {"model": model, "prompt": prompt, "path": tmp_path / "dir.pt"}
    runner = doctest.DocTestRunner()
    runner.run(test, clear_globs=False)
    assert runner.summarize(verbose=False) == (0, len(test.examples))


def test_a_vector_saved_with_torch_alone_gives_a_receipt(torch, model, prompt, tmp_path, generate):
    torch.save({"dir": torch.as_tensor(VECTORS[2]), "layer": 2}, tmp_path / "dir.pt")
    direction = capvec.Direction.read(tmp_path / "dir.pt")
    with capvec.steer(model, direction, layer=2, alpha=4.0) as receipts:
        generate(model, prompt)
    (receipt,) = receipts
    assert receipt.shift_mean == pytest.approx(4 * np.linalg.norm(VECTORS[2]), rel=1e-5)
    # Five bytes of prompt, and seven of eight tokens fed back.
    assert (receipt.forwards, receipt.passed, receipt.steered) == (8, 12, 12)


# ------------------------------------------------------------------------------------------------ what it does


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_generates_in_a_padded_batch_with_receipts_that_hold(
    build, direction, batch, generate, architecture
):
    model = build(architecture)
    with capvec.steer(model, direction, layer=[0, LAYERS - 1], alpha=2.0) as receipts:
        generate(model, batch)
    assert len(receipts) == 2 * len(TEXTS)
    lengths = [len(text) for text in TEXTS for _ in range(2)]
    assert [receipt.steered for receipt in receipts] == [length + 7 for length in lengths]
    assert [receipt.steer.layer for receipt in receipts] == [0, LAYERS - 1] * len(TEXTS)
    assert hook_count(model) == 0


@pytest.mark.parametrize("architecture", ["llama", "qwen3.5-text", "qwen3.5-image"])
def test_a_row_of_a_batch_is_steered_as_it_is_alone(torch, build, direction, batch, architecture):
    model = build(architecture)
    with capvec.steer(model, direction, layer=1, alpha=3.0):
        together = model(**batch).logits[:, -1]
        for row, text in enumerate(TEXTS):
            ids = batch["input_ids"][row : row + 1, -len(text) :]
            torch.testing.assert_close(model(input_ids=ids).logits[0, -1], together[row], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_shift_at_the_site_is_alpha_times_the_vector_and_padding_is_left_alone(
    torch, model, direction, batch, layer
):
    plain = residuals(model, batch, layer)
    with capvec.steer(model, direction, layer=layer, alpha=-3.0):
        shift = residuals(model, batch, layer) - plain
    expected = torch.as_tensor(-3.0 * VECTORS[layer]) * batch["attention_mask"][..., None]
    torch.testing.assert_close(shift, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("op", ["add", "set"])
def test_alpha_zero_is_bit_exact_where_it_adds(torch, model, direction, batch, op):
    plain = model(**batch).logits
    with capvec.steer(model, direction, layer=1, alpha=0.0, op=op) as receipts:
        steered = model(**batch).logits
    assert torch.equal(plain, steered) == (op == "add")
    assert len(receipts) == len(TEXTS)


def test_two_nested_steers_add_and_each_has_its_own_receipts(torch, model, direction, prompt):
    other = capvec.Direction(np.roll(VECTORS, 1, axis=1))
    plain = residuals(model, prompt, 1)
    with capvec.steer(model, direction, layer=1, alpha=2.0) as outer:
        alone = residuals(model, prompt, 1)
        with capvec.steer(model, other, layer=1, alpha=3.0) as inner:
            both = residuals(model, prompt, 1)
        again = residuals(model, prompt, 1)
    shifts = torch.as_tensor(2.0 * VECTORS[1]), torch.as_tensor(3.0 * np.roll(VECTORS, 1, axis=1)[1])
    torch.testing.assert_close(alone - plain, shifts[0].expand_as(plain), atol=1e-4, rtol=0)
    torch.testing.assert_close(both - plain, sum(shifts).expand_as(plain), atol=1e-4, rtol=0)
    assert torch.equal(alone, again)
    assert [len(outer), len(inner)] == [3, 1]
    assert {receipt.steer.direction for receipt in inner} == {other.hash}
    assert hook_count(model) == 0


@pytest.mark.parametrize(("positions", "steered"), [("all", 12), ("prompt", 5), ("generated", 7)])
def test_positions_tell_the_prompt_from_what_is_generated(model, direction, prompt, generate, positions, steered):
    with capvec.steer(model, direction, layer=1, alpha=2.0, positions=positions) as receipts:
        generate(model, prompt)
    assert (receipts[0].passed, receipts[0].steered) == (12, steered)


def test_every_operation_leaves_what_it_says(model, direction, prompt, generate):
    length = float(np.linalg.norm(VECTORS[1]))
    for op, alpha, level in (("ablate", None, 0.0), ("set", 2.0, 2 * length)):
        with capvec.steer(model, direction, layer=1, alpha=alpha, op=op) as receipts:
            generate(model, prompt)
        assert receipts[0].level_mean == pytest.approx(level, abs=1e-4)
    with capvec.steer(model, direction, layer=1, alpha=2.0, keep_norm=True) as receipts:
        generate(model, prompt)
    assert receipts[0].norm_ratio_max == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("unit", "shift"), [("norm", 2.0), ("ambient", 20.0)])
def test_alpha_is_in_the_unit_that_was_asked_for(model, direction, prompt, unit, shift):
    with capvec.steer(model, direction, layer=1, alpha=2.0, alpha_unit=unit) as receipts:
        model(**prompt)
    assert receipts[0].shift_mean == pytest.approx(shift, rel=1e-5)


def test_conversations_with_caches_of_their_own_go_on_side_by_side(torch, model, direction, prompt, batch):
    with capvec.steer(model, direction, layer=1, alpha=2.0) as receipts:
        one, other = model(**prompt), model(**batch)
        for _ in range(2):
            one = model(input_ids=torch.tensor([[7]]), past_key_values=one.past_key_values)
        mask = torch.cat([batch["attention_mask"], torch.ones(3, 1, dtype=torch.long)], dim=1)
        model(input_ids=torch.tensor([[7]] * 3), past_key_values=other.past_key_values, attention_mask=mask)
        # The next turn: several tokens over the cache are a prompt.
        model(input_ids=torch.tensor([[7, 8, 9]]), past_key_values=one.past_key_values)
    assert [receipt.forwards for receipt in receipts] == [3, 2, 2, 2, 1]


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_return_sequences": 2}, {"use_cache": False},
                                     {"prefill_chunk_size": 2}])  # fmt: skip
def test_other_ways_to_generate_hold_too(model, direction, prompt, generate, options):
    with capvec.steer(model, direction, layer=1, alpha=2.0) as receipts:
        generate(model, prompt, **options)
    assert all(receipt.steered == receipt.passed > 0 for receipt in receipts)


def test_a_pass_that_needs_gradients_keeps_them(model, direction, prompt):
    embedded = model.get_input_embeddings()(prompt["input_ids"]).requires_grad_()
    with capvec.steer(model, direction, layer=1, alpha=2.0, keep_norm=True) as receipts:
        model(inputs_embeds=embedded).logits.sum().backward()
    assert embedded.grad.abs().sum() > 0
    assert len(receipts) == 1


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_model_with_a_lora_adapter_is_steered_like_any_other(torch, direction, prompt, generate):
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(ARCHITECTURES["llama"](258), peft.LoraConfig(target_modules=["q_proj"])).eval()
    with torch.no_grad(), capvec.steer(adapted, direction, layer=1, alpha=2.0) as receipts:
        generate(adapted, prompt)
        adapted(**prompt)
    assert [receipt.forwards for receipt in receipts] == [8, 1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_coarse_dtype_holds_within_its_rounding(torch, direction, batch, generate, dtype):
    coarse = ARCHITECTURES["llama"](258).to(getattr(torch, dtype)).eval()
    with capvec.steer(coarse, direction, layer=1, alpha=2.0) as receipts:
        generate(coarse, batch)
    assert len(receipts) == len(TEXTS)


# ------------------------------------------------------------------------------------------------ what it refuses


def fault(said=None):
    return pytest.raises(SteeringFault, match=said)


def misuse(said):
    return pytest.raises(UsageError, match=said)


def undo(vector):
    """A hook that takes back what the steer did."""
    return lambda _module, _args, output: output - vector


@pytest.mark.parametrize("when", ["before the block", "inside the block"])
def test_a_hook_that_undoes_the_steer_is_a_fault(torch, model, direction, prompt, when):
    block, vector = model.model.layers[1], torch.as_tensor(2.0 * VECTORS[1])
    handle = block.register_forward_hook(undo(vector)) if when == "before the block" else None
    try:
        with (
            fault("measured a mean shift of"),
            capvec.steer(model, direction, layer=1, alpha=2.0),
        ):
            handle = handle or block.register_forward_hook(undo(vector))
            model(**prompt)
    finally:
        handle.remove()
    assert hook_count(model) == 0


def test_a_steer_whose_hook_was_removed_is_a_fault(model, direction, prompt):
    def disarm(module, _args):
        module._forward_hooks.clear()

    handle = model.model.layers[1].register_forward_pre_hook(disarm)
    with (
        fault("did not arrive"),
        capvec.steer(model, direction, layer=1, alpha=2.0),
    ):
        model(**prompt)
    handle.remove()
    with (
        fault("0 forward passes were steered of 1"),
        capvec.steer(model, direction, layer=1, alpha=2.0),
    ):
        model.model._forward_pre_hooks.clear()
        model(**prompt)
    assert hook_count(model) == 0


def test_a_fault_can_be_caught_early_and_is_raised_again_at_the_end(model, direction, prompt):
    with fault(), capvec.steer(model, direction, layer=1, alpha=1e-9) as receipts:
        model(**prompt)
        with fault("is within rounding"):
            receipts.check()


def test_a_block_in_which_the_model_is_not_called_is_a_fault(model, direction):
    with fault("0 forward passes"), capvec.steer(model, direction, layer=1, alpha=2.0):
        pass


def test_a_cache_from_outside_the_block_was_computed_under_other_steers(torch, model, direction, prompt):
    cache = model(**prompt).past_key_values
    with fault("5 prompt tokens"), capvec.steer(model, direction, layer=1, alpha=2.0):
        model(input_ids=torch.tensor([[7]]), past_key_values=cache)


@pytest.mark.parametrize("options", [{"use_cache": False}, {"count": 1}])
def test_a_steer_that_applied_to_no_position_is_a_fault(model, direction, prompt, generate, options):
    with (
        fault("no position"),
        capvec.steer(model, direction, layer=1, alpha=2.0, positions="generated"),
    ):
        generate(model, prompt, **options)


def test_a_residual_that_is_not_finite_is_a_fault(model, direction, prompt):
    with fault("not finite"), capvec.steer(model, direction, layer=1, alpha=1e38):
        model(**prompt)


def test_an_exception_passes_through_and_leaves_no_hook(torch, model, direction, prompt):
    before = model(**prompt).logits
    with suppress(KeyError), capvec.steer(model, direction, layer=[0, 1], alpha=2.0):
        model(**prompt)
        raise KeyError("mine")
    assert hook_count(model) == 0
    assert torch.equal(model(**prompt).logits, before)


def test_a_pass_that_fails_is_no_call_and_the_next_one_is_steered(model, direction, prompt):
    def fail(*_):
        raise MemoryError

    with capvec.steer(model, direction, layer=1, alpha=2.0) as receipts:
        handle = model.model.layers[2].register_forward_pre_hook(fail)
        with suppress(MemoryError):
            model(**prompt)
        handle.remove()
        model(**prompt)
    assert len(receipts) == 1
    assert hook_count(model) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layer": LAYERS}, "layer is 4; expected 0 to 3"),
        ({"layer": -1}, "layer is -1"),
        ({"layer": [1, 1]}, r"layer is \[1, 1\]"),
        ({"layer": []}, r"layer is \[\]"),
        ({"layer": "2"}, r"layer is '2'; expected a whole number or several; write layer=2"),
        ({"layer": [1, "2"]}, r"layer is \[1, '2'\]"),
        ({"layer": True}, "layer is True"),
        ({"layer": [np.True_]}, "layer is .*True"),
        ({"layer": 1.0}, "layer is 1.0"),
        ({"layer": None}, "layer is None"),
        ({"alpha": "4"}, "alpha is '4'; expected a finite number; write alpha=4.0"),
        ({"alpha": True}, "alpha is True"),
        ({"alpha": [1.0]}, r"alpha is \[1.0\]"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha": float("inf")}, "alpha is inf"),
        ({"direction": Path("dir.pt")}, r"object of type PosixPath; .*capvec\.Direction\.read\(path\)"),
        ({"direction": VECTORS}, r"object of type ndarray; .*capvec\.Direction\(vectors"),
        ({"alpha": None}, "alpha is None"),
        ({"op": "ablate"}, "alpha is 2.0 and op is 'ablate'"),
        ({"op": "subtract"}, "op is 'subtract'"),
        ({"alpha_unit": "metres"}, "alpha_unit is 'metres'"),
        ({"positions": "assistant"}, "positions is 'assistant'"),
        ({"direction": capvec.Direction(np.ones((LAYERS, WIDTH + 1), np.float32))}, r"\[4, 33\]; expected \[4, 32\]"),
        ({"direction": capvec.Direction(np.ones((LAYERS + 1, WIDTH), np.float32))}, r"\[5, 32\]; expected \[4, 32\]"),
        (
            {"direction": capvec.Direction(np.eye(LAYERS, WIDTH, 1, np.float32) * [[1], [0], [1], [1]])},
            "layer 1: the direction is zero there",
        ),
        ({"direction": capvec.Direction(VECTORS), "alpha_unit": "ambient"}, "ambient norm"),
        ({"model": object()}, "cannot steer an object of type object; expected a model"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_hook_is_there(model, direction, changes, said):
    given = {"model": model, "direction": direction, "layer": 1, "alpha": 2.0} | changes
    with misuse(said), capvec.steer(given.pop("model"), given.pop("direction"), **given):
        pytest.fail("the block was entered")
    assert hook_count(model) == 0


@pytest.mark.parametrize("layer", [np.int64(2), [np.int64(2)], np.array([2]), np.array(2)])
def test_a_layer_and_a_strength_may_be_numbers_of_numpy(model, direction, prompt, layer):
    with capvec.steer(model, direction, layer=layer, alpha=np.float32(2.0)) as receipts:
        model(**prompt)
    assert receipts[0].steer == Steer(2, direction.hash, 2.0)


def test_a_mask_that_does_not_tell_padding_is_refused(torch, model, direction, prompt):
    with (
        misuse(r"attention_mask is \[1, 1, 5, 5\]; expected 2-D"),
        capvec.steer(model, direction, layer=1, alpha=2.0),
    ):
        model(**prompt, attention_mask=torch.ones(1, 1, 5, 5))
    assert hook_count(model) == 0
