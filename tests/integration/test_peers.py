"""steering-vectors and repeng on the same input: where they agree with capvec, and where they are wrong.

`tests/README.md` lists the faults; each has a test here that shows it, so that we notice when it is mended.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from support.labelled import estimate
from support.tiny_models import LAYERS, WIDTH, load_tiny

from capvec.steering import Steer

pytestmark = pytest.mark.integration

ALPHA = 1.5
POSITIVE = ["the report is written", "all the tests pass now", "a file was moved to /app/out"]
NEGATIVE = ["nothing was written", "I cannot tell", "the file is still where it was"]


@pytest.fixture(scope="module")
def peer():
    return pytest.importorskip("steering_vectors", reason="steering-vectors: see requirements-test.lock")


@pytest.fixture(scope="module")
def repeng():
    pytest.importorskip("sklearn", reason="scikit-learn: see requirements-test.lock")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float_", np.float64, raising=False)  # what keeps repeng from NumPy 2
        return pytest.importorskip("repeng", reason="repeng: see requirements-test.lock")


@pytest.fixture
def loaded(tmp_path):
    """A Llama of its own for each test: both peers change the model that they are given."""
    return load_tiny(tmp_path, "llama")


@pytest.fixture(scope="module")
def vectors(torch):
    return torch.randn(LAYERS, WIDTH, generator=torch.Generator().manual_seed(7))


def ids(torch, n=12):
    return torch.randint(0, 256, (1, n), generator=torch.Generator().manual_seed(n))


def residuals(loaded, torch, text):
    """capvec's residual of every layer at a text's last token, `[n_layers, d_model]`."""
    from capvec.engines.transformers.hooks import watch

    with watch(loaded.path.blocks) as seen, torch.inference_mode():
        loaded.model(input_ids=torch.tensor([loaded.tokenizer(text)["input_ids"]]))
    return torch.stack(seen)[:, 0, -1]


def steered(loaded, torch, vectors, layers, tokens, **more):
    """Logits and cache of one pass under capvec's hook."""
    from capvec.engines.transformers.hooks import accumulators, steer

    row = accumulators([Steer(layer, "d", ALPHA) for layer in layers], [vectors[layer] for layer in layers])
    with steer(loaded.path, [row], torch.ones(*tokens.shape, dtype=torch.bool)), torch.inference_mode():
        return loaded.model(input_ids=tokens, **more)


def two_steps(model, torch, tokens):
    """Logits of a prompt, and of one more token over its cache."""
    with torch.inference_mode():
        first = model(input_ids=tokens[:, :-1], use_cache=True)
        second = model(input_ids=tokens[:, -1:], past_key_values=first.past_key_values)
    return first.logits[:, -1], second.logits[:, -1]


def hooks_of(model):
    return sum(len(module._forward_hooks) for module in model.modules())


# ------------------------------------------------------------------------------------------------ agreement


def test_the_mean_difference_is_steering_vectors_mean_aggregate(torch, peer):
    rng = np.random.default_rng(0)
    positives, negatives = (rng.standard_normal((9, LAYERS, WIDTH)).astype(np.float32) for _ in range(2))
    ours = estimate(positives, negatives)
    for layer in range(LAYERS):
        pair = (torch.as_tensor(states[:, layer]) for states in (positives, negatives))
        np.testing.assert_allclose(ours[layer], peer.mean_aggregator()(*pair), atol=1e-6)


def test_a_direction_from_texts_is_the_one_that_steering_vectors_trains(torch, peer, loaded):
    trained = peer.train_steering_vector(
        loaded.model, loaded.tokenizer, list(zip(POSITIVE, NEGATIVE, strict=True)), read_token_index=-1
    )
    states = [torch.stack([residuals(loaded, torch, text) for text in texts]).numpy() for texts in (POSITIVE, NEGATIVE)]
    ours = estimate(*states)
    assert sorted(trained.layer_activations) == list(range(LAYERS))
    for layer, theirs in trained.layer_activations.items():
        np.testing.assert_allclose(ours[layer], theirs, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen3.5-text"])
def test_adding_at_layers_gives_steering_vectors_logits(torch, peer, vectors, tmp_path, architecture):
    loaded = load_tiny(tmp_path, architecture)
    ours = steered(loaded, torch, vectors, (0, 2), ids(torch)).logits
    plain = steered(loaded, torch, vectors, (), ids(torch)).logits
    vector = peer.SteeringVector({layer: vectors[layer] for layer in (0, 2)}, "decoder_block")
    with vector.apply(loaded.model, multiplier=ALPHA), torch.inference_mode():
        theirs = loaded.model(input_ids=ids(torch)).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert float((plain - ours).abs().max()) > 0.1


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adding_at_layers_gives_repengs_logits(torch, repeng, vectors, tmp_path, architecture):
    loaded = load_tiny(tmp_path, architecture)
    ours = steered(loaded, torch, vectors, (0, 2), ids(torch)).logits
    model = repeng.ControlModel(loaded.model, [0, 2])
    control = repeng.ControlVector("llama", {layer: vectors[layer].numpy() for layer in (0, 2)})
    model.set_control(control, ALPHA)
    with torch.inference_mode():
        theirs = model(input_ids=ids(torch)).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_cached_steps_are_steered_as_both_peers_steer_them(torch, peer, repeng, vectors, loaded):
    tokens = ids(torch)
    first = steered(loaded, torch, vectors, (1,), tokens[:, :-1], use_cache=True)
    second = steered(loaded, torch, vectors, (1,), tokens[:, -1:], past_key_values=first.past_key_values)
    ours = (first.logits[:, -1], second.logits[:, -1])
    with peer.SteeringVector({1: vectors[1]}, "decoder_block").apply(loaded.model, multiplier=ALPHA):
        theirs = two_steps(loaded.model, torch, tokens)
    model = repeng.ControlModel(loaded.model, [1])
    model.set_control(repeng.ControlVector("llama", {1: vectors[1].numpy()}), ALPHA)
    for pair in (theirs, two_steps(model, torch, tokens)):
        for ours_at, theirs_at in zip(ours, pair, strict=True):
            torch.testing.assert_close(ours_at, theirs_at, atol=1e-4, rtol=0)


def test_below_the_last_layer_repeng_reads_the_same_residuals(torch, repeng, loaded):
    theirs = repeng.extract.batched_get_hiddens(
        loaded.model, loaded.tokenizer, POSITIVE, list(range(LAYERS - 1)), batch_size=3
    )
    ours = torch.stack([residuals(loaded, torch, text) for text in POSITIVE]).numpy()
    for layer in range(LAYERS - 1):
        np.testing.assert_allclose(ours[:, layer], theirs[layer], atol=1e-4)


def test_the_paired_component_is_steering_vectors_pca_and_repengs_pca_center(torch, peer, repeng, loaded):
    rng = np.random.default_rng(3)
    states = rng.standard_normal((8, 2, WIDTH)).astype(np.float32)
    states[:, 0] += 2 * rng.standard_normal(WIDTH)  # a common difference, so that the first component stands out
    positives, negatives = states[:, :1], states[:, 1:]
    ours = estimate(positives, negatives, "paired-pca", tasks=[f"task-{at % 8}" for at in range(16)])[0]
    unit = ours / np.linalg.norm(ours)
    theirs = peer.pca_aggregator()(torch.as_tensor(states[:, 0]), torch.as_tensor(states[:, 1]))
    np.testing.assert_allclose(unit, theirs, atol=1e-5)
    np.testing.assert_allclose(unit, trained(repeng, loaded, states, "pca_center")[1], atol=1e-5)


# ------------------------------------------------------------------------------------------------ steering-vectors


def test_steering_vectors_token_indices_cannot_be_used_through_apply(peer, loaded, vectors):
    vector = peer.SteeringVector({1: vectors[1]}, "decoder_block")
    # `apply` always passes its default min_token_index = 0 along with them.
    with pytest.raises((AssertionError, UnboundLocalError)), vector.apply(loaded.model, token_indices=[0]):
        pass


def test_steering_vectors_min_token_index_is_lost_on_cached_steps(torch, peer, loaded, vectors):
    tokens = ids(torch)
    plain = two_steps(loaded.model, torch, tokens)
    vector = peer.SteeringVector({LAYERS - 1: vectors[-1]}, "decoder_block")  # the last block: no cache carries it on
    with vector.apply(loaded.model, min_token_index=5):
        prompt, step = two_steps(loaded.model, torch, tokens)
    assert float((prompt - plain[0]).abs().max()) > 0.1
    # A cached step is one token long, and its index counts from 0 again: the mask of "from 5 on" is empty.
    torch.testing.assert_close(step, plain[1])


def test_steering_vectors_leaves_hooks_behind_when_a_layer_does_not_exist(peer, loaded, vectors):
    vector = peer.SteeringVector({0: vectors[0], LAYERS: vectors[0]}, "decoder_block")
    with pytest.raises((IndexError, UnboundLocalError)), vector.apply(loaded.model):
        pass
    assert hooks_of(loaded.model) == 1


def test_steering_vectors_changes_the_blocks_output_in_place(torch, peer, loaded, vectors):
    from capvec.engines.transformers.hooks import watch

    # Whoever kept the block's output before finds it steered afterwards.
    vector = peer.SteeringVector({1: vectors[1]}, "decoder_block")
    with torch.inference_mode(), watch(loaded.path.blocks) as seen, vector.apply(loaded.model):
        loaded.model(input_ids=ids(torch))
    with torch.inference_mode(), watch(loaded.path.blocks) as plain:
        loaded.model(input_ids=ids(torch))
    torch.testing.assert_close(seen[1] - plain[1], vectors[1].expand_as(plain[1]), atol=1e-4, rtol=0)


def test_steering_vectors_takes_vision_blocks_for_the_decoder(torch, peer, vectors, tmp_path):
    loaded = load_tiny(tmp_path, "qwen3.5-image")
    tokens = ids(torch)
    with torch.inference_mode():
        plain = loaded.model(input_ids=tokens).logits
        with peer.SteeringVector({1: vectors[1]}, "decoder_block").apply(loaded.model, multiplier=ALPHA):
            theirs = loaded.model(input_ids=tokens).logits
    assert torch.equal(plain, theirs)  # where both towers are as deep, the shorter name wins, and no text is steered
    assert not torch.equal(plain, steered(loaded, torch, vectors, (1,), tokens).logits)


# ------------------------------------------------------------------------------------------------ repeng


@pytest.mark.usefixtures("repeng")
def test_repeng_does_not_import_beside_numpy_2(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "repeng"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(AttributeError, match=r"np\.float_"):
        importlib.import_module("repeng")


def test_repeng_reads_the_last_layer_after_the_final_norm_and_steers_it_before(torch, repeng, loaded):
    last = LAYERS - 1
    theirs = repeng.extract.batched_get_hiddens(loaded.model, loaded.tokenizer, POSITIVE[:1], [last], batch_size=1)
    ours = residuals(loaded, torch, POSITIVE[0])[last]
    assert not np.allclose(ours, theirs[last][0], atol=1e-2)
    np.testing.assert_allclose(loaded.path.end(ours), theirs[last][0], atol=1e-5)


def trained(repeng, loaded, states, method):
    """repeng's directions from residuals that are given, `[pairs, 2, d_model]` for each layer."""
    entries = [repeng.DatasetEntry("a", "b")] * len(states)
    return repeng.ControlVector.train(
        loaded.model,
        loaded.tokenizer,
        entries,
        method=method,
        transform_hiddens=lambda hiddens: {layer: states.reshape(-1, WIDTH).copy() for layer in hiddens},
    ).directions


def test_repeng_leaves_out_the_first_layer(repeng, loaded):
    states = np.random.default_rng(0).standard_normal((5, 2, WIDTH)).astype(np.float32)
    assert sorted(trained(repeng, loaded, states, "pca_diff")) == list(range(1, LAYERS))


def test_repengs_default_method_removes_the_mean_difference_that_it_looks_for(repeng, peer, torch, loaded):
    """Pairs differ by 10·e₀, and by ±e₁ around that: the mean difference is e₀, and centring throws it away."""
    states = np.random.default_rng(0).standard_normal((6, 2, WIDTH)).astype(np.float32)
    states[:, 1] = 0.0
    states[:, 0] = 0.0
    states[:, 0, 0] = 10.0
    states[:, 0, 1] = [1, -1] * 3
    centred = trained(repeng, loaded, states, "pca_diff")[1]
    np.testing.assert_allclose(np.abs(centred), np.eye(WIDTH)[1], atol=1e-5)
    # Its other method and steering-vectors' PCA do not centre the differences, and find e₀.
    np.testing.assert_allclose(trained(repeng, loaded, states, "pca_center")[1], np.eye(WIDTH)[0], atol=1e-5)
    theirs = peer.pca_aggregator()(torch.as_tensor(states[:, 0]), torch.as_tensor(states[:, 1]))
    np.testing.assert_allclose(theirs, np.eye(WIDTH)[0], atol=1e-5)


def test_repeng_does_not_find_the_layers_of_nested_or_other_models(repeng, tmp_path):
    loaded = load_tiny(tmp_path, "qwen3.5-image")
    with pytest.raises(AttributeError, match="num_hidden_layers"):
        repeng.extract.read_representations(loaded.model, loaded.tokenizer, [])
    with pytest.raises(AttributeError, match="layers"):
        repeng.ControlModel(loaded.model, [1])


def test_repeng_leaves_the_model_changed_when_a_layer_does_not_exist(repeng, loaded):
    with pytest.raises(IndexError):
        repeng.ControlModel(loaded.model, [0, LAYERS])
    assert type(loaded.model.model.layers[0]).__name__ == "ControlModule"
