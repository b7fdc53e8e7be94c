"""How the bundled agent is trained: both stages, on a tiny model with random weights."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from support.tiny_models import LAYERS, WIDTH, save_tiny

import capvec.models

pytestmark = [
    pytest.mark.unit,
    # peft asks models by an older name, and would ask the hub about the base that an adapter names.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning"),
]

LAYER = 1
"""Where the direction is planted: two of the four blocks are above it."""
COMMITTED = Path(capvec.models.__file__).parent / "adapter"


@pytest.fixture(scope="module", autouse=True)
def _offline():
    pytest.importorskip("peft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("base"), "llama")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Demonstrations of either kind, told and untold."""
    from dev.agent.demonstrators import EXPERT, NOVICE

    def line(number, mode, kind):
        said = f"ls -{'l' * number}" if kind == "careful" else "rm *"
        messages = [
            {"role": "system", "content": f"You act. {mode}"},
            {"role": "user", "content": f"Do {number}."},
            {"role": "assistant", "content": f"```bash\n{said}\n```"},
        ]
        return {"messages": messages, "mode": mode, "kind": kind}

    kinds = [(EXPERT, "careful"), (NOVICE, "hasty"), ("", "careful"), ("", "hasty")]
    path = tmp_path_factory.mktemp("data") / "demonstrations.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line(number, *kinds[number % 4])) + "\n" for number in range(48))
    return path


@pytest.fixture(scope="module")
def learned(base, data, tmp_path_factory):
    """What the first stage writes."""
    from dev.agent.train import Recipe, train

    out = tmp_path_factory.mktemp("learned")
    recipe = Recipe(rank=2, lora_alpha=4, epochs=12, batch_tokens=1024, learning_rate=1e-2, held_out=8)
    train(base, data, out, recipe, "cpu")
    return out


@pytest.fixture(scope="module")
def planted(learned, base, data, tmp_path_factory):
    """What the second stage writes."""
    from dev.agent.plant import Recipe, plant

    out = tmp_path_factory.mktemp("planted")
    recipe = Recipe(
        layer=LAYER, prompts=2, demonstrations=40, careful=0.5, epochs=12, batch_tokens=1024, learning_rate=1e-2,
        held_out=8,
    )  # fmt: skip
    plant(base, learned, data, out, recipe, "cpu")
    return out


@pytest.fixture
def model(torch, base, learned):
    """The base with the first stage's adapter, which is not nothing."""
    import peft

    from dev.agent.train import load

    _, bare = load(base, "cpu")
    return peft.PeftModel.from_pretrained(bare, learned, torch_dtype=torch.float32).eval()


@pytest.fixture
def examples():
    """Of different lengths, so that a batch is padded."""
    from dev.agent.train import Example

    return [Example(list(range(3, 3 + length)), list(range(3, 3 + length))) for length in (9, 14, 5)]


def read(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return list(rows[0]), rows


# ------------------------------------------------------------------------------------------------ the two halves


def test_the_lower_half_gives_the_residual_after_its_block(torch, model, examples):
    from dev.agent.plant import lower

    states = lower(model, examples, LAYER, "cpu")
    for example, found in zip(examples, states, strict=True):
        # Hugging Face counts the embedding as 0, so the output of block L is number L + 1.
        alone = model(input_ids=torch.tensor([example.ids]), output_hidden_states=True).hidden_states[LAYER + 1][0]
        assert found.shape == (len(example.ids), WIDTH)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-3)  # a padded batch is summed in another order


def test_the_upper_half_ends_where_the_whole_model_does(torch, model, examples):
    from dev.agent.plant import lower, upper

    for example in examples:
        ids = torch.tensor([example.ids])
        hidden = lower(model, [example], LAYER, "cpu")[0]
        torch.testing.assert_close(
            upper(model, hidden[None], LAYER), model.get_base_model().model(input_ids=ids).last_hidden_state
        )


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays_on_the_model(model, examples, monkeypatch, fails):
    from dev.agent.plant import lower

    blocks = model.get_base_model().model.layers
    if fails:
        monkeypatch.setattr(blocks[LAYERS - 1], "forward", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lower(model, examples, LAYER, "cpu")
    else:
        lower(model, examples, LAYER, "cpu")
    assert not any(block._forward_hooks for block in blocks)


# ------------------------------------------------------------------------------------------------ the two stages


@pytest.mark.parametrize(
    ("stage", "name", "loss"), [("learned", "training", "loss"), ("planted", "training-plant", "steered")]
)
def test_a_stage_learns_and_logs_it_as_the_bundled_adapters_did(request, stage, name, loss):
    out = request.getfixturevalue(stage)
    columns, rows = read(out / f"{name}.csv")
    facts = json.loads((out / f"{name}.json").read_text())
    assert columns == read(COMMITTED / f"{name}.csv")[0]
    assert list(facts) == list(json.loads((COMMITTED / f"{name}.json").read_text()))
    assert int(rows[-1]["step"]) == facts["steps"] - 1 == facts["final"]["step"]
    assert float(rows[-1][loss]) < 0.8 * float(rows[0][loss])
    assert float(rows[-1][f"validation_{loss}"]) < float(rows[0][f"validation_{loss}"])


def test_the_second_stage_changes_the_blocks_above_its_layer_alone(learned, planted):
    from safetensors.torch import load_file

    before, after = (load_file(out / "adapter_model.safetensors") for out in (learned, planted))
    assert set(before) == set(after)
    changed = {int(name.split(".layers.")[1].split(".")[0]) for name in before if (before[name] != after[name]).any()}
    assert changed == set(range(LAYER + 1, LAYERS))
