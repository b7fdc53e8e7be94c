"""Baking: the edits against the hooks they stand for, what the proof accepts, and what the command refuses."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.publish.bake.order import parse_order
from capvec.publish.bake.record import Baked, Proof

pytestmark = pytest.mark.unit

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
alphas = st.floats(-4, 4).filter(lambda alpha: abs(alpha) > 1e-3)
D, INNER, TOKENS = 6, 10, 5


@pytest.fixture(scope="module")
def writer(torch):
    """A random writer of each kind, with an input for it: `[batch, positions, …]`."""
    from transformers.pytorch_utils import Conv1D

    from capvec.publish.bake.writers import Writer

    def build(kind, seed):
        torch.manual_seed(seed)
        module = {
            "linear": lambda: torch.nn.Linear(INNER, D, bias=False),
            "linear with a bias": lambda: torch.nn.Linear(INNER, D),
            "GPT-2's map": lambda: Conv1D(D, INNER),
            "embedding": lambda: torch.nn.Embedding(INNER, D),
        }[kind]()
        if getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias)
        given = torch.randint(0, INNER, (2, TOKENS)) if kind == "embedding" else torch.randn(2, TOKENS, INNER)
        return Writer("writer", module.requires_grad_(False)), given

    return build


def unit_vector(torch, seed):
    v = np.random.default_rng(seed).standard_normal(D)
    return torch.tensor(v / np.linalg.norm(v), dtype=torch.float32)


@pytest.fixture(scope="module")
def edited(torch):
    """What a writer gives after an edit."""
    from capvec.publish.bake.edit import put

    def run(writer, edit, given):
        holder = torch.nn.Module()
        holder.writer = writer.module
        put(holder, edit)
        return holder.writer(given)

    return run


maps = st.sampled_from(["linear", "linear with a bias", "GPT-2's map"])
kinds = st.sampled_from(["linear", "linear with a bias", "GPT-2's map", "embedding"])


@quick
@given(maps, seeds, alphas)
def test_the_bias_adds_alpha_times_the_vector_at_every_position(torch, writer, edited, kind, seed, alpha):
    from capvec.publish.bake.edit import add_bias

    made, given_ = writer(kind, seed)
    shift = alpha * unit_vector(torch, seed)
    expected = made.module(given_) + shift
    edit = add_bias([(made, shift)])
    assert edit.new_biases == (("writer",) if kind == "linear" else ())
    torch.testing.assert_close(edited(made, edit, given_), expected, atol=1e-5, rtol=0)


@quick
@given(kinds, seeds)
def test_an_orthogonalised_writer_writes_what_the_hook_leaves(torch, writer, edited, kind, seed):
    from capvec.engines.transformers.hooks import ablate_writes
    from capvec.publish.bake.edit import orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    plain = made.module(given_).double()
    expected = plain - (plain @ unit.double())[..., None] * unit.double()
    with ablate_writes([made.module], unit):
        hooked = made.module(given_)
    after = edited(made, orthogonalise([made], unit), given_)
    # float32 sums of ten terms below 10: a few roundings of 10 · 2⁻²⁴ ≈ 6e-7 each.
    torch.testing.assert_close(hooked.double(), expected, atol=5e-6, rtol=0)
    torch.testing.assert_close(after.double(), expected, atol=5e-6, rtol=0)
    assert float((after @ unit).abs().max()) < 1e-5


@quick
@given(kinds, seeds)
def test_orthogonalising_twice_is_orthogonalising_once(torch, writer, edited, kind, seed):
    from capvec.publish.bake.edit import orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    once = edited(made, orthogonalise([made], unit), given_)
    again = replace(made, module=made.module)
    torch.testing.assert_close(edited(again, orthogonalise([again], unit), given_), once, atol=5e-6, rtol=0)


@quick
@given(maps, seeds, alphas)
def test_a_writer_that_is_ablated_and_then_added_to_writes_one_component_whatever_comes_in(
    torch, writer, edited, kind, seed, alpha
):
    """Nearest to `set`, which has no edit of its own."""
    from capvec.publish.bake.edit import add_bias, orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    edited(made, orthogonalise([made], unit), given_)
    written = edited(made, add_bias([(made, alpha * 3 * unit)]), given_)  # v = 3·d
    torch.testing.assert_close(written @ unit, torch.full((2, TOKENS), 3 * alpha), rtol=1e-4, atol=1e-5)


def test_a_tied_head_keeps_the_embedding_that_the_input_loses(torch):
    from capvec.publish.bake.edit import orthogonalise, put
    from capvec.publish.bake.writers import Writer

    model = torch.nn.Module()
    model.embed, model.head = torch.nn.Embedding(8, D), torch.nn.Linear(D, 8, bias=False)
    model.head.weight = model.embed.weight
    kept = model.head.weight.detach().clone()
    put(model, orthogonalise([Writer("embed", model.embed)], unit_vector(torch, 0)))
    assert torch.equal(model.head.weight, kept)
    assert not torch.allclose(model.embed.weight, kept)


@quick
@given(seeds)
def test_what_bfloat16_costs_is_below_its_rounding_and_float32_costs_nothing(torch, writer, seed):
    from capvec.publish.bake.edit import add_bias, left_over, lost_bias, orthogonalise

    made, _ = writer("linear", seed)
    unit = unit_vector(torch, seed)
    shifts = [(made, 3 * unit)]
    # bfloat16's numbers lie 2⁻⁷ apart at 1, so rounding moves each element, and thus the vector, by at most 2⁻⁸ of it.
    assert 0 < lost_bias(add_bias(shifts), shifts, torch.bfloat16) <= 2**-8
    assert lost_bias(add_bias(shifts), shifts, torch.float32) == 0
    edit = orthogonalise([made], unit)
    largest = 2**-8 * float(torch.linalg.vector_norm(edit.tensors["writer.weight"]))
    back = left_over(edit, [made], unit, torch.bfloat16)
    assert back <= largest / float(torch.linalg.vector_norm(unit @ made.weight))
    assert left_over(edit, [made], unit, torch.float32) < back


def test_the_hooks_on_the_writers_are_gone_after_an_exception(torch):
    from capvec.engines.transformers.hooks import ablate_writes, jitter, watch

    module, given_ = torch.nn.Linear(D, D), torch.randn(1, 2, D)
    before = module(given_)
    for context in (ablate_writes([module], unit_vector(torch, 0)), jitter([module]), watch([module])):
        with suppress(RuntimeError), context:
            assert len(module._forward_hooks) == 1
            raise RuntimeError
        assert not module._forward_hooks
    assert torch.equal(module(given_), before)


def test_a_jitter_moves_every_element_by_one_rounding(torch):
    from capvec.engines.transformers.hooks import jitter

    module, given_ = torch.nn.Linear(D, D).requires_grad_(False), torch.randn(3, 4, D)
    plain = module(given_)
    with jitter([module]):
        moved = (module(given_).double() / plain.double() - 1).abs()
    # ε = 2⁻²³ relative, itself rounded to a multiple of the element's spacing, which is between ε/2 and ε of it.
    assert float(moved.min()) >= 2**-24
    assert float(moved.max()) <= 2**-22


def test_the_component_left_is_measured_against_the_largest_residual_so_far(torch):
    from capvec.engines.transformers.hooks import component

    # One position whose residual is 3·e₀ and then 1·e₁ + 0.3·e₀: 3/3 of it lies along e₀, then 0.3 of 3.
    states = torch.zeros(2, 1, 1, D)
    states[0, 0, 0, 0], states[1, 0, 0, 0], states[1, 0, 0, 1] = 3.0, 0.3, 1.0
    e0 = torch.eye(D)[0]
    assert component(states, e0) == pytest.approx(1.0)
    states[0, 0, 0] = torch.eye(D)[2] * 3.0
    assert component(states, e0) == pytest.approx(0.1)


# ------------------------------------------------------------------------------------------------ the proof

GOOD = Proof(
    conversations=4,
    positions=256,
    difference=1e-5,
    tolerance=1e-4,
    noise=1e-5,
    effect=3.0,
    tokens=64,
    tokens_equal=64,
    ties=0,
)


@pytest.mark.parametrize(
    ("measured", "parted", "reason"),
    [
        ({}, 0, None),
        ({"tokens_equal": 60, "ties": 1}, 1, None),
        ({"difference": 2e-4}, 0, "does not match"),
        ({"difference": float("nan")}, 0, "does not match"),
        ({"tokens_equal": 60}, 1, "does not match"),
        ({"effect": 1e-5}, 0, "nothing is proved"),
        ({"effect": float("nan")}, 0, "nothing is proved"),
    ],
)
@pytest.mark.usefixtures("torch")
def test_a_proof_needs_equal_logits_equal_tokens_and_a_steer_that_shows(measured, parted, reason):
    from capvec.publish.bake.proof import BakeMismatch, judge

    proof = replace(GOOD, **measured)
    if reason is None:
        judge(proof, parted)
    else:
        with pytest.raises(BakeMismatch, match=reason):
            judge(proof, parted)


def test_what_was_baked_goes_to_json_and_back():
    baked = Baked(
        model="pocket",
        revision=None,
        architecture="LlamaForCausalLM",
        op="ablate",
        direction="abc",
        direction_file="dir.pt",
        layers=(3,),
        alpha=None,
        alpha_unit="stored",
        stored_alphas=(),
        doses=(),
        changed=("x.bias",),
        needs_remote_code=False,
        dtype="bfloat16",
        rounding=0.001,
        proof=GOOD,
        versions={"torch": "2"},
    )
    assert Baked.from_json(baked.to_json()) == baked


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def asked(tmp_path):
    (tmp_path / "dir.pt").touch()
    return {
        "model": "pocket",
        "direction": str(tmp_path / "dir.pt"),
        "layer": "22+26",
        "op": "add",
        "alpha": "1.5",
        "alpha_unit": "stored",
        "out": str(tmp_path / "out"),
    }


def test_an_order_names_layers_with_a_plus(asked):
    order = parse_order(asked)
    assert (order.layers, order.alpha, order.op) == ((22, 26), 1.5, "add")
    assert "after block 22 and 26" in order.in_words()


def test_an_ablation_says_that_it_is_not_the_sweeps(asked):
    said = parse_order(asked | {"op": "ablate", "alpha": None, "layer": "22"}).in_words()
    assert "every write" in said
    assert "the sweep's --op ablate" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"op": "swap"}, "--op 'swap': expected one of add, ablate"),
        ({"op": "set"}, "--op set cannot be baked: .* depends on the component that arrives"),
        ({"layer": "auto"}, "--layer 'auto'"),
        ({"layer": "22+22"}, "named twice"),
        ({"alpha": None}, "needs --alpha"),
        ({"alpha": "0"}, "adds nothing"),
        ({"alpha": "much"}, "--alpha 'much'"),
        ({"alpha_unit": "dose"}, "--alpha-unit 'dose'"),
        ({"op": "ablate", "layer": "22"}, "has no strength"),
        ({"op": "ablate", "alpha": None}, "name one layer"),
        ({"direction": "nowhere.pt"}, "no such file"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_the_options_name(asked, change, reason):
    with pytest.raises(UsageError, match=reason):
        parse_order(asked | change)


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bake", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "usage: capvec bake" in said
    assert "required for `add`, refused for `ablate`" in said
    assert "`set` cannot be baked" in said


def test_nothing_is_written_over(asked, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").touch()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    assert main(["bake", *arguments]) == 2
    assert "not an empty folder" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ the class


def test_only_models_and_configs_of_transformers_have_a_biased_form():
    pytest.importorskip("torch")
    from capvec.engines.transformers import modeling_capvec

    assert modeling_capvec.BiasedMistralConfig.model_type == "capvec_biased_mistral"
    assert modeling_capvec.BiasedMistralForCausalLM.config_class is modeling_capvec.BiasedMistralConfig
    for name in ("BiasedAutoTokenizer", "Biasedpipeline", "BiasedNothing", "MistralConfig"):
        with pytest.raises(AttributeError):
            getattr(modeling_capvec, name)
