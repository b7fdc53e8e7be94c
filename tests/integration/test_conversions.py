"""Models that capvec makes of others: GGUF files and adapters are converted with all of their tensors, or refused."""

from __future__ import annotations

import json
import shutil

import pytest
from support.gguf_models import tensors, write_gguf
from support.tiny_models import save_tiny

from capvec.errors import UsageError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),  # by peft
]

QUERY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("adapter")
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, config).save_pretrained(folder)
    return folder


def edited(folder, copy, edit, **settings):
    """A copy of a model or adapter with other weights, or another config."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, copy)
    (weights,) = copy.glob("*.safetensors")
    save_file({name: one.clone() for name, one in edit(load_file(weights)).items()}, weights, {"format": "pt"})
    for config in settings and [*copy.glob("adapter_config.json"), *copy.glob("config.json")]:
        config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return copy


def test_an_adapter_is_added_to_every_weight_that_it_is_for(base, adapter, tmp_path):
    from safetensors.torch import load_file

    from capvec.models.merge import merge

    merge(base, adapter, tmp_path)
    before, low, after = (load_file(next(one.glob("*.safetensors"))) for one in (base, adapter, tmp_path))
    scale = 8 / 4  # lora_alpha / r
    for name, weight in before.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}.lora_"
        adds = scale * low[f"{stem}B.weight"] @ low[f"{stem}A.weight"] if f"{stem}A.weight" in low else 0.0
        assert (after[name].float() - (weight + adds)).abs().max() <= 2**-8 * (weight + adds).abs().max(), name
    assert len(low) == 16


def changed(one):
    return lambda weights: weights | {QUERY: one(weights[QUERY])}


def without(part):
    return lambda weights: {name: one for name, one in weights.items() if part not in name}


def more(name, like):
    return lambda weights: weights | {name: weights[like]}


ADAPTERS = {
    "a tensor is missing": (without(QUERY), {}, r"lacks .*q_proj\.lora_A"),
    "none is there": (without(""), {}, r"lacks .*q_proj\.lora_A.* and 13 more"),
    "a further layer": (
        more(QUERY.replace("layers.0", "layers.9"), QUERY),
        {},
        r"it has .*layers\.9\.self_attn\.q_proj",
    ),
    "a scale": (more("scale", QUERY), {}, "it has scale;"),
    "another shape": (changed(lambda one: one[:-1]), {}, r"size mismatch for .*layers\.0\.self_attn\.q_proj\.lora_A"),
    "whole numbers": (changed(lambda one: one.char()), {}, r"q_proj\.lora_A\.weight: torch\.int8"),
    "NaN": (changed(lambda one: one * float("nan")), {}, r"q_proj\.lora_A\.weight: a number is NaN"),
    "fewer modules": (without(" "), {"target_modules": ["q_proj"]}, r"it has .*v_proj"),
    "more modules": (without(" "), {"target_modules": ["q_proj", "v_proj", "o_proj"]}, r"lacks .*o_proj"),
    "a module that is not saved": (without(" "), {"modules_to_save": ["lm_head"]}, "lm_head"),
    "modules of another model": (without(" "), {"target_modules": ["c_attn"]}, "c_attn"),
    "another kind": (without(" "), {"peft_type": "IA3"}, "expected the config of a LoRA adapter"),
    "a setting of tomorrow": (without(" "), {"use_tomorrow": True}, "peft does not know use_tomorrow"),
}


@pytest.mark.parametrize(("edit", "settings", "named"), ADAPTERS.values(), ids=ADAPTERS)
def test_an_adapter_that_does_not_fit_is_refused_by_the_name_of_its_tensor(
    base, adapter, tmp_path, edit, settings, named
):
    from capvec.models.merge import merge

    with pytest.raises(UsageError, match=named):
        merge(base, edited(adapter, tmp_path / "adapter", edit, **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


BASES = {
    "a weight is missing": (without("norm"), {}, r"incomplete.*norm"),
    "an unknown quantisation": (without(" "), {"quantization_config": {"quant_method": "of tomorrow"}}, "of tomorrow"),
    "another shape": (without(" "), {"intermediate_size": 8}, r"mlp\.down_proj\.weight, .* another shape"),
}


@pytest.mark.parametrize(("edit", "settings", "named"), BASES.values(), ids=BASES)
def test_a_base_model_that_is_not_whole_is_refused(base, adapter, tmp_path, edit, settings, named):
    from capvec.models.merge import merge

    with pytest.raises(UsageError, match=named):
        merge(edited(base, tmp_path / "base", edit, **settings), adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_gguf_file_is_read_once_for_config_weights_and_tokenizer(tmp_path, monkeypatch):
    import gguf

    from capvec.models.convert import convert

    read, reader = [], gguf.GGUFReader

    def counted(path, *others):
        read.append(str(path))
        return reader(path, *others)

    monkeypatch.setattr(gguf, "GGUFReader", counted)
    file = write_gguf(tmp_path / "m.gguf", tensors())
    convert(file, tmp_path / "out")
    assert read == [str(file)]
    assert gguf.GGUFReader is counted


def test_a_gguf_file_is_converted_whole(tmp_path):
    import torch
    from safetensors.torch import load_file

    from capvec.models.convert import convert

    given = tensors()
    convert(write_gguf(tmp_path / "m.gguf", given), tmp_path / "out")
    made = load_file(tmp_path / "out" / "model.safetensors")
    assert len(made) == len(given)
    up = torch.from_numpy(given["blk.1.ffn_up.weight"]).bfloat16()
    assert torch.equal(made["model.layers.1.mlp.up_proj.weight"], up)


UP = "blk.1.ffn_up.weight"
FILES = {
    "a tensor is missing": (without(UP), "mlp.up_proj.weight"),
    "a further block": (more("blk.9.ffn_up.weight", UP), "blk.9.ffn_up.weight"),
    "a scale": (more("blk.1.ffn_up.scale", UP), "blk.1.ffn_up.scale"),
    "another shape": (lambda given: given | {UP: given[UP][:-1]}, "mlp.up_proj.weight has another shape"),
}


@pytest.mark.parametrize(("edit", "named"), FILES.values(), ids=FILES)
def test_a_gguf_file_that_is_not_whole_is_refused_by_the_name_of_a_tensor(tmp_path, edit, named):
    from capvec.models.convert import convert

    with pytest.raises(UsageError, match=named):
        convert(write_gguf(tmp_path / "m.gguf", edit(tensors())), tmp_path / "out")
    assert not (tmp_path / "out").exists()
