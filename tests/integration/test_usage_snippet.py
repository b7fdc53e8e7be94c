"""The usage snippet of an exported card, run as a reader would run it, on models with random weights."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.finished_run import write_run
from support.tiny_models import CONTEXT, LAYERS, WIDTH, save_tiny

from capvec.engines.protocol import EngineInfo
from capvec.publish.export import export
from capvec.publish.usage import usage_of
from capvec.records import Config
from capvec.results.run_folder import read_run_folder
from capvec.steering import Steer

pytestmark = pytest.mark.integration
ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", "model.layers"),
    "gpt2": ("GPT2LMHeadModel", "transformer.h"),
    "qwen3.5-image": ("Qwen3_5ForConditionalGeneration", "model.language_model.layers"),
}
PROMPT = [5, 9, 30, 7]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """The folder of a run on a small model, with the model beside it under the name that the card calls it by."""

    def make(architecture):
        save_tiny(tmp_path / "out" / "tiny", architecture)
        name, blocks = ARCHITECTURES[architecture]
        health = EngineInfo("tiny", "abc", name, LAYERS, WIDTH, CONTEXT, "float32", "cpu", "0.1.0", blocks)
        direction = write_run(tmp_path / "mine", health=health)
        export(tmp_path / "mine", tmp_path / "new", license_id="mit", say=print)
        (tmp_path / "out" / "tiny").rename(tmp_path / "new" / "tiny")
        monkeypatch.chdir(tmp_path / "new")
        return direction

    return make


def run_until_its_hooks_go(snippet):
    """What the snippet has defined when it has answered, its hooks still in place; and the rest of it."""
    before, rest = re.split(r"(?=^for handle in handles)", snippet, flags=re.MULTILINE)
    names: dict = {}
    exec(compile(before, "card", "exec"), names)
    return names, rest


def residuals_after(names, layer):
    """What the block after `layer` receives, by a forward pass of the snippet's own model; float32 `[tokens, d]`."""
    import torch

    received = []
    blocks = names["blocks"]
    with torch.no_grad():
        hook = blocks[layer + 1].register_forward_pre_hook(
            lambda _module, args, kwargs: received.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        names["model"](torch.tensor([PROMPT]), use_cache=False)
        hook.remove()
    return received[0][0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_snippet_steers_the_right_block_by_alpha_times_the_vector_and_leaves_nothing_behind(
    exported, architecture, capsys
):
    import numpy as np

    direction = exported(architecture)
    (snippet,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names, rest = run_until_its_hooks_go(snippet)
    steered = residuals_after(names, 2)
    exec(compile(rest, "card", "exec"), names)
    plain = residuals_after(names, 2)
    # The config is steered-L2-a1.5: 1.5·v_2 at the output of block 2, at every position.
    wanted = np.broadcast_to(1.5 * direction.vectors[2], (len(PROMPT), WIDTH))
    np.testing.assert_allclose((steered - plain).numpy(), wanted, atol=1e-4)
    assert not any(block._forward_hooks for block in names["blocks"])
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize("op", ["ablate", "set"])
def test_other_operations_do_what_they_say(exported, op, keep_norm):
    import numpy as np

    direction = exported("llama")
    steer = Steer(2, direction.hash, 1.0 if op == "ablate" else 0.5, op, keep_norm=keep_norm)
    engine = read_run_folder(Path("../mine")).engine
    names, rest = run_until_its_hooks_go(usage_of([Config("s", "steered", (steer,))], engine).snippet)
    steered = residuals_after(names, 2).numpy().astype(float)
    exec(compile(rest, "card", "exec"), names)
    plain = residuals_after(names, 2).numpy().astype(float)
    unit = direction.unit(2)
    # Removing the component along d, or making it α·‖v‖; the rest as it was, and then perhaps the old length.
    level = 0.0 if op == "ablate" else 0.5 * direction.norms[2]
    wanted = plain - np.outer(plain @ unit, unit) + level * unit
    if keep_norm:
        wanted *= (np.linalg.norm(plain, axis=1) / np.linalg.norm(wanted, axis=1))[:, None]
    np.testing.assert_allclose(steered, wanted, atol=1e-4)
