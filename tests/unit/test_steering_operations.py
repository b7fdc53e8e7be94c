"""What each operation makes of a residual: against the formulas in NumPy, and by what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.engine.receipts import check_receipts, closed_forms
from capvec.errors import SteeringFault, UsageError
from capvec.records import Reply, Steer

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
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
"""Numbers below 100, rounded once to float32: 100 · 2⁻²⁴ ≈ 6e-6."""


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def site(torch):
    """One block that passes on what it gets, steered, and the module that receives it.

    `site(h, rows)` gives what arrives, float `[batch, positions, d]`, and the receipts of each row. A row is a list of
    (v, alpha, op, positions, keep_norm).
    """
    from capvec.engine import hooks

    block, norm = torch.nn.Identity(), torch.nn.Identity()
    path = hooks.ResidualPath([block], norm)

    def site(h, rows, mask=None, generated=False, assistant=True):
        h = torch.as_tensor(h)
        made = [
            hooks.meters(
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
        return arrived.numpy(), [[meter.receipt(1) for meter in row] for row in made]

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


def reply_of(receipts, prompt=TOKENS):
    """A reply of one token, drawn in one pass over the prompt."""
    return Reply("", "stop", prompt, 1, 0.0, tuple(receipts))


@quick
@given(seeds, st.lists(how, min_size=1, max_size=3), st.booleans())
def test_any_steers_together_do_what_the_formulas_say_and_the_receipt_says_so(site, seed, hows, generated):
    h, row = residual(seed), [(v, *h) for v, h in zip(vectors(seed, len(hows)), hows, strict=True)]
    out, (receipts,) = site(h, [row], generated=generated)
    np.testing.assert_allclose(out[0], by_the_formulas(h[0], row, generated), **CLOSE)
    touched = np.any([applies(where, generated) for _, _, _, where, _ in row], axis=0)
    assert out[0][~touched].tobytes() == h[0][~touched].tobytes()
    for receipt, (_, _, _, where, _) in zip(receipts, row, strict=True):
        assert (receipt.passed, receipt.steered, receipt.leak_max) == (TOKENS, sum(applies(where, generated)), 0.0)
        if receipt.steered:
            assert receipt.error_max <= 1e-5
        else:
            assert receipt.shift_mean is receipt.level_max is receipt.error_max is None


@quick
@given(seeds, st.lists(how, min_size=1, max_size=3))
def test_an_honest_reply_passes_the_check_whatever_the_steers(site, seed, hows):
    h, row = residual(seed), [(v, *h) for v, h in zip(vectors(seed, len(hows)), hows, strict=True)]
    _, (receipts,) = site(h, [row])
    steers = [receipt.steer for receipt in receipts]
    targets = closed_forms(steers, [v for v, *_ in row])
    # What is too small to be told from rounding is refused, rightly, and is another test's.
    if all(target is None or target == 0 or abs(target) > 1e-3 for target in targets):
        check_receipts(reply_of(receipts), steers, targets)


@quick
@given(seeds)
def test_an_ablation_leaves_nothing_along_the_direction_and_does_nothing_the_second_time(site, seed):
    h, (v,) = residual(seed), vectors(seed)
    row = [(v, 1.0, "ablate", "all", False)]
    once, (receipts,) = site(h, [row])
    d = v / np.linalg.norm(v)
    np.testing.assert_allclose(once @ d, 0, **CLOSE)
    np.testing.assert_allclose(site(once, [row])[0], once, **CLOSE)
    # What is orthogonal to the direction stays: h − h' is all along d.
    np.testing.assert_allclose(h - once, (h @ d)[..., None] * d, **CLOSE)
    assert max(abs(receipts[0].level_min), abs(receipts[0].level_max)) <= 1e-5


@quick
@given(seeds, alphas)
def test_setting_is_exact_and_the_same_again_the_second_time(site, seed, alpha):
    h, (v,) = residual(seed), vectors(seed)
    row = [(v, alpha, "set", "all", False)]
    once, (receipts,) = site(h, [row])
    length = float(np.linalg.norm(v))
    np.testing.assert_allclose(once @ (v / length), alpha * length, **CLOSE)
    np.testing.assert_allclose(site(once, [row])[0], once, **CLOSE)
    assert receipts[0].level_mean == pytest.approx(alpha * length, abs=1e-5)


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
    kept, (receipts,) = site(h, [[(v, alpha, op, where, True)]])
    free, _ = site(h, [[(v, alpha, op, where, False)]])
    lengths = [np.linalg.norm(states, axis=-1, keepdims=True) for states in (h, kept, free)]
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-6)
    np.testing.assert_allclose(kept / lengths[1], free / lengths[2], **CLOSE)
    if receipts[0].steered:
        assert [receipts[0].norm_ratio_min, receipts[0].norm_ratio_max] == pytest.approx([1, 1], abs=1e-6)


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
    together, receipts = site(h, rows, generated=generated)
    for index, row in enumerate(rows):
        if not row:
            assert together[index].tobytes() == h[index].tobytes()
            continue
        alone, (own,) = site(h[index : index + 1], [row], generated=generated)
        np.testing.assert_allclose(together[index], alone[0], **CLOSE)
        for mine, same in zip(own, receipts[index], strict=True):
            assert (mine.steered, mine.leak_max) == (same.steered, same.leak_max)
            assert mine.level_mean == pytest.approx(same.level_mean, abs=1e-5)


def test_padding_is_neither_steered_nor_measured(site):
    h, (v,) = residual(0), vectors(0)
    mask = [[False, False, True, True, True]]
    out, (receipts,) = site(h, [[(v, 3.0, "set", "all", False)]], mask=mask)
    assert out[0, :2].tobytes() == h[0, :2].tobytes()
    assert (receipts[0].passed, receipts[0].steered) == (3, 3)
    assert receipts[0].level_min == pytest.approx(3.0 * float(np.linalg.norm(v)), abs=1e-5)


@pytest.mark.parametrize("op", ["add", "ablate", "set"])
@pytest.mark.parametrize("keep", [False, True])
def test_in_bfloat16_the_residual_is_rounded_once_and_the_receipt_forgives_no_more(torch, op, keep):
    from capvec.engine import hooks

    generator = np.random.default_rng(4)
    h = torch.as_tensor(generator.standard_normal((1, 64, 256)), dtype=torch.bfloat16) * 8
    v = torch.as_tensor(generator.standard_normal(256), dtype=torch.float32)
    steer = Steer(0, "d", 1.0, op, "all", keep)
    made = hooks.meters([steer], [v])
    block, norm = torch.nn.Identity(), torch.nn.Identity()
    with hooks.steer(hooks.ResidualPath([block], norm), [made], torch.ones(1, 64, dtype=torch.bool)):
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
    receipt = made[0].receipt(1)
    assert 0 < receipt.error_max <= 2 * receipt.rounding_max
    check_receipts(reply_of([receipt], prompt=64), [steer], closed_forms([steer], [v.numpy()]))


@pytest.mark.parametrize(("fraction", "done"), [(0.0008, False), (0.02, True)])
def test_what_bfloat16_cannot_remove_is_no_fault_and_an_ablation_that_never_happened_is_one(torch, fraction, done):
    from capvec.engine import hooks

    # Of a direction that holds 0.08 % of the norm, a coordinate holds 1.6e-5 of it at d = 2560, and half a unit in the
    # last place of bfloat16 is at 2⁻⁹ · 0.02 = 4e-5: most coordinates cannot change. At 2 % all of them do.
    generator = np.random.default_rng(0)
    d = generator.standard_normal(2560)
    d /= np.linalg.norm(d)
    h = generator.standard_normal((1, 32, 2560))
    h += (fraction * np.linalg.norm(h, axis=-1) - h @ d)[..., None] * d
    states = torch.as_tensor(h, dtype=torch.bfloat16)
    steer, v = Steer(0, "d", 1.0, "ablate"), torch.as_tensor(d, dtype=torch.float32)
    receipts = []
    for tamper in (lambda came, _left: came, lambda _came, left: left):
        made = hooks.meters([steer], [v])
        block, norm = torch.nn.Identity(), torch.nn.Identity()
        with hooks.steer(hooks.ResidualPath([block], norm), [made], torch.ones(1, 32, dtype=torch.bool)):
            norm(tamper(block(states), states))
        receipts.append(made[0].receipt(1))
    honest, never = receipts
    check_receipts(reply_of([honest], prompt=32), [steer], (0.0,))
    assert (honest.level_max <= 2 * honest.rounding_max) == done
    assert never.level_mean == pytest.approx(fraction * np.linalg.norm(h, axis=-1).mean(), rel=0.1)
    if done:
        with pytest.raises(SteeringFault, match="level"):
            check_receipts(reply_of([never], prompt=32), [steer], (0.0,))


# ------------------------------------------------------------------------------------------------ what must be caught


def tampered(torch, steers, tamper):
    """The receipts of a pass in which `tamper` changes the residual between the steer and whoever receives it."""
    from capvec.engine import hooks

    block, norm = torch.nn.Identity(), torch.nn.Identity()
    vs = [torch.as_tensor(v) for v in vectors(3, len(steers))]
    made = hooks.meters(steers, vs)
    said = torch.tensor([ASSISTANT])
    path, mask = hooks.ResidualPath([block], norm), torch.ones(1, TOKENS, dtype=torch.bool)
    with hooks.steer(path, [made], mask, assistant=said):
        norm(tamper(block(torch.as_tensor(residual(3)))))
    receipts = [meter.receipt(1) for meter in made]
    return reply_of(receipts), steers, closed_forms(steers, [v.numpy() for v in vs])


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
def test_a_steer_that_does_not_arrive_is_caught_whatever_its_operation(torch, steers):
    untouched = torch.as_tensor(residual(3))
    check_receipts(*tampered(torch, steers, lambda h: h))
    with pytest.raises(SteeringFault, match=r"measured|what arrived"):
        check_receipts(*tampered(torch, steers, lambda _: untouched))


@pytest.mark.parametrize("steers", ALL)
def test_a_steer_that_misses_one_position_is_caught(torch, steers):
    def miss(h):
        h = h.clone()
        h[0, 1] = torch.as_tensor(residual(3))[0, 1]
        return h

    with pytest.raises(SteeringFault, match=r"measured|what arrived"):
        check_receipts(*tampered(torch, steers, miss))


def test_a_position_that_was_to_be_left_alone_must_not_move_at_all(torch):
    def leak(h):
        h = h.clone()
        h[0, 0, 0] += 1e-6
        return h

    steers = [Steer(0, "d", 2.0, positions="assistant")]
    with pytest.raises(SteeringFault, match="was to be left alone was moved"):
        check_receipts(*tampered(torch, steers, leak))
    with pytest.raises(SteeringFault, match="was to be left alone was moved"):
        check_receipts(*tampered(torch, [Steer(0, "d", 0.0)], leak))


def test_a_residual_that_is_not_a_number_is_caught(torch):
    def spoil(h):
        h = h.clone()
        h[0, 1] = float("nan")
        return h

    for steers in ALL:
        with pytest.raises(SteeringFault):
            check_receipts(*tampered(torch, steers, spoil))


def test_a_steer_of_the_assistants_tokens_needs_to_know_them_in_the_prompt_and_not_afterwards(site):
    h, row = residual(0), [(vectors(0)[0], 1.0, "add", "assistant", False)]
    with pytest.raises(SteeringFault, match="which tokens of the prompt"):
        site(h, [row], assistant=False)
    _, (receipts,) = site(h, [row], assistant=False, generated=True)
    assert receipts[0].steered == TOKENS


def test_an_ablation_has_no_strength():
    with pytest.raises(UsageError, match="alpha 2; expected 1"):
        Steer(0, "d", 2.0, "ablate")
    with pytest.raises(UsageError, match="alpha 2; expected 1"):
        Steer.from_json({"layer": 0, "direction": "d", "alpha": 2.0, "op": "ablate"})
