"""`capvec bake` on real architectures: the folder, loaded by transformers alone, against hooks that this test makes."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.tiny_models import LAYERS, WIDTH, save_tiny

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.publish.bake.order import BakeOrder
from capvec.publish.bake.record import Baked

pytestmark = pytest.mark.integration

ALPHA = 1.5
NATIVE = ("llama", "gpt2", "gpt-neox")
BIASED = ("mistral", "qwen3.5-text", "qwen3.5-image")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of a tiny model, made once."""
    made: dict[str, Path] = {}

    def folder(architecture):
        if architecture not in made:
            made[architecture] = save_tiny(tmp_path_factory.mktemp("source"), architecture)
        return made[architecture]

    return folder


@pytest.fixture(scope="module")
def vectors(torch):
    return torch.randn(LAYERS, WIDTH, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def bake(tmp_path_factory, vectors):
    """Bakes a folder: gives where it is, and its record."""
    import safetensors.torch

    from capvec.publish.bake.command import bake

    direction = tmp_path_factory.mktemp("direction") / "dir.safetensors"
    safetensors.torch.save_file({"directions": vectors}, direction)

    def run(folder, op="add", layers=(1,), alpha=ALPHA):
        out = tmp_path_factory.mktemp("baked") / "model"
        order = BakeOrder(str(folder), direction, layers, out, op, alpha if op == "add" else None)
        baked = bake(order, lambda _line: None)
        assert json.loads((out / "BAKED.json").read_text()) == json.loads(json.dumps(baked.to_json()))
        return out, baked

    return run


def load(folder, **more):
    """By transformers alone."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    image = "vision_config" in json.loads((folder / "config.json").read_text())
    auto = AutoModelForImageTextToText if image else AutoModelForCausalLM
    return auto.from_pretrained(folder, **more).eval().requires_grad_(False)


def blocks_of(model):
    return next(
        module
        for name, module in model.named_modules()
        if name.endswith(("layers", ".h")) and len(module) == LAYERS and "visual" not in name
    )


def ids(torch):
    return torch.randint(0, 256, (2, 40), generator=torch.Generator().manual_seed(3))


def logits(model, torch, edits=()):
    """Logits under forward hooks `[(module, function of its output), …]`, registered by hand."""
    with ExitStack() as stack:
        for module, change in edits:

            def hook(_module, _args, output, change=change):
                if isinstance(output, tuple):
                    return (change(output[0]), *output[1:])
                return change(output)

            stack.callback(module.register_forward_hook(hook).remove)
        return model(input_ids=ids(torch)).logits


# ------------------------------------------------------------------------------------------------ addition


@pytest.mark.parametrize("architecture", [*NATIVE, *BIASED])
def test_a_baked_addition_is_what_a_hand_made_hook_adds(torch, source, bake, vectors, architecture):
    out, baked = bake(source(architecture))
    plain = load(source(architecture))
    hooked = logits(plain, torch, [(blocks_of(plain)[1], lambda h: h + ALPHA * vectors[1])])
    alone = load(out, trust_remote_code=architecture in BIASED)
    assert baked.needs_remote_code == (architecture in BIASED) == (out / "modeling_capvec.py").exists()
    torch.testing.assert_close(logits(alone, torch), hooked, atol=1e-3, rtol=0)
    assert float((logits(plain, torch) - hooked).abs().max()) > 0.1  # what a folder without the bias would show
    assert len(baked.changed) == 1


def test_several_layers_are_baked_at_once(torch, source, bake, vectors):
    out, baked = bake(source("llama"), layers=(0, LAYERS - 1))
    plain = load(source("llama"))
    edits = [(blocks_of(plain)[at], lambda h, at=at: h + ALPHA * vectors[at]) for at in (0, LAYERS - 1)]
    torch.testing.assert_close(logits(load(out), torch), logits(plain, torch, edits), atol=1e-3, rtol=0)
    assert baked.stored_alphas == (ALPHA, ALPHA)


@pytest.mark.parametrize("architecture", ["gpt2", "mistral"])
def test_a_baked_folder_can_be_baked_again(torch, source, bake, vectors, architecture):
    once, _ = bake(source(architecture), layers=(1,))
    twice, _ = bake(once, layers=(1,))
    thrice, baked = bake(twice, layers=(2,))
    plain = load(source(architecture))
    edits = [(blocks_of(plain)[at], lambda h, at=at, n=n: h + n * ALPHA * vectors[at]) for at, n in ((1, 2), (2, 1))]
    alone = load(thrice, trust_remote_code=baked.needs_remote_code)
    torch.testing.assert_close(logits(alone, torch), logits(plain, torch, edits), atol=1e-3, rtol=0)


@pytest.mark.parametrize("architecture", ["gpt2", "mistral"])
def test_ablated_and_then_added_to_a_model_has_one_component_from_that_block_on(
    torch, source, bake, vectors, architecture
):
    """The nearest to `set`, which cannot be baked."""
    ablated, _ = bake(source(architecture), op="ablate", layers=(1,))
    both, baked = bake(ablated, layers=(1,))
    model, found = load(both, trust_remote_code=baked.needs_remote_code), []
    unit = vectors[1] / vectors[1].norm()

    def look(residual):
        found.append(residual @ unit)
        return residual

    logits(model, torch, [(block, look) for block in blocks_of(model)])
    for layer, component in enumerate(found):
        expected = ALPHA * vectors[1].norm() if layer >= 1 else torch.tensor(0.0)
        torch.testing.assert_close(component, expected.expand_as(component), atol=1e-4, rtol=1e-5)
    assert len(found) == LAYERS


def test_without_trust_a_folder_with_code_does_not_load_instead_of_loading_unsteered(source, bake):
    out, _ = bake(source("qwen3.5-text"))
    with pytest.raises(ValueError, match="trust_remote_code"):
        load(out, trust_remote_code=False)


def test_a_tensor_too_many_in_a_plain_folder_is_ignored_which_is_why_baked_ones_bring_code(torch, source, tmp_path):
    import safetensors.torch

    shutil.copytree(source("mistral"), tmp_path / "naive")
    weights = safetensors.torch.load_file(tmp_path / "naive" / "model.safetensors")
    weights["model.layers.1.mlp.down_proj.bias"] = torch.full((WIDTH,), 3.0)
    safetensors.torch.save_file(weights, tmp_path / "naive" / "model.safetensors", {"format": "pt"})
    assert torch.equal(logits(load(tmp_path / "naive"), torch), logits(load(source("mistral")), torch))


def test_the_engine_loads_a_folder_with_code_and_does_not_run_the_code(torch, source, bake, tmp_path):
    from capvec.engines.transformers.models import load_model

    baked, _ = bake(source("mistral"))
    out = tmp_path / "elsewhere"
    shutil.copytree(baked, out)
    (out / "modeling_capvec.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
    served = load_model(str(out), dtype="float32", device="cpu")
    assert type(served.model).__name__ == "BiasedMistralForCausalLM"
    torch.testing.assert_close(logits(served.model, torch), logits(load(baked, trust_remote_code=True), torch))
    assert not (tmp_path / "ran").exists()


def test_the_engine_refuses_other_models_that_bring_code(source, tmp_path):
    from capvec.engines.transformers.models import load_model

    shutil.copytree(source("mistral"), tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    config |= {"model_type": "other", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    (tmp_path / "other" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UsageError, match="contains custom code"):
        load_model(str(tmp_path / "other"))
    assert not (tmp_path / "ran").exists()


# ------------------------------------------------------------------------------------------------ ablation

SUMMANDS = ("self_attn", "linear_attn", "attn", "attention", "mlp", "embed_tokens", "wte", "wpe", "embed_in")
"""Last names of the modules whose outputs are added to the residual: not the linear maps that `bake` looks for."""


@pytest.mark.parametrize("architecture", [*NATIVE, *BIASED])
def test_a_baked_ablation_leaves_nothing_of_the_direction_in_any_residual(torch, source, bake, vectors, architecture):
    out, baked = bake(source(architecture), op="ablate", layers=(2,))
    assert not baked.needs_remote_code
    unit = vectors[2] / vectors[2].norm()
    plain, alone = load(source(architecture)), load(out)

    def remove(h):
        return h - (h @ unit)[..., None] * unit

    summands = [
        (module, remove)
        for name, module in plain.named_modules()
        if name.rpartition(".")[2] in SUMMANDS and "visual" not in name
    ]
    hooked, ablated = logits(plain, torch, summands), logits(alone, torch)
    torch.testing.assert_close(ablated, hooked, atol=1e-2, rtol=0)
    assert float((logits(plain, torch) - hooked).abs().max()) > 0.1

    for block in blocks_of(alone):
        block.register_forward_hook(lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out))
    seen = []
    logits(alone, torch)
    assert len(seen) == LAYERS
    for residual in seen:
        assert float((residual @ unit).abs().max()) < 1e-4 * float(residual.norm(dim=-1).mean())


def test_a_tied_head_is_untied_and_reads_with_the_old_embedding(torch, source, bake):
    out, _ = bake(source("gpt2"), op="ablate")
    before, after = load(source("gpt2")), load(out)
    assert before.config.tie_word_embeddings
    assert not after.config.tie_word_embeddings
    assert torch.equal(after.lm_head.weight, before.transformer.wte.weight)
    assert not torch.allclose(after.transformer.wte.weight, before.transformer.wte.weight)


def test_an_ablation_reaches_what_images_write(torch, source, bake, vectors):
    out, baked = bake(source("qwen3.5-image"), op="ablate")
    assert {"model.visual.merger.linear_fc2.weight", "model.visual.merger.linear_fc2.bias"} <= set(baked.changed)
    merger = load(out).model.visual.merger.linear_fc2
    unit = vectors[1] / vectors[1].norm()
    patches = merger(torch.randn(7, merger.in_features))
    assert float((patches @ unit).abs().max()) < 1e-5 * float(patches.norm(dim=-1).mean())


# ------------------------------------------------------------------------------------------------ refusals


def test_a_norm_behind_the_writers_is_found_and_the_model_refused(torch, source, bake, tmp_path):
    """Gemma's norms scale every dimension of a write by its own weight: no bias, and no projection, survives that."""
    model = load(source("gemma3"))
    for name, parameter in model.named_parameters():
        if name.endswith("layernorm.weight"):
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    shutil.copytree(source("gemma3"), tmp_path / "gemma")
    model.save_pretrained(tmp_path / "gemma")
    for op in ("add", "ablate"):
        with pytest.raises(UsageError, match="post_feedforward_layernorm"):
            bake(tmp_path / "gemma", op=op)


def test_a_mixture_of_experts_is_refused_and_no_folder_is_left(source, tmp_path, vectors, capsys):
    import safetensors.torch

    safetensors.torch.save_file({"directions": vectors}, tmp_path / "dir.safetensors")
    asked = ["--model", str(source("qwen3-moe")), "--direction", str(tmp_path / "dir.safetensors"), "--layer", "1"]
    for op in (["--op", "add", "--alpha", "1"], ["--op", "ablate"]):
        assert main(["bake", *asked, *op, "--out", str(tmp_path / "out")]) == 2
        assert "mixture of experts" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["dir.safetensors"]


def test_a_layer_that_the_model_lacks_is_refused(source, bake):
    with pytest.raises(UsageError, match=r"layers 0 to 3"):
        bake(source("llama"), layers=(4,))


# ------------------------------------------------------------------------------------------------ the proof


def test_the_proof_fails_without_the_edit_and_with_another_one(torch, source, bake, vectors):
    from capvec.directions.direction import Direction
    from capvec.engines.transformers.models import load_model
    from capvec.publish.bake.plan import make_plan
    from capvec.publish.bake.proof import BakeMismatch, conversations, observe, prove

    original = load_model(str(source("llama")), dtype="float32", device="cpu")
    order = BakeOrder("llama", Path("dir.safetensors"), (1,), Path("out"), "add", ALPHA)
    plan = make_plan(order, original, Direction(vectors.numpy()), torch.float32)
    reference = observe(original, conversations(original, "zero-shot"), plan.hook, plan.rounded)
    assert prove(reference, load_model(str(bake(source("llama"))[0]), dtype="float32", device="cpu")).ties == 0
    with pytest.raises(BakeMismatch, match="does not match"):
        prove(reference, original)
    for wrong in ({"layers": (2,)}, {"alpha": 1.001 * ALPHA}):
        other = load_model(str(bake(source("llama"), **wrong)[0]), dtype="float32", device="cpu")
        with pytest.raises(BakeMismatch, match="does not match"):
            prove(reference, other)


def test_a_steer_too_weak_to_show_proves_nothing_and_leaves_no_folder(source, bake):
    from capvec.publish.bake.proof import BakeMismatch

    with pytest.raises(BakeMismatch, match="nothing is proved"):
        bake(source("llama"), alpha=1e-7)


# ------------------------------------------------------------------------------------------------ the folder


@pytest.mark.parametrize("op", ["add", "ablate"])
def test_a_bfloat16_model_stays_one_and_only_what_changed_is_float32(torch, source, bake, tmp_path, op):
    import safetensors.torch

    shutil.copytree(source("qwen3.5-text"), tmp_path / "half")
    load(source("qwen3.5-text"), dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    out, baked = bake(tmp_path / "half", op=op)
    before, after = (safetensors.torch.load_file(at / "model.safetensors") for at in (tmp_path / "half", out))
    assert {name for name, tensor in after.items() if tensor.dtype == torch.float32} == set(baked.changed)
    for name in set(before) - set(baked.changed):
        assert torch.equal(before[name], after[name])
    alone = load(out, trust_remote_code=baked.needs_remote_code, dtype="auto")
    assert {parameter.dtype for parameter in alone.parameters()} == {torch.bfloat16}
    assert baked.dtype == "bfloat16"
    assert 0 < baked.rounding < 2**-7


def test_a_baked_folder_is_served_as_its_source_is(source, bake, tmp_path):
    from capvec.engines.protocol import GenerationDefaults
    from capvec.models import resolve_model

    shutil.copytree(source("llama"), tmp_path / "agent")
    serve = {"name": "agent", "context_length": 2048, "prompt_style": "brief", "max_steps": 7, "max_tokens": 33}
    (tmp_path / "agent" / "capvec.json").write_text(json.dumps({"adapter": "abc", "serve": serve}))
    (tmp_path / "agent" / "README.md").write_text("what the source is")
    (tmp_path / "agent" / "LICENSE").write_text("its licence")
    out, _ = bake(tmp_path / "agent")
    served = resolve_model(str(out))
    assert served.name == "model"  # the folder's: it is another model than its source
    assert (served.context_length, served.defaults) == (2048, GenerationDefaults("brief", 7, 33))
    kept = {path.name for path in (tmp_path / "agent").iterdir()} - {"README.md"}
    assert {path.name for path in out.iterdir()} == kept | {"BAKED.json"}
    for name in kept - {"config.json", "model.safetensors", "capvec.json"}:
        assert (out / name).read_bytes() == (tmp_path / "agent" / name).read_bytes()


def test_the_bundled_model_is_baked_at_its_real_size(tmp_path, capsys):
    import safetensors.torch
    import torch

    vectors = torch.randn(30, 576, generator=torch.Generator().manual_seed(0))
    safetensors.torch.save_file({"directions": vectors}, tmp_path / "dir.safetensors")
    # 200 long: about what the bundled direction has at layer 26, a third of the residual there.
    asked = ["--direction", str(tmp_path / "dir.safetensors"), "--layer", "26", "--alpha", "200"]
    out = tmp_path / "agent"
    assert main(["bake", *asked, "--alpha-unit", "norm", "--out", str(out)]) == 0
    assert f"pytest -m sweep --model {out}" in capsys.readouterr().out
    baked = Baked.from_json(json.loads((out / "BAKED.json").read_text()))
    assert baked.stored_alphas == pytest.approx((200 / float(vectors[26].norm()),))
    assert baked.changed == ("model.layers.26.mlp.down_proj.bias",)
    assert not baked.needs_remote_code
    assert baked.proof.difference <= baked.proof.tolerance < 0.01 * baked.proof.effect
    assert baked.proof.tokens_equal == baked.proof.tokens
    assert baked.rounding < 2**-8
