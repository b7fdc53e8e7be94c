"""Whether what was loaded is what a model's folder holds: its class, its weights, its quantisation, its tokenizer.

Transformers loads a folder whose weights are not those of the class that it has chosen: what is missing becomes random
numbers, what is left over is passed over, and so is a quantisation that it does not know. Such a model decodes as well
as any, so no later proof would show it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Set
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.quantizers.auto import AutoHfQuantizer

from capvec.engines.transformers import modeling_capvec
from capvec.engines.transformers.hooks import ResidualPath
from capvec.errors import UsageError

_UNUSED = re.compile(
    r"(^|[._])(attn|attention)\.(masked_)?bias$"  # causal masks, which earlier releases stored
    r"|(inv_freq|cos_cached|sin_cached|position_ids|causal_mask)$"  # and what else is computed today
    r"|\.[qkv]_scale$"  # of a quantised cache; the cache here is not quantised
)
"""Tensors of a decoder block that no model needs."""
_SHOWN = 3
"""Names in a message."""
MOST_LAYERS = 10_000
"""They are made before the weights are looked at, and take time and memory."""


def check_config(config: Any, raw: Mapping[str, Any], name: str) -> None:
    """Check what a config says, before weights are loaded.

    Args:
        config: as transformers reads it.
        raw: `config.json`.
        name: the model's.

    Raises:
        UsageError: an encoder-decoder, more layers than any model has, a config with code of its own, or a quantisation
            unknown to transformers.
    """
    if config.is_encoder_decoder or getattr(type(config), "is_encoder_decoder", False):
        raise UsageError(
            f"the model {name!r} ({config.model_type}) is an encoder-decoder; expected a decoder-only model, such as "
            "Llama or Qwen"
        )
    if (layers := config.get_text_config(decoder=True).num_hidden_layers) > MOST_LAYERS:
        raise UsageError(f"the model {name!r} has num_hidden_layers = {layers}; expected at most {MOST_LAYERS:,}")
    own = _code(raw).get("AutoConfig", "")
    if own and not _same(own, type(config).__name__):
        raise _own_code(name, own, type(config).__name__)
    knows: Any = AutoHfQuantizer.supports_quant_method
    for part in {id(one): one for one in (config, config.get_text_config(decoder=True))}.values():
        asked = getattr(part, "quantization_config", None)
        asked = asked if isinstance(asked, dict) or asked is None else asked.to_dict()
        if asked and not knows(asked):
            raise UsageError(
                f"the model {name!r} is quantised by {asked.get('quant_method')!r}, which this version of transformers "
                "does not know; expected weights that are not quantised, or by a method that it has"
            )


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Check that a tokenizer is no stand-in for one that a model's folder has code for.

    Raises:
        UsageError: it is one.
    """
    own = _code(get_tokenizer_config(name)).get("AutoTokenizer") or ()
    classes = [one.rpartition(".")[2] for one in ([own] if isinstance(own, str) else own) if one]
    loaded = type(tokenizer).__name__
    if classes and not any(_same(one.removesuffix("Fast"), loaded.removesuffix("Fast")) for one in classes):
        raise _own_code(name, classes[0], loaded)


def check_model(model: Any, raw: Mapping[str, Any], report: Mapping[str, Any], path: ResidualPath, name: str) -> None:
    """Check the class of a loaded model, and that its weights are those of the folder, all of them.

    Args:
        model: the model.
        raw: `config.json`.
        report: what `from_pretrained` says with `output_loading_info`.
        path: the decoder blocks.
        name: the model's.

    Raises:
        UsageError: another class, or weights that are missing, of another shape or left over.
    """
    loaded, named = type(model).__name__, raw.get("architectures") or ()
    if named and not any(_same(one, loaded) for one in named):
        raise UsageError(
            f"the folder of {name!r} has a {', '.join(named)}, and transformers would load it as a {loaded}: "
            f"{_CODE}; expected a causal or image-text model of a class that transformers has"
        )
    for loader, own in _code(raw).items():
        if loader in ("AutoModelForCausalLM", "AutoModelForImageTextToText") and not _same(own, loaded):
            raise _own_code(name, own, loaded)
    text = _Text(model, path)
    if unlike := {key for key, *_ in report["mismatched_keys"]}:
        raise UsageError(
            f"the weights of {name!r} are those of another {loaded}: {some_names(unlike)} has another shape than "
            f"config.json says; expected the config.json that was saved with the weights"
        )
    if lost := {key for key in report["missing_keys"] if text.has(key)}:
        raise UsageError(
            f"the weights of {name!r} are incomplete, and random numbers would stand for {some_names(lost)}; expected "
            f"every weight of a {loaded}"
        )
    if extra := set(text.left_over(report["unexpected_keys"])):
        raise UsageError(
            f"the weights of {name!r} are not those of a {loaded} with this config.json: it has no place for "
            f"{some_names(extra)}; expected a config.json that names the architecture, the number of layers and the "
            "quantisation of the weights"
        )
    if report["error_msgs"]:
        raise UsageError(f"the weights of {name!r} cannot be loaded: {' '.join(report['error_msgs'])[:300]}")


_CODE = "what a folder has code of its own for is not run here, and another class computes something else"


class _Text:
    """Which weights of a model take part when it reads and writes text."""

    def __init__(self, model: Any, path: ResidualPath) -> None:
        self._modules = dict(model.named_modules())
        self._blocks, self._count = path.name + ".", len(path.blocks)
        self._inner = {name for block in path.blocks for name in block.state_dict()}
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        self._places = (
            path.name.rpartition(".")[0] + ".",
            *(name + "." for name, one in self._modules.items() if any(one is end for end in ends)),
        )
        name = type(model).__name__.removeprefix(modeling_capvec.PREFIX)
        self._has_towers = name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()

    def has(self, key: str) -> bool:
        """Whether a weight is of the text model; an image-text model has others, of its towers."""
        return not self._has_towers or key.startswith(self._places)

    def left_over(self, keys: Set[str]) -> Iterator[str]:
        """Weights for which a part of the text model has no place, or which are a whole further block."""
        further: defaultdict[str, set[str]] = defaultdict(set)
        for key in keys:
            number, _, rest = key.removeprefix(self._blocks).partition(".")
            if _UNUSED.search(key):
                continue
            if not key.startswith(self._blocks):
                owner = self._modules.get(key.rpartition(".")[0])
                if self.has(key) and owner is not None and any(True for _ in owner.parameters(recurse=False)):
                    yield key
            elif number.isdigit() and int(number) >= self._count:
                further[number].add(rest)
            else:
                yield key
        for number, names in further.items():
            if names <= self._inner:  # a block that predicts later tokens has other weights too, and is not used
                yield from (f"{self._blocks}{number}.{rest}" for rest in names)


def _code(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The classes that a folder has code for, without their modules: `auto_map`."""
    found = raw.get("auto_map") or {}
    found = found if isinstance(found, dict) else {"AutoTokenizer": found}
    return {loader: own.rpartition(".")[2] if isinstance(own, str) else own for loader, own in found.items()}


def _same(one: str, other: str) -> bool:
    """Whether two names are of one class; the spelling of some has changed in case."""
    return one.casefold() == other.casefold()


def _own_code(name: str, own: str, loaded: str) -> UsageError:
    return UsageError(
        f"the folder of {name!r} has code of its own for {own}, and transformers would take its {loaded} instead: "
        f"{_CODE}; expected a model for which transformers has the code"
    )


def some_names(keys: Collection[str]) -> str:
    """The first of some names, and how many more there are."""
    first = sorted(keys)[:_SHOWN]
    return ", ".join(first) + (f" and {len(keys) - len(first)} more" if len(keys) > len(first) else "")
