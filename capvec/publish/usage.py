"""How to steer with a published direction: a snippet for transformers, and a command line for llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capvec.engines.protocol import EngineInfo
from capvec.errors import UsageError
from capvec.reading import shown
from capvec.records import Config

_PUSHES = {
    "add": "hidden + alpha * v",
    "ablate": "hidden - (hidden @ d)[..., None] * d",
    "set": "hidden + (alpha * v.norm() - hidden @ d)[..., None] * d",
}
"""What each operation makes of the residual, float32; d is the unit vector of v."""

_NAME = re.compile(r"[A-Za-z_][\w.]*|", re.ASCII)

_SNIPPET = """\
import torch
from transformers import AutoTokenizer, {architecture}
{source}
STEERS = {steers}  # decoder block, from 0: α, times the vector as it is stored

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = {architecture}.from_pretrained(MODEL, dtype=torch.{dtype})
vectors = torch.load("vectors/dir.pt", weights_only=True)["directions"]
blocks = model.get_submodule("{blocks}")


def steering(vector, alpha):
    def hook(_module, _args, output):
        residual = output[0] if isinstance(output, tuple) else output
        hidden, v = residual.float(), vector.to(residual.device)
{body}
        return (steered, *output[1:]) if isinstance(output, tuple) else steered

    return hook


handles = [blocks[layer].register_forward_hook(steering(vectors[layer], alpha)) for layer, alpha in STEERS.items()]

messages = [{{"role": "user", "content": "List the files in this folder."}}]
prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
reply = model.generate(**prompt.to(model.device), max_new_tokens=64)
print(tokenizer.decode(reply[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))

for handle in handles:
    handle.remove()
"""


@dataclass(frozen=True)
class Usage:
    """How to do what one config of the run did."""

    config: str
    snippet: str
    """A whole Python program, run in the exported folder."""
    difference: str
    """What the snippet does otherwise than the config, in words; empty for nothing."""
    llama_cpp: str
    """Empty where llama.cpp cannot do it."""


def usage_of(configs: Sequence[Config], engine: EngineInfo) -> Usage | None:
    """Usage of the first steered config; None where the run has none.

    Args:
        configs: of the run.
        engine: the engine and its model.
    """
    config = next((config for config in configs if config.kind == "steered"), None)
    if config is None:
        return None
    first = config.steers[0]
    steers = {steer.layer: steer.alpha for steer in config.steers}
    snippet = _SNIPPET.format(
        architecture=engine.architecture,
        dtype=engine.dtype,
        source=_source(engine.model),
        steers=steers,
        blocks=engine.blocks or "model.layers",
        body=_body(first.op, first.keep_norm),
    )
    everywhere = first.positions == "all"
    difference = "" if everywhere else f" (here at all positions; there only at `{first.positions}`)"
    plain = first.op == "add" and not first.keep_norm and everywhere
    return Usage(config.name, snippet, difference, _llama_cpp(steers) if plain else "")


def check_names(engine: EngineInfo) -> None:
    """Check what a snippet has of an engine, which somebody else may have written, before a snippet is made.

    Raises:
        UsageError: a name would be more than a name in a program.
    """
    for what, name in (("architecture", engine.architecture), ("dtype", engine.dtype), ("blocks", engine.blocks)):
        if not _NAME.fullmatch(name):
            raise UsageError(f"the model's {what} is {shown(name)!r}; expected a name that can stand in a program")


def _source(model: str) -> str:
    if model.startswith("pocket"):  # the bundled models are on no hub: capvec makes them
        return f"from capvec.models import resolve_model\n\nMODEL = resolve_model({_literal(model)}).path_or_id"
    return f"\nMODEL = {_literal(model)}"


def _literal(text: str) -> str:
    """A text in a program, in double quotes where nothing in it is special."""
    return f'"{text}"' if re.fullmatch(r"[\w./ -]*", text, re.ASCII) else repr(text)


def _body(op: str, keep_norm: bool) -> str:
    lines = ["d = v / v.norm()"] if op != "add" else []
    lines += [f"steered = {_PUSHES[op]}"]
    if keep_norm:
        lines += ["steered = steered * hidden.norm(dim=-1, keepdim=True) / steered.norm(dim=-1, keepdim=True)"]
    lines += ["steered = steered.to(residual.dtype)"]
    return "\n".join(" " * 8 + line for line in lines)


def _llama_cpp(steers: Mapping[int, float]) -> str:
    """One layer, which `--control-vector-layer-range` picks out, both ends included."""
    if len(steers) != 1 or 0 in steers:
        return ""
    ((layer, alpha),) = steers.items()
    scaled = f"--control-vector-scaled vectors/dir.gguf:{alpha:g}"
    return f"llama-cli -m model.gguf {scaled} --control-vector-layer-range {layer} {layer}"
