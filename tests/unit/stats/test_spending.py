"""The group-sequential sign-flip test against its definition, flip by flip."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capvec.stats.pairing import sign_flip
from capvec.stats.spending import course, is_whole_group, sign_patterns, spent

pytestmark = pytest.mark.unit

tables = st.integers(1, 3).flatmap(
    lambda analyses: st.integers(1, 7).flatmap(
        lambda tasks: st.lists(
            st.lists(st.integers(-3, 3), min_size=tasks, max_size=tasks), min_size=analyses, max_size=analyses
        )
    )
)
levels = st.floats(0.001, 0.6)


def spends_of(analyses, level):
    return [spent((analysis + 1) / analyses, level) for analysis in range(analyses)]


def walk(table, spends):
    differences = np.array(table, float)[:, None, :]
    return course(differences, spends, sign_patterns(differences.shape[2]))


def by_definition(table, spends):
    """Every one of the 2ⁿ flips, its whole course; for each analysis what crosses, and the stage-wise p of the data."""
    flips = list(product((1, -1), repeat=len(table[0])))
    sums = [
        [abs(sum(s * d for s, d in zip(flip, analysis, strict=True))) for analysis in table] for flip in flips
    ]  # the first flip leaves the data as they are
    gone, rows = set(), []
    for analysis, spend in enumerate(spends):
        size = [course_[analysis] for course_ in sums]
        p = Fraction(sum(f in gone or size[f] >= size[0] for f in range(len(flips))), len(flips))
        # The least boundary that fewer than the spent share go beyond, with those that are gone.
        for bound in sorted(set(size)):
            beyond = {f for f in range(len(flips)) if size[f] > bound}
            if Fraction(len(gone | beyond), len(flips)) < spend:
                gone |= beyond
                break
        rows.append((Fraction(len(gone), len(flips)), 0 in gone, p))
    return rows


@given(tables, levels)
@settings(max_examples=60, deadline=None)
def test_boundaries_and_p_values_are_those_of_the_definition(table, level):
    spends = spends_of(len(table), level)
    found = walk(table, spends)
    for analysis, (used, crossed, p) in enumerate(by_definition(table, spends)):
        assert found.used[analysis, 0] == pytest.approx(float(used))
        assert found.crossed[analysis, 0] == crossed
        assert found.pvalues[analysis, 0] == pytest.approx(float(p))


@given(tables, levels)
@settings(max_examples=60, deadline=None)
def test_what_crosses_never_reaches_what_is_spent_and_a_crossing_has_a_p_below_it(table, level):
    spends = spends_of(len(table), level)
    found = walk(table, spends)
    assert (found.used[:, 0] < spends).all()
    assert (np.diff(found.used[:, 0]) >= 0).all()
    crossed = found.crossed[:, 0]
    if crossed.any():
        first = int(crossed.argmax())
        assert found.pvalues[first, 0] <= found.used[first, 0] < spends[first] <= level + 1e-12


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=12), levels)
@settings(max_examples=60, deadline=None)
def test_with_one_look_it_is_the_plain_sign_flip_test(whole, level):
    found = walk([whole], [level])
    plain = sign_flip([value / 4 for value in whole]).pvalue
    assert found.pvalues[0, 0] == pytest.approx(plain)
    assert found.crossed[0, 0] == (plain < level)


@given(tables, levels, st.randoms(use_true_random=False), st.floats(0.1, 10))
@settings(max_examples=60, deadline=None)
def test_order_of_tasks_sign_and_scale_do_not_matter(table, level, random, scale):
    spends = spends_of(len(table), level)
    order = list(range(len(table[0])))
    random.shuffle(order)
    before, after = (
        walk(table, spends),
        walk([[-scale * analysis[task] for task in order] for analysis in table], spends),
    )
    for name in ("used", "crossed", "pvalues", "possible"):
        assert getattr(after, name) == pytest.approx(getattr(before, name))


def test_a_later_look_does_not_move_an_earlier_one():
    table = np.random.default_rng(0).integers(-2, 3, (4, 1, 8)).astype(float)
    spends = spends_of(4, 0.3)
    whole = course(table, spends, sign_patterns(8))
    for analyses in (1, 2, 3):
        part = course(table[:analyses], spends[:analyses], sign_patterns(8))
        assert (part.beyond == whole.beyond[:analyses]).all()
        assert (part.pvalues == whole.pvalues[:analyses]).all()


def test_the_spending_is_lan_and_demets_and_ends_at_the_level():
    # Φ⁻¹(0.975) = 1.959964; at half of the trials 2 − 2Φ(1.959964·√2) = 2 − 2Φ(2.771808) = 0.005575.
    assert spent(0.5, 0.05) == pytest.approx(0.005575, abs=5e-7)
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert spent(1 / 3, 0.05) == pytest.approx(2 * (1 - stats.norm.cdf(1.959964 * 3**0.5)), rel=1e-4)


@given(st.floats(0.01, 1), st.floats(0.01, 1), levels)
def test_the_spending_rises_with_the_trials(one, other, level):
    low, high = sorted((one, other))
    assert 0 <= spent(low, level) <= spent(high, level) <= level * (1 + 1e-9)


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_few_tasks_have_every_flip_once_up_to_the_sign_of_all(tasks):
    assert is_whole_group(tasks)
    patterns = sign_patterns(tasks)
    wanted = {flip for flip in product((1, -1), repeat=tasks) if flip[0] == 1}
    assert {tuple(map(int, flip)) for flip in patterns} == wanted
    assert len(patterns) == len(wanted)


def test_many_tasks_have_a_subgroup_so_that_the_test_stays_exact():
    patterns = sign_patterns(30, generators=6)
    assert not is_whole_group(30, 6)
    assert (patterns[0] == 1).all()
    flips = {flip.tobytes() for flip in patterns}
    assert len(flips) == 64
    # Closed under products; each flip is its own inverse.
    assert all((one * other).tobytes() in flips for one in patterns for other in patterns)


def test_every_flip_of_the_data_is_judged_alike_so_the_level_is_exact():
    """Under the null each flip of the group is as likely as the data: fewer than the level of them may cross."""
    patterns = sign_patterns(25, generators=8)
    table = np.random.default_rng(3).integers(-3, 4, (3, 1, 25)).cumsum(axis=0).astype(float)
    spends = spends_of(3, 0.2)
    found = course(table * patterns, spends, patterns)  # 256 comparisons, one for each flip
    assert found.crossed[-1].mean() == found.used[-1, 0]
    assert found.used[-1, 0] < 0.2
    for level in (0.02, 0.1, 0.19):
        # Stopped where they cross, else at the end: P(p ≤ u) ≤ u.
        stage = np.where(found.crossed.any(axis=0), found.crossed.argmax(axis=0), 2)
        assert (found.pvalues[stage, np.arange(256)] <= level).mean() <= level


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: spent(0.0, 0.05), "share 0 of the trials"),
        (lambda: spent(0.5, 1.0), "level 1"),
        (lambda: sign_patterns(0), "of no task"),
        (lambda: course(np.zeros((2, 1, 3)), [0.05], sign_patterns(3)), "2 analyses of 3 tasks, 1 levels"),
        (lambda: course(np.zeros((2, 1, 3)), [0.05, 0.01], sign_patterns(3)), "none below the one before"),
    ],
)
def test_what_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
