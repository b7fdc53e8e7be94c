"""Directions: the AUC, contrasts, the mean difference, building and the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.labelled import estimate, labelled
from support.sections import cells, tables, titles

from capvec import __version__
from capvec.directions.activations import Activations
from capvec.directions.auc import auc, auc_of_rows
from capvec.directions.build import build_direction
from capvec.directions.direction import Direction, orthogonal_controls, random_control
from capvec.directions.estimate import ambient_norms
from capvec.directions.labels import Labellings
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
from capvec.directions.permute import choose_scheme, others
from capvec.directions.recipe import EstimatorName, Recipe
from capvec.directions.study_direction import StudyDirection, with_metadata
from capvec.directions.validate import validate
from capvec.engines.protocol import EngineInfo
from capvec.errors import UsageError
from capvec.records import Trace
from capvec.report.contrast import contrast_blocks

pytestmark = pytest.mark.unit

# Few distinct values, so that ties are common.
scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=12)
seeds = st.integers(0, 2**31)


# ------------------------------------------------------------------------------------------------ AUC


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_order_with_ties_at_one_half(pos, neg):
    pairs = [(p > n) + 0.5 * (p == n) for p in pos for n in neg]
    assert auc(pos, neg) == pytest.approx(sum(pairs) / len(pairs))


@given(scores, scores)
def test_auc_is_mann_whitneys_u_over_the_number_of_pairs(pos, neg):
    assert auc(pos, neg) == pytest.approx(stats.mannwhitneyu(pos, neg).statistic / (len(pos) * len(neg)))


@given(scores, scores)
def test_swapping_the_classes_gives_the_complement(pos, neg):
    assert auc(pos, neg) + auc(neg, pos) == pytest.approx(1)


@given(scores, scores, st.randoms())
def test_auc_sees_order_alone(pos, neg, random):
    value = auc(pos, neg)
    assert auc(np.arctan(pos), np.arctan(neg)) == pytest.approx(value)
    assert auc(random.sample(pos, len(pos)), neg) == pytest.approx(value)
    assert auc(pos * 2, neg * 3) == pytest.approx(value)


@pytest.mark.parametrize(("n_pos", "n_neg"), [(2, 5), (5, 2), (150, 130)])
def test_rows_are_scored_one_by_one_whether_by_pairs_or_by_ranks(n_pos, n_neg):
    # 150 × 130 pairs of 280 scores are many enough to be ranked, the others are counted; few values make ties.
    rng = np.random.default_rng(n_pos)
    values = rng.integers(0, 9, (4, n_pos + n_neg)).astype(float)
    labels = rng.permuted(np.tile(np.arange(n_pos + n_neg) < n_pos, (4, 1)), axis=1)
    for row, of_class, value in zip(values, labels, auc_of_rows(values, labels), strict=True):
        u = stats.mannwhitneyu(row[of_class], row[~of_class]).statistic
        assert value == pytest.approx(u / (n_pos * n_neg))


def test_constant_scores_give_one_half():
    assert auc([1.0] * 3, [1.0] * 5) == 0.5


@pytest.mark.parametrize(("pos", "neg"), [([], [1.0]), ([1.0], []), ([float("nan")], [1.0]), ([1.0], [float("inf")])])
def test_an_empty_class_or_a_score_that_is_no_number_raises(pos, neg):
    with pytest.raises(ValueError, match=r"expected at least one|finite"):
        auc(pos, neg)


# ------------------------------------------------------------------------------------------------ records


def some_direction():
    return Direction(np.array([[3, 4], [0, 0], [0, 2]], np.float32), np.array([10.0, 1.0, 4.0]))


def test_norms_units_and_doses():
    direction = some_direction()
    assert direction.norms.tolist() == [5, 0, 2]
    assert direction.unit(0).tolist() == [0.6, 0.8]
    assert direction.stored_alpha(4, "stored", 0) == 4
    assert direction.stored_alpha(4, "norm", 0) == pytest.approx(4 / 5)
    assert direction.stored_alpha(0.5, "ambient", 2) == pytest.approx(0.5 * 4 / 2)
    assert direction.dose(-2, 2) == pytest.approx(2 * 2 / 4)


def test_a_layer_where_the_direction_is_zero_or_missing_cannot_be_steered():
    with pytest.raises(UsageError, match="--layer 1: the direction is zero there"):
        some_direction().stored_alpha(4, "stored", 1)
    with pytest.raises(UsageError, match="--layer 3: the direction has 3 layers, 0 to 2"):
        some_direction().stored_alpha(4, "stored", 3)


def test_the_ambient_unit_needs_an_ambient_norm():
    bare = Direction(np.ones((2, 2), np.float32))
    assert bare.dose(1, 0) is None
    with pytest.raises(UsageError, match="--alpha-unit ambient"):
        bare.stored_alpha(1, "ambient", 0)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [(np.ones(3), r"shape \[3\]"), (np.ones((0, 3)), r"shape \[0, 3\]"), (np.full((2, 2), np.nan), "not finite")],
)
def test_what_is_no_direction_is_refused(vectors, said):
    with pytest.raises(UsageError, match=said):
        Direction(vectors)


@pytest.mark.parametrize("ambient", [[1.0, np.nan], [1.0, -1.0], [1.0]])
def test_ambient_norms_that_are_no_lengths_are_refused(ambient):
    with pytest.raises(UsageError, match="ambient norms"):
        Direction(np.ones((2, 2), np.float32), np.array(ambient))


def test_a_direction_cannot_be_changed_and_comes_back_from_disk_as_it_was(tmp_path):
    direction = some_direction()
    with pytest.raises(ValueError, match="read-only"):
        direction.vectors[0, 0] = 1
    direction.save(tmp_path / "dir.safetensors")
    back = Direction.read(tmp_path / "dir.safetensors")
    assert back.hash == direction.hash
    assert back.ambient_norm.tolist() == direction.ambient_norm.tolist()


@given(seeds)
def test_a_random_control_is_as_long_in_every_layer_and_points_elsewhere(seed):
    direction = Direction(np.random.default_rng(seed).standard_normal((3, 200)).astype(np.float32))
    control = random_control(direction, seed + 1)
    np.testing.assert_allclose(control.norms, direction.norms, rtol=1e-5)
    cosines = (control.vectors * direction.vectors).sum(1) / direction.norms**2
    assert (abs(cosines) < 0.5).all()  # 7 standard deviations at d = 200
    assert random_control(direction, seed + 1).hash == control.hash


def trace(name, **changes):
    base = Trace(name, "t", "m", ({"role": "user", "content": name},), reward=0.0, steps=20, parse_fail=0, no_cmd=0)
    return replace(base, **changes)


# ------------------------------------------------------------------------------------------------ estimate


def residuals(seed, n, layers=3, d=5):
    return np.random.default_rng(seed).standard_normal((n, layers, d)).astype(np.float32)


@given(seeds)
def test_alpha_one_moves_the_mean_of_the_negatives_onto_the_mean_of_the_positives(seed):
    pos, neg = residuals(seed, 4), residuals(seed + 1, 7)
    np.testing.assert_allclose((neg + estimate(pos, neg)).mean(0), pos.mean(0), atol=1e-5)


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"expected \[n, n_layers, d_model\]"):
        estimate(residuals(0, 2)[0], residuals(1, 2)[0])
    with pytest.raises(ValueError, match="0 positives"):
        estimate(residuals(0, 0), residuals(0, 2))


def test_the_ambient_norm_is_the_mean_length():
    states = np.zeros((2, 1, 2), np.float32)
    states[:, 0] = [[3, 4], [0, 1]]
    assert ambient_norms(states).tolist() == [3.0]


# ------------------------------------------------------------------------------------------------ build


def build(traces, cache, calls, **changes):
    def capture(chosen):
        calls.append([t.id for t in chosen])
        count = len(chosen)
        return Activations(residuals(0, count), "last", (9,) * count, tuple(range(count)))

    arguments = {"recipe": Recipe(), "model": "m", "identity": "m 1", "capture": capture}
    return build_direction(traces, cache=cache, **(arguments | changes))


TRACES = [trace("p1", reward=1.0), trace("p2", reward=1.0), trace("n1"), trace("n2"), trace("n3")]


def test_the_files_of_a_built_direction_say_where_it_comes_from(tmp_path):
    built = build(TRACES, tmp_path, [])
    health = EngineInfo("m", "abc", "LlamaForCausalLM", 2, 3, 64, "float32", "cpu", "0.1.0")
    described = with_metadata(built, Recipe(negative_min_steps=7), health)
    assert described.direction.hash == built.direction.hash
    assert described.direction.metadata == Metadata(
        "m", "abc", LAYER_CONVENTION, built.ranking.best.layer, "same-model", built.contrast.hash, "mean-difference",
        "last", __version__, "positive-reward=1 negative-min-steps=7 negative-max-parse-fail=0 length-caliper=0.2 "
        "confound-auc=0.9 confound-p=0.05",
    )  # fmt: skip
    described.direction.save(tmp_path / "dir.safetensors")
    assert Direction.read(tmp_path / "dir.safetensors").metadata == described.direction.metadata


def test_a_file_that_speaks_of_something_else_than_what_is_steered_is_a_caveat_and_not_an_error():
    health = EngineInfo("m", "abc", "LlamaForCausalLM", 2, 3, 64, "float32", "cpu", "0.1.0")

    def caveats(**said):
        direction = Direction(np.ones((2, 3), np.float32), metadata=Metadata(**said))
        return " ".join(StudyDirection(direction, "dir.pt", steered=health).caveats()[1:])

    assert caveats() == caveats(model="m", revision="abc", layer_convention=LAYER_CONVENTION) == ""
    assert "from the model other, and m was steered" in caveats(model="other", revision="def")
    assert "from revision def of the model, and abc was steered" in caveats(model="m", revision="def")
    assert "counts layers as 'hidden_states'" in caveats(layer_convention="hidden_states")


def test_a_contrast_is_captured_once_and_again_when_anything_about_it_changes(tmp_path):
    calls = []
    first, second = build(TRACES, tmp_path, calls), build(TRACES, tmp_path, calls)
    assert calls == [["p1", "p2", "n1", "n2", "n3"]]
    assert second.direction.hash == first.direction.hash
    assert second.activations.truncated_tokens == first.activations.truncated_tokens == (0, 1, 2, 3, 4)
    assert second.activations.tokens == (9, 9, 9, 9, 9)
    build(TRACES, tmp_path, calls, identity="m 2")
    build(TRACES, tmp_path, calls, recipe=Recipe(pooling="mean-assistant"))
    build([replace(TRACES[0], messages=({"role": "user", "content": "else"},)), *TRACES[1:]], tmp_path, calls)
    assert len(calls) == 4


def test_the_direction_is_positives_minus_negatives_in_the_contrasts_order(tmp_path):
    built = build(TRACES, tmp_path, [])
    states = residuals(0, 5)
    np.testing.assert_array_equal(built.direction.vectors, estimate(states[:2], states[2:]))


def test_shuffled_controls_are_as_long_and_come_from_other_labels(tmp_path):
    built = build(TRACES, tmp_path, [], shuffled=2)
    assert len({built.direction.hash, *(control.hash for control in built.shuffled)}) == 3
    for control in built.shuffled:
        np.testing.assert_allclose(control.norms, built.direction.norms, rtol=1e-5)


MANY = [*(trace(f"p{n}", reward=1.0) for n in range(7)), *(trace(f"n{n}") for n in range(7))]
"""Of one task: C(14, 7) = 3,432 labellings, so that some are drawn and not all taken."""


@pytest.mark.parametrize("seed", [0, 3])
def test_the_sweeps_seed_draws_the_controls_labels_and_the_nulls(tmp_path, seed):
    built = build(MANY, tmp_path, [], recipe=Recipe(permutations=40), shuffled=2, seed=seed)
    states = residuals(0, 14)
    observed = Labellings.observed(7, 7, ["t"] * 14, [1.0] * 7 + [0.0] * 7)
    drawn = others(observed, choose_scheme(observed), 2, seed).labels
    for labels, control in zip(drawn, built.shuffled, strict=True):
        vectors = estimate(states[labels], states[~labels])
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(control.vectors / control.norms[:, None], vectors / lengths, atol=1e-5)
    judged = [
        validate(*labelled(states[:7], states[7:]), tasks=["t"] * 14, permutations=40, seed=of)
        for of in (seed, seed + 1)
    ]
    assert built.ranking.rows == judged[0].rows
    assert built.ranking.rows != judged[1].rows


@pytest.mark.parametrize("seed", range(5))
def test_no_shuffled_control_is_the_real_direction_or_another_control(tmp_path, seed):
    # 2 against 3 can be relabelled in C(5, 2) − 1 = 9 other ways, and a blind draw is the real one in one of ten.
    built = build(TRACES, tmp_path, [], shuffled=9, seed=seed)
    assert len({built.direction.hash, *(control.hash for control in built.shuffled)}) == 10


def test_more_shuffled_controls_than_labellings_are_refused_before_anything_is_captured(tmp_path):
    calls = []
    with pytest.raises(UsageError, match=r"shuffled:10: 2 positive and 3 negative traces allow 9 other labellings"):
        build(TRACES, tmp_path, calls, shuffled=10)
    assert calls == []


def test_every_estimator_is_built_with_its_controls(tmp_path):
    for estimator in get_args(EstimatorName):
        built = build(TRACES, tmp_path, [], recipe=Recipe(estimator=estimator, permutations=20), shuffled=2)
        states = residuals(0, 5)
        expected = estimate(states[:2], states[2:], estimator, tasks=["t"] * 5)
        np.testing.assert_array_equal(built.direction.vectors, expected)
        assert len({built.direction.hash, *(control.hash for control in built.shuffled)}) == 3


def test_controls_of_tasks_with_both_classes_keep_each_tasks_passes(tmp_path):
    # Residuals that are nothing but their task: labels that keep a task's two passes and two failures cannot move the
    # mean difference away from zero, so the length that its controls are brought to is zero.
    tasks = [f"t{n // 4}" for n in range(16)]
    traces = [trace(f"x{n}", task=task, reward=float(n % 2)) for n, task in enumerate(tasks)]
    order = [n for n in range(16) if n % 2] + [n for n in range(16) if not n % 2]
    states = np.eye(4, dtype=np.float32)[[n // 4 for n in order]][:, None, :] * 9
    states[:, :, 0] += 0.5 * (np.arange(16) < 8)[:, None]  # a difference between the classes, so that there is a length
    built = build(traces, tmp_path, [], capture=lambda _: Activations(states, "last", (9,) * 16, (0,) * 16), shuffled=5)
    for control in built.shuffled:
        # Along the tasks' own axes the controls have nothing: 2 of 4 in each, with any labels.
        np.testing.assert_allclose(control.vectors[0, 1:], 0, atol=1e-5)


def test_a_reference_of_another_shape_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--reference: a direction of shape \[2, 5\]; the model needs \[3, 5\]"):
        build(TRACES, tmp_path, [], reference=np.ones((2, 5), np.float32))


def test_the_ambient_norm_is_over_both_classes_in_the_direction_and_in_the_ranking(tmp_path):
    built = build(TRACES, tmp_path, [])
    expected = np.linalg.norm(residuals(0, 5).astype(float), axis=2).mean(axis=0)
    np.testing.assert_allclose(built.direction.ambient_norm, expected)
    assert {row.layer: row.ambient_norm for row in built.ranking.rows} == pytest.approx(dict(enumerate(expected)))


def test_a_built_direction_warns_of_what_explains_its_contrast_and_of_what_could_not_be_counted(tmp_path):
    traces = [replace(one, steps=4) for one in TRACES[:2]] + [
        *TRACES[2:],
        trace("u", parse_fail=None, uncounted="lost"),
    ]
    built = build(traces, tmp_path, [])
    assert built.audit.flags == ("steps",)
    flagged, unknown = built.warnings()
    assert flagged.startswith(
        "Flagged `steps`: the number of steps alone tells positives from negatives (negatives have"
    )
    assert "parse_fail is not known for 1 trace: lost (1)" in unknown
    report = contrast_blocks(built.contrast.record(), built.audit, [0, 2])
    rows = [row[:5] for row in cells(report)]
    assert ["if it failed: parse_fail is known", "5", "1", "failed with unknown parse_fail"] in rows
    assert ["steps (more in negatives)", "2", "0", "1.000", "1.000"] in rows
    assert titles(tables(report)[1])[6:8] == ["layer 0", "layer 2"]
    assert built.audit.confounds[0].association[0] == pytest.approx(0)  # one task: nothing between tasks


def test_the_audit_of_a_built_direction_flags_by_the_recipes_thresholds(tmp_path):
    traces = [replace(one, steps=steps) for one, steps in zip(TRACES, [3, 16, 15, 16, 17], strict=True)]
    for limit, flags in ((0.8, ()), (0.75, ("steps",))):  # of 6 pairs 4 in order, and a tie: AUC 0.75
        built = build(traces, tmp_path, [], recipe=Recipe(confound_auc=limit, confound_p=1.0))
        assert built.audit.flags == flags


def test_a_direction_that_other_lengths_came_with_is_audited_on_its_own_projections(tmp_path):
    lengths = [2, 3, 15, 16, 17]
    traces = [replace(one, steps=steps) for one, steps in zip(TRACES, lengths, strict=True)]
    built = build(traces, tmp_path, [])
    (steps,) = [one for one in built.audit.confounds if one.name == "steps"]
    states = residuals(0, 5).astype(float)
    for layer, found in enumerate(steps.association):
        v = states[:2, layer].mean(0) - states[2:, layer].mean(0)
        pos, neg = stats.rankdata(states[:2, layer] @ v), stats.rankdata(states[2:, layer] @ v)
        ranks = np.concatenate([pos - 1.5, neg - 2])
        assert found == pytest.approx(np.corrcoef(ranks, [-0.5, 0.5, -1, 0, 1])[0, 1])


def test_a_damaged_cache_is_captured_again(tmp_path):
    calls = []
    build(TRACES, tmp_path, calls)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    build(TRACES, tmp_path, calls)
    assert len(calls) == 2


@pytest.mark.parametrize("estimator", get_args(EstimatorName))
@pytest.mark.parametrize("shuffled", [0, 2])
def test_every_estimator_builds_with_and_without_shuffled_controls(estimator, shuffled, tmp_path):
    recipe = Recipe(estimator=estimator, permutations=19)
    built = build(TRACES, tmp_path, [], recipe=recipe, shuffled=shuffled)
    assert len(built.shuffled) == shuffled
    assert (built.direction.norms > 0).all()


# ------------------------------------------------------------------------------------------------ orthogonal controls


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 8), seeds)
def test_orthogonal_controls_are_as_long_and_at_right_angles_in_every_layer(n_layers, d_model, count, seed):
    vectors = np.random.default_rng(seed).standard_normal((n_layers, d_model)).astype(np.float32)
    direction = Direction(vectors)
    controls = orthogonal_controls(direction, count, seed)
    assert len(controls) == count
    for control in controls:
        np.testing.assert_allclose(control.norms, direction.norms, rtol=1e-6)
        cosines = (control.vectors.astype(float) * vectors).sum(1) / direction.norms**2
        np.testing.assert_allclose(cosines, 0, atol=1e-6)
    # To each other too, d_model − 1 at a time: that many directions are orthogonal to the first, and no more.
    lot = np.stack([control.vectors for control in controls[: d_model - 1]]).astype(float)
    for layer, norm in enumerate(direction.norms):
        np.testing.assert_allclose(lot[:, layer] @ lot[:, layer].T, norm**2 * np.eye(len(lot)), atol=1e-5 * norm**2)


def test_orthogonal_controls_are_drawn_by_their_seed_and_zero_stays_zero():
    vectors = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    vectors[1] = 0
    direction = Direction(vectors)
    first, again, other = (orthogonal_controls(direction, 2, seed)[0] for seed in (3, 3, 4))
    assert first.hash == again.hash != other.hash
    assert first.hash != random_control(direction, 3).hash
    assert not first.vectors[1].any()


def test_their_sides_are_drawn_evenly():
    # In two dimensions there is one line at right angles to v, and two ways along it: 200 fair draws leave 60 to 140
    # on each side but for 1 in 10^8 (a binomial of standard deviation 7).
    direction = Direction(np.array([[1, 0]], np.float32))
    ups = sum(orthogonal_controls(direction, 1, seed)[0].vectors[0, 1] > 0 for seed in range(200))
    assert 60 < ups < 140


def test_nothing_is_orthogonal_in_one_dimension():
    with pytest.raises(UsageError, match="at width 1 nothing is orthogonal"):
        orthogonal_controls(Direction(np.ones((1, 1), np.float32)), 1, 0)
