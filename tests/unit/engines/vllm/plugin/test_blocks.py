"""Where the hooks are put on the blocks of a model, of which a stage of a pipeline holds a part."""

from __future__ import annotations

import pytest

from capvec.errors import UsageError

pytestmark = pytest.mark.unit

N_LAYERS = 6


def model_of(here, *, norm_everywhere=False):
    """A model as vLLM builds it in a stage that holds these blocks."""
    from torch import nn

    class PPMissingLayer(nn.Identity):
        """Named as vLLM's."""

    class LlamaDecoderLayer(nn.Module):
        def forward(self, positions, hidden_states, residual):
            """Never called here."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            blocks = [LlamaDecoderLayer() if number in here else PPMissingLayer() for number in range(N_LAYERS)]
            self.layers = nn.ModuleList(blocks)
            last = norm_everywhere or N_LAYERS - 1 in here
            self.norm = nn.LayerNorm(4) if last else PPMissingLayer()

    return Model()


def placed(here, layers, **options):
    """What `places` says after `hook`."""
    import torch

    from capvec.engines.vllm.plugin.blocks import find_blocks, hook, places

    blocks = find_blocks(model_of(here, **options))
    hook(blocks, layers, [torch.tensor(site) for site in range(len(layers))])
    return blocks, [(place.block, place.receiver) for place in places(blocks, len(layers))]


@pytest.mark.parametrize("norm_everywhere", [False, True])
def test_each_hook_is_in_one_stage_and_the_witness_of_its_last_block_in_the_next(norm_everywhere):
    stages = [range(2), range(2, 5), range(5, N_LAYERS)]
    found = [placed(here, range(N_LAYERS), norm_everywhere=norm_everywhere) for here in stages]
    assert [blocks.here for blocks, _ in found] == stages
    for layer in range(N_LAYERS):
        block = [f"layers.{layer}" if layer in here else "" for here in stages]
        following = layer + 1 if layer + 1 < N_LAYERS else layer
        name = f"layers.{layer + 1}" if layer + 1 < N_LAYERS else "norm"
        receiver = [name if following in here else "" for here in stages]
        assert [places[layer] for _, places in found] == list(zip(block, receiver, strict=True))


def test_a_stage_without_a_block_is_refused():
    with pytest.raises(UsageError, match="a stage of the pipeline holds none of the model's blocks"):
        placed(range(0), [1])
