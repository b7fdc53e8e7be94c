"""Any model of transformers, with a bias on linear maps that have none there.

`capvec bake` stores an addition to the residual stream as such a bias. This file goes into the folder of a model that
needs it, word for word, so that `from_pretrained(folder, trust_remote_code=True)` loads the model; capvec itself loads
the folder with its own copy and runs no code from there. `Biased<Class>` is transformers' `<Class>`, the model's or
its config's: the model gets a bias on each of the modules that `config.capvec_biases` names, and the config a model
type of its own, so that software without support for the biases refuses to load the model instead of loading it
without them.
"""

import functools
from typing import Any

import torch
import transformers

PREFIX, MODEL_TYPE = "Biased", "capvec_biased_"


@functools.cache
def _biased_config(base: Any) -> type:
    return type(PREFIX + base.__name__, (base,), {"model_type": MODEL_TYPE + base.model_type})


@functools.cache
def _biased_model(base: Any) -> type:
    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        base.__init__(self, config, *args, **kwargs)
        for name in config.capvec_biases:
            linear = self.get_submodule(name)
            linear.bias = torch.nn.Parameter(torch.zeros(linear.out_features, dtype=linear.weight.dtype))

    config = _biased_config(base.config_class)
    return type(PREFIX + base.__name__, (base,), {"__init__": init, "config_class": config})


def __getattr__(name: str) -> type:
    """`BiasedMistralForCausalLM`, `BiasedMistralConfig` and so on, made when they are asked for."""
    base: Any = getattr(transformers, name.removeprefix(PREFIX), None) if name.startswith(PREFIX) else None
    for kind, made in ((transformers.PreTrainedConfig, _biased_config), (transformers.PreTrainedModel, _biased_model)):
        if kind in getattr(base, "__mro__", ()):
            return made(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
