import pytest

from capvec.directions.recipe import Recipe
from capvec.plan.options import read_options, recipe_of
from capvec.pooling import mean_last_of

pytestmark = pytest.mark.unit


def test_a_recipe_is_read_from_what_was_typed():
    raw = {"contrast": "cross-model", "pooling": "mean-last:4", "trace_fields": "reward=score, task = problem_id"}
    recipe = recipe_of(read_options("sweep", raw))
    assert (recipe.contrast, mean_last_of(recipe.pooling)) == ("cross-model", 4)
    assert recipe.trace_fields == {"reward": "score", "task": "problem_id"}
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_every_threshold_is_an_option_and_goes_with_the_recipe():
    raw = {"positive_reward": "0.5", "negative_min_steps": "7", "negative_max_parse_fail": "2"}
    raw |= {"length_caliper": "0.3", "confound_auc": "0.8", "confound_p": "0.01"}
    recipe = recipe_of(read_options("sweep", raw))
    assert recipe.thresholds == {name.replace("_", "-"): float(value) for name, value in raw.items()}
    assert recipe.to_json().items() >= {name: float(value) for name, value in raw.items()}.items()


def test_a_recipe_of_an_earlier_capvec_is_read_with_the_thresholds_of_then():
    old = Recipe().to_json()
    for name in ("length_caliper", "confound_auc", "confound_p"):
        del old[name]
    assert Recipe.from_json(old) == Recipe(length_caliper=0.2, confound_auc=0.9, confound_p=0.05)
