"""What each operation makes of a residual: against the formulas in NumPy, and by what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checked import asked, reply_of

from capvec.errors import SteeringFault, UsageError
from capvec.receipts import check_receipts
from capvec.steering import BlockLayout, IsolationCheck, Steer

pytestmark = pytest.mark.unit

D, TOKENS = 6, 5
ASSISTANT = [False, True, True, False, True]
quick = settings(max_examples=20, deadline=None)
seeds = st.integers(0, 2**31)
alphas = st.floats(-8, 8, allow_nan=False, width=32)
positions = st.sampled_from(["all", "prompt", "generated", "assistant"])
how = st.tuples(alphas, st.sampled_from(["add", "ablate", "set"]), positions, st.booleans()).map(
    lambda h: (1.0 if h[1] == "ablate" else h[0], *h[1:])
)
STACK = BlockLayout("blocks", 1)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
"""Numbers below 100, rounded once to float32: 100 · 2⁻²⁴ ≈ 6e-6."""


@pytest.fixture(scope="module")
def passage(torch):
    """One block that passes on what it gets, and the module that receives it: (path, block, norm)."""
    from capvec.engines.transformers import hooks

    block, norm = torch.nn.Identity(), torch.nn.Identity()
    return hooks.ResidualPath([block], norm, "blocks", {block: "blocks.0", norm: "norm"}), block, norm


@pytest.fixture(scope="module")
def site(torch, passage):
    """`site(h, rows)` gives what arrives, float `[batch, positions, d]`, and the `Accumulators` of each row.

    A row is a list of (v, alpha, op, positions, keep_norm).
    """
    from capvec.engines.transformers import hooks

    path, block, norm = passage

    def site(h, rows, mask=None, generated=False, assistant=True):
        h = torch.as_tensor(h)
        made = [
            hooks.accumulators(
                [Steer(0, f"d{k}", *how) for k, (_, *how) in enumerate(row)],
                [torch.as_tensor(np.asarray(v, np.float32)) for v, *_ in row],
            )
            for row in rows
        ]
        mask = torch.ones(h.shape[:2], dtype=torch.bool) if mask is None else torch.tensor(mask)
        said = torch.tensor([ASSISTANT] * len(rows)) if assistant else None
        before = h.clone()
        with hooks.steer(path, made, mask, generated=generated, assistant=said):
            arrived = norm(block(h))
        assert torch.equal(h, before)  # never in place
        assert not block._forward_hooks
        assert not norm._forward_pre_hooks
        return arrived.numpy(), made

    return site


def residual(seed, rows=1, scale=5.0):
    return (scale * np.random.default_rng(seed).standard_normal((rows, TOKENS, D))).astype(np.float32)


def vectors(seed, count=1):
    return np.random.default_rng(seed + 1).standard_normal((count, D)).astype(np.float32)


def applies(where, generated):
    """By the definitions, one token at a time."""
    return [
        {"all": True, "prompt": not generated, "generated": generated, "assistant": generated or ASSISTANT[t]}[where]
        for t in range(TOKENS)
    ]


def by_the_formulas(h, row, generated):
    """One row, float64: the documented sum, position by position."""
    out = h.astype(np.float64).copy()
    for t in range(TOKENS):
        here = [(v.astype(np.float64), *rest) for v, *rest in row if applies(rest[2], generated)[t]]
        moved = out[t].copy()
        for v, alpha, op, _, _ in here:
            d = v / np.linalg.norm(v)
            along = out[t] @ d
            moved += {"add": alpha * v, "ablate": -along * d, "set": (alpha * np.linalg.norm(v) - along) * d}[op]
        if any(keep for *_, keep in here):
            moved *= np.linalg.norm(out[t]) / np.linalg.norm(moved)
        out[t] = moved
    return out


@quick
@given(seeds, st.lists(how, min_size=1, max_size=3), st.booleans())
def test_any_steers_together_do_what_the_formulas_say_and_the_receipt_says_so(site, seed, hows, generated):
    h, row = residual(seed), [(v, *h) for v, h in zip(vectors(seed, len(hows)), hows, strict=True)]
    out, (made,) = site(h, [row], generated=generated)
    np.testing.assert_allclose(out[0], by_the_formulas(h[0], row, generated), **CLOSE)
    touched = np.any([applies(where, generated) for _, _, _, where, _ in row], axis=0)
    assert out[0][~touched].tobytes() == h[0][~touched].tobytes()
    for receipt, (_, _, _, where, _) in zip(made.receipts(1), row, strict=True):
        assert (receipt.passed, receipt.steered) == (TOKENS, sum(applies(where, generated)))
        if receipt.steered:
            assert receipt.error_max <= 2 * receipt.rounding_worst + 1e-9
            assert receipt.off_axis_max <= 1.01
        else:
            assert receipt.shift_mean is receipt.level_max is receipt.error_max is None
    moves = [(op, alpha) != ("add", 0.0) for _, alpha, op, _, _ in row]
    moved = np.any([np.array(applies(where, generated)) & m for (_, _, _, where, _), m in zip(row, moves, strict=True)],
                   axis=0)  # fmt: skip
    assert made.isolation(1) == IsolationCheck(forwards=1, sites=1, watched=1, steered=int(moved.sum()), leak_max=0.0)


@quick
@given(seeds, st.lists(how, min_size=1, max_size=3))
def test_an_honest_reply_passes_the_check_whatever_the_steers(site, seed, hows):
    h, row = residual(seed), [(v, *h) for v, h in zip(vectors(seed, len(hows)), hows, strict=True)]
    _, (made,) = site(h, [row])
    config = asked([accumulator.steer for accumulator in made.steers], [v for v, *_ in row])
    # What is too small to distinguish from rounding is refused, rightly, and is another test's.
    if all(target is None or target == 0 or abs(target) > 1e-3 for target in config.targets):
        check_receipts(reply_of(made, TOKENS), config, STACK)


@quick
@given(seeds)
def test_an_ablation_leaves_nothing_along_the_direction_and_does_nothing_the_second_time(site, seed):
    h, (v,) = residual(seed), vectors(seed)
    row = [(v, 1.0, "ablate", "all", False)]
    once, (made,) = site(h, [row])
    (receipt,) = made.receipts(1)
    d = v / np.linalg.norm(v)
    np.testing.assert_allclose(once @ d, 0, **CLOSE)
    np.testing.assert_allclose(site(once, [row])[0], once, **CLOSE)
    # What is orthogonal to the direction stays: h − h' is all along d.
    np.testing.assert_allclose(h - once, (h @ d)[..., None] * d, **CLOSE)
    assert max(abs(receipt.level_min), abs(receipt.level_max)) <= 1e-5


@quick
@given(seeds, alphas)
def test_setting_is_exact_and_the_same_again_the_second_time(site, seed, alpha):
    h, (v,) = residual(seed), vectors(seed)
    row = [(v, alpha, "set", "all", False)]
    once, (made,) = site(h, [row])
    (receipt,) = made.receipts(1)
    length = float(np.linalg.norm(v))
    np.testing.assert_allclose(once @ (v / length), alpha * length, **CLOSE)
    np.testing.assert_allclose(site(once, [row])[0], once, **CLOSE)
    assert receipt.level_mean == pytest.approx(alpha * length, abs=1e-5)


@quick
@given(seeds)
def test_to_set_to_nothing_is_to_ablate(site, seed):
    h, (v,) = residual(seed), vectors(seed)
    np.testing.assert_array_equal(
        site(h, [[(v, 0.0, "set", "all", False)]])[0], site(h, [[(v, 1.0, "ablate", "all", False)]])[0]
    )


@quick
@given(seeds, how)
def test_keeping_the_norm_keeps_it_and_changes_nothing_but_the_length(site, seed, manner):
    h, (v,) = residual(seed), vectors(seed)
    alpha, op, where, _ = manner
    kept, (made,) = site(h, [[(v, alpha, op, where, True)]])
    free, _ = site(h, [[(v, alpha, op, where, False)]])
    lengths = [np.linalg.norm(states, axis=-1, keepdims=True) for states in (h, kept, free)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-6)
    np.testing.assert_allclose(kept / lengths[1], free / lengths[2], **CLOSE)
    (receipt,) = made.receipts(1)
    if receipt.steered:
        assert [receipt.norm_ratio_min, receipt.norm_ratio_max] == pytest.approx([1, 1], abs=1e-6)


def test_what_an_ablation_leaves_nothing_of_has_no_norm_to_keep(site):
    h, v = np.zeros((1, TOKENS, D), np.float32), np.eye(D, dtype=np.float32)[0]
    h[..., 0] = 3.0
    out, _ = site(h, [[(v, 1.0, "ablate", "all", True)]])
    assert np.array_equal(out, np.zeros_like(h))


@quick
@given(seeds, alphas, alphas)
def test_additions_add_up_in_any_order_and_cancel(site, seed, a, b):
    h, (v, w) = residual(seed), vectors(seed, 2)
    steers = [(v, a, "add", "all", False), (w, b, "add", "all", False)]
    out = site(h, [steers])[0]
    np.testing.assert_allclose(out, h + np.float64(a) * v + np.float64(b) * w, **CLOSE)
    np.testing.assert_allclose(site(h, [steers[::-1]])[0], out, **CLOSE)
    np.testing.assert_allclose(site(h, [[steers[0], (v, -a, "add", "all", False)]])[0], h, **CLOSE)


@quick
@given(seeds, st.lists(st.lists(how, max_size=2), min_size=2, max_size=4), st.booleans())
def test_a_row_among_others_is_what_it_is_alone(site, seed, rows, generated):
    h = residual(seed, len(rows))
    rows = [[(v, *h) for v, h in zip(vectors(seed, 2), row, strict=False)] for row in rows]
    if not any(rows):
        rows[0] = [(vectors(seed)[0], 1.0, "add", "all", False)]
    together, made = site(h, rows, generated=generated)
    for index, row in enumerate(rows):
        if not row:
            assert together[index].tobytes() == h[index].tobytes()
            assert made[index].isolation(1) == IsolationCheck(1, sites=1, watched=1, steered=0, leak_max=0.0)
            continue
        alone, (own,) = site(h[index : index + 1], [row], generated=generated)
        np.testing.assert_allclose(together[index], alone[0], **CLOSE)
        assert own.isolation(1) == made[index].isolation(1)
        for mine, same in zip(own.receipts(1), made[index].receipts(1), strict=True):
            assert (mine.steered, mine.vector) == (same.steered, same.vector)
            assert mine.level_mean == pytest.approx(same.level_mean, abs=2 * (mine.rounding_worst or 0) + 1e-9)


def test_padding_is_neither_steered_nor_measured(site):
    h, (v,) = residual(0), vectors(0)
    mask = [[False, False, True, True, True]]
    out, (made,) = site(h, [[(v, 3.0, "set", "all", False)]], mask=mask)
    (receipt,) = made.receipts(1)
    assert out[0, :2].tobytes() == h[0, :2].tobytes()
    assert (receipt.passed, receipt.steered) == (3, 3)
    assert receipt.level_min == pytest.approx(3.0 * float(np.linalg.norm(v)), abs=1e-5)


@pytest.mark.parametrize("op", ["add", "ablate", "set"])
@pytest.mark.parametrize("keep", [False, True])
def test_in_bfloat16_the_residual_is_rounded_once_and_the_receipt_forgives_no_more(torch, passage, op, keep):
    from capvec.engines.transformers import hooks

    path, block, norm = passage
    generator = np.random.default_rng(4)
    h = torch.as_tensor(generator.standard_normal((1, 64, 256)), dtype=torch.bfloat16) * 8
    v = torch.as_tensor(generator.standard_normal(256), dtype=torch.float32)
    steer = Steer(0, "d", 1.0, op, "all", keep)
    made = hooks.accumulators([steer], [v])
    with hooks.steer(path, [made], torch.ones(1, 64, dtype=torch.bool)):
        arrived = norm(block(h))
    length = float(v.norm())
    d, exact = (v / length).double(), h.double()
    along = (exact @ d)[..., None]
    wanted = exact + {"add": length, "ablate": -along, "set": length - along}[op] * d
    if keep:
        wanted *= torch.linalg.vector_norm(exact, dim=-1, keepdim=True) / torch.linalg.vector_norm(
            wanted, dim=-1, keepdim=True
        )
    # Half a unit in the last place, and the next number where a tie or float64's own rounding decides otherwise.
    assert ((arrived.double() - wanted).abs() <= 2**-8 * wanted.abs() * (1 + 1e-6)).all()
    (receipt,) = made.receipts(1)
    assert 0 < receipt.error_max <= 2 * receipt.rounding_max
    check_receipts(reply_of(made, 64), asked([steer], [v]), STACK)


@pytest.mark.parametrize(("fraction", "done"), [(0.0008, False), (0.02, True)])
def test_what_bfloat16_cannot_remove_is_no_fault_and_an_ablation_that_never_happened_is_one(
    torch, passage, fraction, done
):
    from capvec.engines.transformers import hooks

    path, block, norm = passage
    # Of a direction that holds 0.08 % of the norm, a coordinate holds 1.6e-5 of it at d = 2560, and half a unit in the
    # last place of bfloat16 is at 2⁻⁹ · 0.02 = 4e-5: most coordinates cannot change. At 2 % all of them do.
    generator = np.random.default_rng(0)
    d = generator.standard_normal(2560)
    d /= np.linalg.norm(d)
    h = generator.standard_normal((1, 32, 2560))
    h += (fraction * np.linalg.norm(h, axis=-1) - h @ d)[..., None] * d
    states = torch.as_tensor(h, dtype=torch.bfloat16)
    steer, v = Steer(0, "d", 1.0, "ablate"), torch.as_tensor(d, dtype=torch.float32)
    replies, config = [], asked([steer], [v])
    for tamper in (lambda came, _left: came, lambda _came, left: left):
        made = hooks.accumulators([steer], [v])
        with hooks.steer(path, [made], torch.ones(1, 32, dtype=torch.bool)):
            norm(tamper(block(states), states))
        replies.append(reply_of(made, 32))
    (honest,), (never,) = (reply.receipts for reply in replies)
    check_receipts(replies[0], config, STACK)
    assert (honest.level_max <= 2 * honest.rounding_max) == done
    assert never.level_mean == pytest.approx(fraction * np.linalg.norm(h, axis=-1).mean(), rel=0.1)
    if done:
        with pytest.raises(SteeringFault, match="level"):
            check_receipts(replies[1], config, STACK)


@quick
@given(seeds, st.lists(how, min_size=1, max_size=3), st.floats(0.25, 4))
def test_what_keeps_the_norm_shows_the_shift_and_level_that_it_would_have_without(site, seed, hows, factor):
    """The rescaling is measured and undone, whatever it is: the closed forms know nothing of the residual's length."""
    h, vs = residual(seed, scale=5.0 * factor), vectors(seed, len(hows))
    kept, free = (
        site(h, [[(v, alpha, op, where, keep) for v, (alpha, op, where, _) in zip(vs, hows, strict=True)]])[1][0]
        for keep in (True, False)
    )
    for one, other in zip(kept.receipts(1), free.receipts(1), strict=True):
        if one.steered:
            allowed = 2 * (one.rounding_worst + other.rounding_worst)
            assert one.shift_mean == pytest.approx(other.shift_mean, abs=allowed)
            assert one.level_max == pytest.approx(other.level_max, abs=allowed)


@quick
@given(seeds, st.integers(1, 4))
def test_the_basis_is_orthonormal_and_spans_what_it_is_made_from_parallel_directions_too(torch, seed, count):
    from capvec.engines.transformers.hooks.downstream import orthonormal

    units = vectors(seed, count).astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    units = np.concatenate([units, -units[:1], np.zeros((1, D))])  # one more of the same, and a zero vector's
    basis = orthonormal(torch.as_tensor(units)[None])[0].numpy()
    # NumPy's projector onto the row space, by its pseudo-inverse, is B^T B of an orthonormal basis B.
    np.testing.assert_allclose(basis.T @ basis, np.linalg.pinv(units) @ units, atol=1e-9)


# ------------------------------------------------------------------------------------------------ what must be caught


@pytest.fixture(scope="module")
def tampered(torch, passage):
    """What `check_receipts` takes, of a pass in which `tamper` changes the residual on its way to whoever receives it.

    `tampered(steers, tamper)`: the batch's one row has these steers; `tampered(steers, tamper, row=())`: it has others,
    and a neighbour has them.
    """
    from capvec.engines.transformers import hooks

    path, block, norm = passage

    def tampered(steers, tamper, row=None):
        rows = [steers] if row is None else [row, steers]
        vs = [[torch.as_tensor(v) for v in vectors(3, len(own))] for own in rows]
        made = [hooks.accumulators(own, own_vectors) for own, own_vectors in zip(rows, vs, strict=True)]
        said, mask = torch.tensor([ASSISTANT] * len(rows)), torch.ones(len(rows), TOKENS, dtype=torch.bool)
        with hooks.steer(path, made, mask, assistant=said):
            norm(tamper(block(torch.as_tensor(residual(3, len(rows))))))
        return reply_of(made[0], TOKENS), asked(rows[0], vs[0]), STACK

    return tampered


ALL = [
    [Steer(0, "d", 2.0)],
    [Steer(0, "d", 2.0, keep_norm=True)],
    [Steer(0, "d", 1.0, "ablate")],
    [Steer(0, "d", 1.0, "ablate", keep_norm=True)],
    [Steer(0, "d", 2.0, "set")],
    [Steer(0, "d", 2.0, "set", "assistant", True)],
    [Steer(0, "d", 2.0), Steer(0, "e", 1.0, "ablate")],
    [Steer(0, "d", 2.0, positions="assistant"), Steer(0, "e", 1.0, positions="prompt")],
]


@pytest.mark.parametrize("steers", ALL)
def test_a_steer_that_does_not_arrive_is_caught_whatever_its_operation(torch, tampered, steers):
    untouched = torch.as_tensor(residual(3))
    check_receipts(*tampered(steers, lambda h: h))
    with pytest.raises(SteeringFault, match=r"measured|what arrived"):
        check_receipts(*tampered(steers, lambda _: untouched))


@pytest.mark.parametrize("steers", ALL)
def test_a_steer_that_misses_one_position_is_caught(torch, tampered, steers):
    def miss(h):
        h = h.clone()
        h[0, 1] = torch.as_tensor(residual(3))[0, 1]
        return h

    with pytest.raises(SteeringFault, match=r"measured|what arrived"):
        check_receipts(*tampered(steers, miss))


def test_a_position_that_was_to_be_left_alone_must_not_move_at_all(tampered):
    def leak(h):
        h = h.clone()
        h[0, 0, 0] += 1e-6
        return h

    steers = [Steer(0, "d", 2.0, positions="assistant")]
    with pytest.raises(SteeringFault, match="without a steer was moved"):
        check_receipts(*tampered(steers, leak))
    with pytest.raises(SteeringFault, match="without a steer was moved"):
        check_receipts(*tampered([Steer(0, "d", 0.0)], leak))


@pytest.mark.parametrize("steers", ALL)
@pytest.mark.parametrize("row", [(), (Steer(0, "d", 0.0),)], ids=["unsteered", "zero"])
def test_what_leaks_into_a_row_that_is_not_steered_is_caught_in_its_own_reply(tampered, steers, row):
    def leak(h):
        h = h.clone()
        h[0, 2, 3] += 1e-6  # one number in one position, by one unit in the last place or so
        return h

    check_receipts(*tampered(steers, lambda h: h, row=row))
    with pytest.raises(SteeringFault, match=r"was moved by .* another request in the batch"):
        check_receipts(*tampered(steers, leak, row=row))


@pytest.mark.parametrize("steers", [steers for steers in ALL if any(steer.positions == "all" for steer in steers)])
def test_a_move_along_another_direction_is_caught_where_the_shift_along_the_own_one_is_right(torch, tampered, steers):
    across = torch.linalg.qr(torch.as_tensor(np.concatenate([vectors(3, len(steers)), np.eye(D, dtype=np.float32)])).T)
    aside = across.Q[:, len(steers)]  # orthogonal to every direction of the steers
    with pytest.raises(SteeringFault, match="also moved along another direction"):
        check_receipts(*tampered(steers, lambda h: h + 1e-4 * aside))


@pytest.mark.parametrize("steers", [steers for steers in ALL if not any(steer.keep_norm for steer in steers)])
def test_a_rescaling_that_nobody_asked_for_is_caught(tampered, steers):
    with pytest.raises(SteeringFault):
        check_receipts(*tampered(steers, lambda h: h * 1.001))


def test_a_residual_that_is_not_a_number_is_caught(tampered):
    def spoil(h):
        h = h.clone()
        h[0, 1] = float("nan")
        return h

    for steers in ALL:
        with pytest.raises(SteeringFault):
            check_receipts(*tampered(steers, spoil))


def test_a_steer_of_the_assistants_tokens_needs_to_know_them_in_the_prompt_and_not_afterwards(site):
    h, row = residual(0), [(vectors(0)[0], 1.0, "add", "assistant", False)]
    with pytest.raises(SteeringFault, match="which tokens of the prompt"):
        site(h, [row], assistant=False)
    _, (made,) = site(h, [row], assistant=False, generated=True)
    assert made.receipts(1)[0].steered == TOKENS


def test_an_ablation_has_no_strength():
    with pytest.raises(UsageError, match="alpha 2; expected 1"):
        Steer(0, "d", 2.0, "ablate")
    with pytest.raises(UsageError, match="alpha 2; expected 1"):
        Steer.from_json({"layer": 0, "direction": "d", "alpha": 2.0, "op": "ablate"})
