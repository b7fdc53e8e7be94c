"""Folders whose weights, class, quantisation or tokenizer are not what would be loaded: refused, and never guessed."""

from __future__ import annotations

import json

import pytest
from support.architectures import edit_weights, save_architecture
from support.tiny_models import CHATML, LAYERS, SPREAD, byte_tokenizer, save_tiny

from capvec.errors import UsageError

pytestmark = pytest.mark.integration


def load(folder, **options):
    from capvec.engines.transformers.models import load_model

    return load_model(str(folder), dtype="float32", device="cpu", **options)


def edit_json(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def without(part):
    return lambda weights: {name: one for name, one in weights.items() if part not in name}


def renamed(old, new):
    return lambda weights: {name.replace(old, new): one.clone() for name, one in weights.items()}


def further_block(weights):
    last, new = f"layers.{LAYERS - 1}.", f"layers.{LAYERS}."
    return weights | {name.replace(last, new): one.clone() for name, one in weights.items() if last in name}


def of_query(name, *also):
    def edit(weights):
        some = weights["model.layers.0.self_attn.q_proj.weight"][:, 0].clone()
        return weights | {f"model.layers.0.self_attn.{name}": some} | {one: some.clone() for one in also}

    return edit


def narrower(weights):
    name = "model.layers.1.mlp.up_proj.weight"
    return weights | {name: weights[name][:-1].clone()}


WEIGHTS = {
    "no head": (without("lm_head"), "random numbers would stand for lm_head.weight; expected every weight of a Llama"),
    "no second layer": (without("layers.2."), "incomplete.*model.layers.2.input_layernorm.weight.* and 6 more"),
    "no norm": (without("model.norm"), "incomplete.*model.norm.weight"),
    "one tensor missing": (without("layers.3.mlp.up"), "incomplete.*model.layers.3.mlp.up_proj.weight"),
    "all under another prefix": (renamed("model.", "foo."), "incomplete.*and 35 more"),
    "a shape of another model": (narrower, "another Llama.*: model.layers.1.mlp.up_proj.weight has another shape"),
    "a further layer": (further_block, "no place for model.layers.4.input_layernorm.weight.* and 6 more"),
    "a scale": (of_query("q_proj.weight_scale"), "no place for model.layers.0.self_attn.q_proj.weight_scale"),
    "a bias": (of_query("q_proj.bias"), "no place for model.layers.0.self_attn.q_proj.bias"),
    "a norm of queries": (of_query("q_norm.weight"), "no place for model.layers.0.self_attn.q_norm.weight"),
    "a bias of the head": (of_query("bias", "lm_head.bias"), "no place for lm_head.bias"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_not_those_of_the_model_are_refused(case, tmp_path):
    edit, said = WEIGHTS[case]
    edit_weights(save_tiny(tmp_path, "llama"), edit)
    with pytest.raises(UsageError, match=said):
        load(tmp_path)


def test_weights_that_no_model_needs_are_passed_over(tmp_path):
    also = ["score.weight", "model.mtp.0.proj.weight", f"model.layers.{LAYERS}.eh_proj.weight"]
    names = ("rotary_emb.inv_freq", "masked_bias", "k_scale", "bias")
    folder = save_tiny(tmp_path, "llama")
    for name in names:
        edit_weights(folder, of_query(name, *also))
    assert load(folder).n_layers == LAYERS


def test_an_image_text_model_needs_the_weights_of_its_text_alone(tmp_path):
    folder = save_tiny(tmp_path, "qwen3.5-image")
    edit_weights(folder, without("visual"))
    assert type(load(folder).model).__name__ == "Qwen3_5ForConditionalGeneration"
    edit_weights(folder, without("language_model.layers.1.mlp.up"))
    with pytest.raises(UsageError, match=r"incomplete.*layers\.1\.mlp\.up_proj\.weight"):
        load(folder)


@pytest.mark.parametrize("head", ["LlamaForSequenceClassification", "LlamaModel"])
def test_a_model_without_words_to_say_is_refused_by_its_class(head, tmp_path):
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    for tied in (False, True):  # where the embedding is the head too, no weight is missing
        config = transformers.LlamaConfig(
            vocab_size=258, initializer_range=SPREAD, tie_word_embeddings=tied, pad_token_id=0, **sizes
        )
        getattr(transformers, head)(config).save_pretrained(tmp_path)
        byte_tokenizer(CHATML).save_pretrained(tmp_path)
        with pytest.raises(UsageError, match=f"has a {head}, and transformers would load it as a LlamaForCausalLM"):
            load(tmp_path)


CODE = {"AutoModelForCausalLM": "modeling_mine.MineForCausalLM"}
CONFIGS = {
    "another class": ({"architectures": ["MineForCausalLM"]}, "has a MineForCausalLM"),
    "code of its own": ({"auto_map": CODE}, "code of its own for MineForCausalLM.*take its LlamaForCausalLM"),
    "no class named": ({"auto_map": CODE, "architectures": None}, "code of its own for MineForCausalLM"),
    "code for the config": ({"auto_map": {"AutoConfig": "me/it--mine.MineConfig"}}, "code of its own for MineConfig"),
    "a quantisation": ({"quantization_config": {"quant_method": "modelopt"}}, "is quantised by 'modelopt', which"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_folder_that_means_another_computation_is_refused(case, tmp_path):
    values, said = CONFIGS[case]
    edit_json(save_tiny(tmp_path, "llama") / "config.json", **values)
    with pytest.raises(UsageError, match=said):
        load(tmp_path)


def test_whatever_stands_in_a_config_the_model_is_loaded_or_refused_in_one_sentence(tmp_path):
    file = save_tiny(tmp_path, "llama") / "config.json"
    given, said = file.read_text(), list[str]()
    for key in json.loads(given):
        for value in (0, -1, 10**20, "x", []):
            edit_json(file, **{key: value})
            try:
                load(tmp_path)
            except UsageError as error:
                said.append(str(error))
            file.write_text(given)
    assert len(said) > 60
    assert not [one for one in said if "\n" in one or len(one) > 800]


def test_code_for_a_class_that_transformers_has_is_passed_over(tmp_path):
    """Published folders keep the code with which a model appeared after transformers has taken it in."""
    own = {"AutoModelForCausalLM": "modeling_llama.LLaMAForCausalLM", "AutoConfig": "configuration_llama.LlamaConfig"}
    edit_json(save_tiny(tmp_path, "llama") / "config.json", auto_map=own, architectures=["LLaMAForCausalLM"])
    assert type(load(tmp_path).model).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("own", [["tok_mine.MineTokenizer", None], [None, "tok_mine.MineTokenizerFast"]])
def test_a_tokenizer_with_code_of_its_own_is_refused(own, tmp_path):
    file = save_tiny(tmp_path, "llama") / "tokenizer_config.json"
    edit_json(file, auto_map={"AutoTokenizer": own})
    with pytest.raises(UsageError, match="code of its own for MineTokenizer"):
        load(tmp_path)


@pytest.mark.parametrize("model_type", ["bart", "marian", "whisper"])
def test_an_encoder_decoder_is_refused_as_one(model_type, tmp_path):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    CONFIG_MAPPING[model_type]().save_pretrained(tmp_path)
    byte_tokenizer(CHATML).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=rf"\({model_type}\) is an encoder-decoder; expected a decoder-only model"):
        load(tmp_path)


@pytest.mark.parametrize("model_type", ["mixtral", "gpt_oss"])
def test_what_training_asks_for_beside_the_logits_is_not_computed(model_type, tmp_path):
    folder = save_architecture(tmp_path, model_type, output_router_logits=True)
    assert load(folder).model.config.output_router_logits is False
