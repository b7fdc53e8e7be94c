"""The confound audit: separation against SciPy and enumeration, association against regression, and the flags."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from support.sections import tables, words

from capvec.directions.auc import auc_of_rows
from capvec.directions.audit import Audit, Confound, audit_contrast, correlations, eta_squared, project, rates
from capvec.directions.contrast import Contrast, select_contrast
from capvec.directions.recipe import Recipe
from capvec.models import bundled_traces
from capvec.records import Trace
from capvec.report.contrast import contrast_blocks
from capvec.report.section import Strong
from capvec.report.terminal import plain
from capvec.traces import read_traces

pytestmark = pytest.mark.unit

small = st.lists(st.integers(0, 4), min_size=1, max_size=7)


def contrast(positives, negatives, kind="steps"):
    """Of traces with these steps (numbers), or these tasks or models (anything)."""

    def make(name, value):
        facts = {"task": "t", "model": "m", "steps": 1} | {kind: value}
        return Trace(name, facts["task"], facts["model"], (), 0.0, facts["steps"], 0, 0)

    sides = [
        tuple(make(f"{side}{n}", value) for n, value in enumerate(values))
        for side, values in (("p", positives), ("n", negatives))
    ]
    return Contrast("same-model", "m", *sides)


def confound(name, *arguments, **more) -> Confound:
    return {found.name: found for found in audit_contrast(*arguments, **more).confounds}[name]


# ------------------------------------------------------------------------------------------------ separation


@given(small, small)
def test_a_number_separates_as_far_as_mann_whitneys_u_says_in_either_direction(pos, neg):
    found = confound("steps", contrast(pos, neg), permutations=19)
    share = stats.mannwhitneyu(pos, neg).statistic / (len(pos) * len(neg))
    assert found.auc == pytest.approx(max(share, 1 - share))
    assert found.more == ("" if abs(share - 0.5) < 1e-12 else "positives" if share > 0.5 else "negatives")
    assert (found.values, found.shared) == (len({*pos, *neg}), len({*pos} & {*neg}))


@settings(max_examples=60, deadline=None)
@given(small, small)
def test_no_score_of_an_identity_separates_further_than_the_share_of_positives(pos, neg):
    pos, neg = (["abcde"[value] for value in side] for side in (pos, neg))
    found = confound("task", contrast(pos, neg, "task"), permutations=19)
    # The oracle tries every order of the values as a score. Values of one order tie nowhere else than with themselves.
    best = max(
        np.mean([(order.index(p) > order.index(n)) + 0.5 * (p == n) for p in pos for n in neg])
        for order in permutations(sorted({*pos, *neg}))
    )
    assert found.auc == pytest.approx(best)
    assert found.more == ""


def exact(name, values, n_pos):
    """The exact p of a confound's AUC: every labelling there is, each with its score chosen again."""
    values, n = np.unique(values, return_inverse=True)[1], len(values)
    labels = np.zeros((0, n), dtype=bool)
    for picked in combinations(range(n), n_pos):
        labels = np.vstack([labels, np.isin(np.arange(n), picked)])
    found = auc_of_rows(values[None], labels) if name == "steps" else auc_of_rows(rates(values, labels), labels)
    found = np.maximum(found, 1 - found) if name == "steps" else found
    return float(np.mean(found >= found[0] - 1e-9))  # the first combination is the observed one


@pytest.mark.parametrize("name", ["steps", "task"])
@pytest.mark.parametrize("seed", range(3))
def test_p_estimates_the_share_of_labellings_that_reach_as_far(name, seed):
    values = np.random.default_rng(seed).integers(0, 4, 9)
    given_ = values if name == "steps" else [f"t{value}" for value in values]
    found = confound(name, contrast(given_[:4], given_[4:], name), seed=seed)
    p = exact(name, values, 4)
    # Nothing but chance lies between: 5 standard errors of 9,999 draws, and the observed labelling added.
    assert found.p_value == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / 9999) + 1e-4)


@pytest.mark.parametrize("name", ["steps", "task"])
def test_under_the_null_p_is_below_five_percent_in_at_most_five_percent_of_contrasts(name):
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        values = rng.integers(0, 5, 20)
        given_ = values.tolist() if name == "steps" else [f"t{value}" for value in values]
        hits += confound(name, contrast(given_[:8], given_[8:], name), permutations=199).p_value <= 0.05
    # 200 · 0.05 = 10, standard deviation 3.1: at most four of them above.
    assert hits <= 22


def test_a_task_for_every_trace_is_at_its_null_and_says_so():
    found = confound("task", contrast("abc", "defg", "task"))
    assert (found.auc, found.auc_null_p95, found.p_value) == (1.0, 1.0, 1.0)


def test_the_same_seed_gives_the_same_audit_and_it_survives_json():
    one = contrast([1, 2, 9], [3, 4, 4, 8])
    first, again = (audit_contrast(one, np.ones((7, 2)), list(range(7)), seed=3) for _ in range(2))
    assert first == again
    assert Audit.from_json(first.to_json()) == first


def test_tokens_and_projections_must_be_of_the_contrasts_traces():
    with pytest.raises(ValueError, match="2 tokens for the 3 traces"):
        audit_contrast(contrast([1], [2, 3]), tokens=[1, 2])
    with pytest.raises(ValueError, match="4 projections for the 3 traces"):
        audit_contrast(contrast([1], [2, 3]), np.zeros((4, 2)))


# ------------------------------------------------------------------------------------------------ association


@given(st.integers(0, 2**31), st.integers(2, 6), st.integers(2, 6))
def test_the_correlation_is_that_of_ranks_after_the_class_is_regressed_out(seed, n_pos, n_neg):
    rng = np.random.default_rng(seed)
    positive = np.arange(n_pos + n_neg) < n_pos
    values, projections = (
        rng.integers(0, 5, len(positive)),
        rng.normal(size=(len(positive), 2)) + 50 * positive[:, None],
    )
    ranked = [
        np.concatenate([stats.rankdata(v[positive]), stats.rankdata(v[~positive])]) for v in (values, *projections.T)
    ]
    design = np.column_stack([positive, ~positive]).astype(float)
    number, *layers = [v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in ranked]
    assume(np.abs(number).max() > 1e-9)
    expected = [np.corrcoef(number, layer)[0, 1] for layer in layers]
    assert correlations(values, projections, positive) == pytest.approx(expected)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(0, 2), min_size=2, max_size=3),
    st.lists(st.integers(0, 2), min_size=2, max_size=3),
)
def test_eta_squared_is_one_minus_the_residual_share_and_its_null_is_the_mean_over_all_permutations(seed, pos, neg):
    values, positive = np.array([*pos, *neg]), np.arange(len(pos) + len(neg)) < len(pos)
    projections = np.random.default_rng(seed).normal(size=(len(values), 2)) + 10 * positive[:, None]

    def share(values):
        """By least squares: what a mean for every (class, value) explains of what a mean for every class leaves."""
        cells = np.unique(np.column_stack([positive, values]), axis=0, return_inverse=True)[1].ravel()
        return 1 - _rss(cells, projections) / _rss(positive.astype(int), projections)

    found, null = eta_squared(values, projections, positive)
    assert found == pytest.approx(share(values))
    everywhere = [share(np.array([*p, *n])) for p in permutations(pos) for n in permutations(neg)]
    assert null == pytest.approx(np.mean(everywhere, axis=0))


def _rss(groups, projections):
    design = (groups[:, None] == np.arange(groups.max() + 1)).astype(float)
    return ((projections - design @ np.linalg.lstsq(design, projections, rcond=None)[0]) ** 2).sum(axis=0)


def test_the_class_itself_associates_nothing():
    """A projection that is the class, and a confound that is the class: nothing varies within."""
    found = audit_contrast(contrast([3, 3], [9, 9, 9]), np.repeat([[1.0], [0.0]], [2, 3], axis=0))
    assert [one.association for one in found.confounds] == [(None,)] * 3


def test_a_direction_that_follows_length_within_the_classes_is_found_out():
    steps = [2, 3, 4, 15, 17, 20, 18]
    projections = (
        np.column_stack([steps, [-value for value in steps]]) + np.array([[100, 0]]) * (np.arange(7) < 3)[:, None]
    )
    assert confound("steps", contrast(steps[:3], steps[3:]), projections).association == pytest.approx((1.0, -1.0))


def test_projections_are_lengths_along_the_unit_vector():
    residuals = np.array([[[3, 4], [1, 0]], [[0, 5], [0, 1]]], np.float32)
    np.testing.assert_allclose(project(residuals, np.array([[6, 8], [0, 0]], np.float32)), [[5, 0], [4, 0]])


# ------------------------------------------------------------------------------------------------ flags


def runs(count, **facts):
    base = {"task": "t", "model": "m", "reward": 0.0, "steps": 20, "parse_fail": 0}
    return [Trace(f"{facts}{n}", messages=(), no_cmd=0, **(base | facts)) for n in range(count)]


def test_same_model_with_failures_of_at_least_fifteen_steps_is_flagged_for_length():
    """The seed's v2: 6 passes against 20 failures."""
    traces = [*runs(6, reward=1.0, steps=5), *runs(20)]
    assert audit_contrast(select_contrast(Recipe("same-model"), traces, "m")).flags == ("steps",)


def test_cross_model_is_flagged_for_the_model():
    """The seed's v1: 5 passes against 12 traces of other models, as long as they."""
    traces = [*runs(5, reward=1.0), *runs(6, model="n"), *runs(6, model="o")]
    assert audit_contrast(select_contrast(Recipe("cross-model"), traces, "m")).flags == ("model",)


@pytest.mark.parametrize(("name", "flag"), [("same-model", "steps"), ("cross-model", "model")])
def test_the_bundled_contrasts_are_flagged_as_the_seeds_were(name, flag):
    found = audit_contrast(select_contrast(Recipe(name), read_traces(bundled_traces(name)), "pocket"))
    assert found.flags == (flag,)
    (explaining,) = found.flagged
    assert explaining.auc == 1.0
    assert f"Flagged `{flag}`" in explaining.in_words()


def test_a_matched_contrast_is_not_flagged_for_what_it_is_matched_in():
    """Failures of 20 steps on the tasks that were passed, and on others some as short as the passes."""
    traces = [
        *(one for task in "abcdefgh" for one in runs(1, task=task, reward=1.0, steps=4)),
        *(one for task in "abcdefgh" for one in runs(1, task=task)),
        *(one for task in "stuvwxyz" for one in runs(1, task=task, steps=4)),
    ]
    assert audit_contrast(select_contrast(Recipe("task-matched"), traces, "m")).flags == ("steps",)
    assert audit_contrast(select_contrast(Recipe("length-matched"), traces, "m")).flags == ("task",)


def test_length_in_tokens_is_flagged_where_it_is_known():
    one = contrast([3] * 5, [3] * 6)
    assert audit_contrast(one).flags == ()
    assert audit_contrast(one, tokens=[100] * 5 + [900] * 6).flags == ("tokens",)


def test_whole_separation_is_flagged_at_any_p_and_partial_only_where_chance_is_ruled_out():
    few = confound("steps", contrast([2, 3], [15, 16]))  # 2 of 6 labellings reach it: p = 1/3
    assert few.p_value > 0.3
    assert Audit(()).explains(few)
    part = confound("steps", contrast([1, 2, 2], [2, 9, 9]))  # AUC 8/9 in 9 pairs, two of them ties
    assert not Audit(()).explains(part)


def test_from_which_auc_and_below_which_p_a_confound_is_flagged_is_the_recipes():
    # Pairs: 4 · 7 = 28. The positive 9 beats 4 of 7 negatives, ties 3 (½ each): 5.5; the others none. AUC 1 − 5.5/28.
    one = contrast([1, 2, 3, 9], [4, 5, 6, 8, 9, 9, 9])
    found = confound("steps", one)
    assert found.auc == pytest.approx(1 - 5.5 / 28)  # 0.804
    assert 0.03 < found.p_value < 0.2
    flags = {
        limits: audit_contrast(one, recipe=Recipe(confound_auc=limits[0], confound_p=limits[1])).flags
        for limits in ((0.9, 1.0), (0.8, 1.0), (0.8, 0.03))
    }
    assert flags == {(0.9, 1.0): (), (0.8, 1.0): ("steps",), (0.8, 0.03): ()}


def test_an_audit_from_before_its_limits_were_options_is_read_with_those_of_then():
    record = audit_contrast(contrast([2, 3], [15, 16])).to_json()
    assert (record.pop("confound_auc"), record.pop("confound_p")) == (0.9, 0.05)
    assert Audit.from_json(record).flags == ("steps",)


@pytest.mark.parametrize(
    ("auc", "p_value", "flagged"),
    [(0.9, 0.001, True), (0.95, 0.049, True), (0.95, 0.05, False), (0.899, 0.001, False), (1.0, 0.4, True)],
)
def test_outstanding_discrimination_begins_at_an_auc_of_nine_tenths(auc, p_value, flagged):
    """Hosmer, Lemeshow and Sturdivant (2013), section 5.2.4: 0.9 and above."""
    assert Audit(()).explains(Confound("steps", 2, 1, auc, 0.7, p_value, "negatives")) == flagged


def test_a_confound_that_separates_nearly_but_not_wholly_is_flagged():
    # 10 against 10, and one of the negatives is as short as the positives: (9·10 + ½·10)/100 = 0.95.
    found = confound("steps", contrast([1] * 10, [1] + [20] * 9))
    assert found.auc == pytest.approx(0.95)
    assert Audit(()).explains(found)


# ------------------------------------------------------------------------------------------------ report


def test_the_report_has_a_row_for_every_rule_and_marks_what_is_flagged():
    chosen = select_contrast(Recipe(), [*runs(6, reward=1.0, steps=5), *runs(20), *runs(2, steps=3)], "m")
    audit = audit_contrast(chosen, np.zeros((26, 1)), recipe=Recipe(confound_auc=0.95, confound_p=0.01))
    blocks = contrast_blocks(chosen.record(), audit, [0])
    rules, confounds = tables(blocks)
    row = tuple(plain(cell) for cell in rules.rows[-1])
    assert row == ("if it failed: at least 15 steps", "26", "2", "failed in fewer than 15 steps")
    found = {one.name: row for one, row in zip(audit.confounds, confounds.rows, strict=True)}
    assert found["steps"][0] == "steps (more in negatives)"
    assert found["steps"][-1] == Strong("flagged")
    assert found["task"][-1] == "the same in every trace"
    assert "flagged from 0.95 (--confound-auc) at p < 0.01 (--confound-p)" in words(blocks)
