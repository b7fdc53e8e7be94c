"""The hook math, on small stacks of blocks: what is added, what is measured, and that nothing stays behind."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checked import asked, reply_of

from capvec.errors import SteeringFault
from capvec.receipts import check_receipts
from capvec.steering import BlockLayout, Steer

pytestmark = pytest.mark.unit

alphas = st.floats(-8, 8, allow_nan=False, width=32)
seeds = st.integers(0, 2**31)
quick = settings(max_examples=40, deadline=None)


@pytest.fixture(scope="module")
def hooks():
    from capvec.engines.transformers import hooks

    return hooks


@pytest.fixture(scope="module")
def path_of(hooks):
    """The way of the residual through a stack, the final norm known or not."""

    def path_of(model, end=True):
        names = {module: name for name, module in model.named_modules()}
        return hooks.ResidualPath(list(model.layers), model.norm if end else None, "layers", names)

    return path_of


@pytest.fixture(scope="module")
def stack(torch):
    """Builds a residual stack: blocks that return a tensor or, every other one if `mixed`, a tuple; then a norm."""

    class Block(torch.nn.Module):
        def __init__(self, d, as_tuple):
            super().__init__()
            self.linear, self.as_tuple = torch.nn.Linear(d, d), as_tuple

        def forward(self, hidden_states):
            out = hidden_states + torch.tanh(self.linear(hidden_states))
            return (out, "attention weights") if self.as_tuple else out

    class BlockLayout(torch.nn.Module):
        def __init__(self, layers, d):
            super().__init__()
            self.layers = torch.nn.ModuleList(Block(d, index % 2 == 1) for index in range(layers))
            self.norm = torch.nn.LayerNorm(d)

        def residuals(self, h):
            """The input of every block and of the norm: what the next module really receives."""
            seen = [h]
            for block in self.layers:
                out = block(hidden_states=seen[-1])
                seen.append(out[0] if isinstance(out, tuple) else out)
            self.normed = self.norm(seen[-1])
            return seen

        def forward(self, h):
            self.residuals(h)
            return self.normed

    def build(seed, layers=3, d=6):
        torch.manual_seed(seed % 2**31)
        return BlockLayout(layers, d).requires_grad_(False)

    return build


@pytest.fixture(scope="module")
def run(torch, hooks, path_of):
    """Runs a stack under steers `[(layer, alpha, vector, *op, positions, keep_norm), …]` for each row.

    Gives residuals and meters.
    """

    def run(model, h, rows, mask=None, end=True, **tokens):
        path = path_of(model, end)
        made = [
            hooks.accumulators(
                [Steer(layer, f"d{k}", float(alpha), *how) for k, (layer, alpha, _, *how) in enumerate(row)],
                [torch.as_tensor(np.asarray(steer[2], np.float32)) for steer in row],
            )
            for row in rows
        ]
        mask = torch.ones(h.shape[:2], dtype=torch.bool) if mask is None else mask
        with hooks.steer(path, made, mask, **tokens):
            residuals = model.residuals(h)
        return residuals, made

    return run


def inputs(torch, seed, rows=2, positions=4, d=6):
    return torch.randn(rows, positions, d, generator=torch.Generator().manual_seed(seed))


def vector(seed, d=6):
    return np.random.default_rng(seed).standard_normal(d).astype(np.float32)


def hook_count(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@quick
@given(seeds, st.integers(0, 2))
def test_alpha_zero_is_bit_exact(torch, stack, run, seed, layer):
    model, h = stack(seed), inputs(torch, seed)
    h[0, 0, 0] = -0.0  # adding +0.0 to a negative zero would change its bits
    for plain, steered in zip(model.residuals(h), run(model, h, [[(layer, 0.0, vector(seed))]] * 2)[0], strict=True):
        assert plain.numpy().tobytes() == steered.numpy().tobytes()


@quick
@given(seeds, st.integers(0, 2), alphas)
def test_the_shift_at_the_site_is_alpha_times_the_vector_at_every_position(torch, stack, run, seed, layer, alpha):
    model, h, v = stack(seed), inputs(torch, seed), vector(seed)
    steered, _ = run(model, h, [[(layer, alpha, v)]] * 2)
    shift = steered[layer + 1] - model.residuals(h)[layer + 1]
    # Two roundings of values below 100 in float32: 100 · 2⁻²³ ≈ 1.2e-5.
    torch.testing.assert_close(shift, torch.as_tensor(np.float32(alpha) * v).expand_as(shift), atol=2.5e-5, rtol=0)


@quick
@given(seeds, alphas, alphas)
def test_two_steers_at_one_layer_add_and_layers_before_them_are_untouched(torch, stack, run, seed, a, b):
    model, h, v, w = stack(seed), inputs(torch, seed), vector(seed), vector(seed + 1)
    plain = model.residuals(h)
    steered, _ = run(model, h, [[(1, a, v), (1, b, w)]] * 2)
    assert torch.equal(steered[1], plain[1])
    shift = torch.as_tensor(np.float32(a) * v + np.float32(b) * w)
    torch.testing.assert_close(steered[2] - plain[2], shift.expand_as(plain[2]), atol=5e-5, rtol=0)


@quick
@given(seeds, alphas)
def test_each_row_gets_its_own_steers_and_an_unsteered_row_is_bit_exact(torch, stack, run, seed, alpha):
    model, h, v = stack(seed), inputs(torch, seed, rows=3), vector(seed)
    together, _ = run(model, h, [[(0, alpha, v)], [], [(2, -alpha, v)]])
    plain = model.residuals(h)
    assert torch.equal(together[-1][1], plain[-1][1])
    for row, steers in ((0, [(0, alpha, v)]), (2, [(2, -alpha, v)])):
        alone, _ = run(model, h[row : row + 1], [steers])
        torch.testing.assert_close(together[-1][row], alone[-1][0], atol=1e-4, rtol=1e-5)


@quick
@given(seeds, alphas, st.booleans())
def test_the_receipt_shows_alpha_times_the_norm(torch, stack, run, seed, alpha, end):
    model, h, v = stack(seed), inputs(torch, seed), vector(seed)
    # Layer 2 is the last: its downstream probe sits on the norm or, where none is known, behind the steer.
    _, made = run(model, h, [[(2, alpha, v)]] * 2, end=end)
    receipt = made[0].receipts(1)[0]
    # Two roundings to float32 of numbers below 100 in each of 6 places: √6 · 100 · 2⁻²³ ≈ 3e-5.
    assert receipt.shift_mean == pytest.approx(alpha * float(np.linalg.norm(v)), rel=1e-5, abs=5e-5)
    assert (receipt.fired, receipt.forwards, receipt.passed, receipt.steered) == (1, 1, 4, 4)
    expected_ambient = float(torch.linalg.vector_norm(model.residuals(h)[3][0], dim=-1).mean())
    assert receipt.ambient_norm == pytest.approx(expected_ambient, rel=1e-5)


def test_with_two_steers_each_receipt_shows_the_sum_along_its_own_direction(torch, stack, run):
    # d₀ = e₀, d₁ = (e₀ + e₁)/√2: 2·e₀ + 3·(e₀ + e₁) has 5 along d₀ and (5 + 3)/√2 along d₁.
    v, w = np.eye(6)[0], np.eye(6)[0] + np.eye(6)[1]
    _, made = run(stack(0), inputs(torch, 0), [[(1, 2.0, v), (1, 3.0, w)], []])
    first, second = made[0].receipts(1)
    assert [first.shift_mean, second.shift_mean] == pytest.approx([5.0, 8.0 / 2**0.5], abs=1e-5)
    check_receipts(*receipts_of(made))


def test_padding_is_not_measured(torch, stack, run):
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    _, made = run(stack(1), inputs(torch, 1), [[(0, 1.0, vector(1))]] * 2, mask=mask)
    counts = [(receipt.passed, receipt.steered) for receipt in (row.receipts(1)[0] for row in made)]
    assert counts == [(2, 2), (4, 4)]


def test_the_input_of_the_hook_is_not_changed_in_place(torch, stack, run):
    model, h = stack(2), inputs(torch, 2)
    kept, block = [], model.layers[0]
    block.forward = lambda hidden_states: kept.append(type(block).forward(block, hidden_states)) or kept[-1]
    run(model, h, [[(0, 3.0, vector(2))]] * 2)
    del block.forward
    assert torch.equal(kept[0], model.residuals(h)[1])


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind_even_after_an_exception(torch, stack, hooks, path_of, fails):
    model, h = stack(3), inputs(torch, 3)
    before = model(h)
    path = path_of(model)
    made = [hooks.accumulators([Steer(layer, "d", 2.0) for layer in range(3)], [torch.ones(6)] * 3)] * 2
    with suppress(RuntimeError), hooks.steer(path, made, torch.ones(2, 4, dtype=torch.bool)):
        assert hook_count(model) == 6  # three steers, three witnesses
        model(h)
        if fails:
            raise RuntimeError
    assert hook_count(model) == 0
    assert torch.equal(model(h), before)


def test_a_layer_that_does_not_exist_leaves_no_hook_on_the_others(torch, stack, hooks, path_of):
    model = stack(3)
    made = [hooks.accumulators([Steer(0, "d", 1.0), Steer(9, "d", 1.0)], [torch.ones(6)] * 2)]
    with (
        pytest.raises(IndexError),
        hooks.steer(path_of(model, end=False), made, torch.ones(1, 4, dtype=torch.bool)),
    ):
        pass
    assert hook_count(model) == 0


@quick
@given(seeds, st.floats(0.5, 8, width=32), st.integers(1, 3))
def test_passes_over_one_prompt_count_as_one_and_a_missing_one_is_caught(torch, stack, hooks, path_of, seed, alpha, at):
    model, h, one = stack(seed), inputs(torch, seed, rows=1), vector(seed)
    steers = (Steer(1, "d0", float(alpha)),)
    layout = BlockLayout("layers", 3)

    def read(*parts):
        made = hooks.accumulators(steers, [torch.as_tensor(one)])
        for part in parts:
            mask = torch.ones(1, part.stop - part.start, dtype=torch.bool)
            with hooks.steer(path_of(model), [made], mask, unfinished=part.stop < 4):
                model(h[:, part])
        return reply_of(made, 4)

    check_receipts(read(slice(0, at), slice(at, 4)), asked(steers, [one]), layout)
    for parts in ([slice(at, 4)], [slice(0, 4), slice(at, 4)]):
        with pytest.raises(SteeringFault, match="the hook ran"):
            check_receipts(read(*parts), asked(steers, [one]), layout)


def receipts_of(made, positions=4):
    """What `check_receipts` takes, for one forward pass over a prompt that drew one token."""
    steers, vectors = zip(*((accumulator.steer, accumulator.vector) for accumulator in made[0].steers), strict=True)
    return reply_of(made[0], positions), asked(steers, vectors), BlockLayout("layers", 3)


def test_a_model_that_ignores_what_the_hook_returns_is_caught(torch, stack, hooks, path_of):
    model, h = stack(4), inputs(torch, 4, rows=1)

    def bypass(h):  # passes on what `forward` gave, as code does that captured the output before the hook
        for block in model.layers:
            block(hidden_states=h)
            out = block.forward(h)
            h = out[0] if isinstance(out, tuple) else out
        model.norm(h)

    made = [hooks.accumulators([Steer(1, "d", 4.0)], [torch.ones(6)])]
    with hooks.steer(path_of(model), made, torch.ones(1, 4, dtype=torch.bool)):
        bypass(h)
    with pytest.raises(SteeringFault, match="measured a mean shift of"):
        check_receipts(*receipts_of(made))


def test_a_hook_that_never_ran_is_caught(torch, stack, hooks, path_of):
    model = stack(5)
    made = [hooks.accumulators([Steer(1, "d", 4.0)], [torch.ones(6)])]
    with hooks.steer(path_of(model), made, torch.ones(1, 4, dtype=torch.bool)):
        model.norm(inputs(torch, 5, rows=1))  # a forward pass that skips the blocks
    with pytest.raises(SteeringFault, match="the hook ran 0 times in 1 forward passes, on 0 positions"):
        check_receipts(*receipts_of(made))


def test_a_block_that_gives_something_else_than_the_batchs_residual_is_refused(torch, stack, hooks, path_of):
    model = stack(6)
    made = [hooks.accumulators([Steer(0, "d", 1.0)], [torch.ones(6)])]
    path = path_of(model)
    with (
        pytest.raises(SteeringFault, match=r"shape \(2, 4, 6\); expected \(1, 4, 6\)"),
        hooks.steer(path, made, torch.ones(1, 4, dtype=torch.bool)),
    ):
        model(inputs(torch, 6, rows=2))
    assert hook_count(model) == 0


def test_half_precision_receipts_stay_within_their_rounding_bound(torch, stack, hooks, path_of):
    model = stack(7, d=64).to(torch.bfloat16)
    h = inputs(torch, 7, rows=1, positions=32, d=64).to(torch.bfloat16)
    made = [hooks.accumulators([Steer(1, "d", 2.0)], [torch.as_tensor(vector(7, 64))])]
    with hooks.steer(path_of(model), made, torch.ones(1, 32, dtype=torch.bool)):
        model(h)
    receipt = made[0].receipts(1)[0]
    assert 0 < abs(receipt.shift_mean - 2.0 * float(np.linalg.norm(vector(7, 64)))) <= receipt.rounding
    check_receipts(*receipts_of(made, positions=32))


def test_recording_averages_block_outputs_over_the_chosen_positions_and_not_the_norms(torch, stack, hooks, path_of):
    model, h = stack(8), inputs(torch, 8)
    chosen = torch.tensor([[False, False, False, True], [True, True, False, True]])
    with hooks.record(path_of(model), chosen) as kept:
        model(h)
    residuals = model.residuals(h)
    assert len(kept) == 3
    for layer, states in enumerate(kept):
        assert torch.equal(states[0], residuals[layer + 1][0, 3])  # of one position, that position bit for bit
        expected = residuals[layer + 1][1, [0, 1, 3]].detach().double().numpy().mean(axis=0).astype(np.float32)
        np.testing.assert_array_equal(states[1].numpy(), expected)
    assert hook_count(model) == 0


def test_what_is_not_chosen_is_not_read_even_where_it_is_no_number(torch, stack, hooks, path_of):
    model, h = stack(8), inputs(torch, 8)
    broken = h.clone()
    broken[:, 0] = float("nan")
    kept = []
    for states in (h, broken):
        chosen = torch.ones(2, 4, dtype=torch.bool)
        chosen[:, 0] = False
        with hooks.record(path_of(model), chosen) as recorded:
            model(states)
        kept.append(torch.stack(recorded))
    assert torch.equal(kept[0], kept[1])


def test_recording_holds_on_to_no_graph_and_no_residual(torch, stack, hooks, path_of):
    model = stack(8)
    for positions in (4, 64):
        h = inputs(torch, 8, positions=positions).requires_grad_()
        chosen = torch.ones(2, positions, dtype=torch.bool)
        with hooks.record(path_of(model), chosen) as kept:
            model(h)
        assert [tensor.grad_fn for tensor in kept] == [None] * 3
        assert [tensor.untyped_storage().nbytes() for tensor in kept] == [2 * 6 * 4] * 3


def test_recording_refuses_rows_without_a_position_and_outputs_of_another_batch(torch, stack, hooks, path_of):
    model = stack(8)
    path = path_of(model)
    with pytest.raises(ValueError, match="at least one"), hooks.record(path, torch.zeros(2, 4, dtype=torch.bool)):
        pass
    with (
        pytest.raises(SteeringFault, match=r"block 0 gave a tensor of shape \(1, 4, 6\); expected \(2, 4\)"),
        hooks.record(path, torch.ones(2, 4, dtype=torch.bool)),
    ):
        model(inputs(torch, 8, rows=1))
    assert hook_count(model) == 0


def test_the_last_block_is_witnessed_by_the_norm_after_it(torch, stack, hooks, path_of):
    model = stack(9)
    path = path_of(model)
    assert path.receiver(1) is model.layers[2]
    assert path.receiver(2) is model.norm
    made = [hooks.accumulators([Steer(2, "d", 4.0)], [torch.ones(6)])]
    with hooks.steer(path, made, torch.ones(1, 4, dtype=torch.bool)):
        for block in model.layers:
            block(hidden_states=inputs(torch, 9, rows=1))
        model.norm(inputs(torch, 9, rows=1))  # something else arrives than what the last block returned
    with pytest.raises(SteeringFault, match="measured"):
        check_receipts(*receipts_of(made))
