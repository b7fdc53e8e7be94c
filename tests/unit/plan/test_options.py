import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.plan.options import Control, parse_alphas, parse_controls, parse_layers, parse_options
from capvec.pooling import mean_last_of

pytestmark = pytest.mark.unit

DEFAULTS = {
    "alpha": "4",
    "alpha_unit": "stored",
    "layer": "auto",
    "model": "pocket",
    "direction": None,
    "traces": None,
    "contrast": "same-model",
    "tasks": "multi",
    "attempts": "1",
    "controls": "",
    "seed": "0",
    "run": None,
    "resume": False,
    "gate": None,
    "base_url": None,
    "max_steps": "8",
    "max_tokens": "96",
    "temperature": "0.7",
    "protocol": "bash-block",
}


# Whole hundredths: two strengths that read the same to six digits are refused.
@given(st.lists(st.integers(-(10**4), 10**4).filter(bool).map(lambda n: n / 100), min_size=1, unique=True))
def test_alphas_keep_their_order_and_their_values(alphas):
    assert parse_alphas(",".join(map(repr, alphas))) == tuple(alphas)


@pytest.mark.parametrize("text", ["four", "", "4,,8", "nan", "inf", "4;8", "0", "4,0"])
def test_an_alpha_that_is_not_a_usable_number_names_the_option_and_the_value(text):
    with pytest.raises(UsageError, match=r"--alpha"):
        parse_alphas(text)


def test_layers_are_auto_or_whole_numbers():
    assert parse_layers("auto") is None
    assert parse_layers("22, 30") == ((22,), (30,))
    assert parse_layers("7,7") == ((7,),)


def test_layers_joined_by_a_plus_are_steered_together_in_whatever_order_they_come():
    assert parse_layers("20+22,30") == ((20, 22), (30,))
    assert parse_layers("22 + 20, 20+22") == ((20, 22),)


@pytest.mark.parametrize("text", ["-1", "2.5", "all", "auto,3", "", "20+", "20+20", "20++22", "auto+3"])
def test_a_layer_that_is_not_a_whole_number_is_refused(text):
    with pytest.raises(UsageError, match=r"--layer"):
        parse_layers(text)


def test_controls_carry_counts_where_counts_belong():
    assert parse_controls("zero,random:3,shuffled,negated,prompt") == (
        Control("zero"),
        Control("random", 3),
        Control("shuffled", 1),
        Control("negated"),
        Control("prompt"),
    )
    assert parse_controls("") == ()


def test_the_control_negated_is_also_read_by_its_earlier_name():
    assert parse_controls("zero,flip") == (Control("zero"), Control("negated"))


@pytest.mark.parametrize(
    "text", ["zeros", "negated:2", "random:0", "random:x", "random:", "negated,flip", "zero,,negated"]
)
def test_a_control_that_does_not_exist_or_counts_wrongly_is_refused(text):
    with pytest.raises(UsageError, match=r"--controls"):
        parse_controls(text)


def test_the_defaults_are_the_contract():
    options = parse_options(DEFAULTS)
    assert (options.alphas, options.alpha_unit, options.layers) == ((4.0,), "stored", None)
    assert (options.model, options.tasks, options.recipe.contrast, options.attempts) == (
        "pocket",
        "multi",
        "same-model",
        1,
    )


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"alpha_unit": "cm"}, "--alpha-unit 'cm'"),
        ({"attempts": "0"}, "--attempts '0'"),
        ({"seed": "-1"}, "--seed '-1'"),
        ({"run": "../elsewhere"}, "--run '../elsewhere'"),
        ({"resume": True}, "--resume needs --run"),
        ({"direction": "d.pt", "traces": "t"}, "--direction and --traces"),
        ({"direction": "d.pt", "reference": "r.pt"}, "--direction and --reference"),
        ({"temperature": "-1"}, "--temperature '-1'"),
        ({"max_steps": "0"}, "--max-steps '0'"),
        ({"contrast": "foo"}, "--contrast 'foo'"),
        ({"alpha": "4,4.0000001"}, "--alpha"),
        ({"op": "multiply"}, "--op 'multiply'"),
        ({"op": "ablate", "controls": "zero,negated"}, "--controls negated with --op ablate"),
        ({"positions": "some"}, "--positions 'some'"),
        ({"pooling": "mean-last:0"}, "--pooling 'mean-last:0'"),
        ({"estimator": "magic"}, "--estimator 'magic'"),
        ({"permutations": "3"}, "--permutations '3'"),
        ({"negative_min_steps": "many"}, "--negative-min-steps 'many'"),
        ({"length_caliper": "20"}, "--length-caliper '20': expected a number from 0 to 1"),
        ({"confound_auc": "0.4"}, "--confound-auc '0.4': expected a number from 0.5 to 1"),
        ({"confound_p": "5%"}, "--confound-p '5%': expected a number from 0 to 1"),
        ({"trace_fields": "reward"}, "--trace-fields 'reward'"),
        ({"trace_fields": "prize=score"}, "no field 'prize'; expected one of id, task, model, messages, reward"),
    ],
)
def test_a_bad_option_is_named_with_what_was_received(change, named):
    with pytest.raises(UsageError, match=named):
        parse_options(DEFAULTS | change)


def test_a_recipe_is_read_from_what_was_typed():
    raw = {"contrast": "cross-model", "pooling": "mean-last:4", "trace_fields": "reward=score, task = problem_id"}
    recipe = parse_options(raw).recipe
    assert (recipe.contrast, mean_last_of(recipe.pooling)) == ("cross-model", 4)
    assert recipe.trace_fields == {"reward": "score", "task": "problem_id"}
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_every_threshold_is_an_option_and_goes_with_the_recipe():
    raw = {"positive_reward": "0.5", "negative_min_steps": "7", "negative_max_parse_fail": "2"}
    raw |= {"length_caliper": "0.3", "confound_auc": "0.8", "confound_p": "0.01"}
    recipe = parse_options(raw).recipe
    assert recipe.thresholds == {name.replace("_", "-"): float(value) for name, value in raw.items()}
    assert recipe.to_json().items() >= {name: float(value) for name, value in raw.items()}.items()


def test_a_recipe_of_an_earlier_capvec_is_read_with_the_thresholds_of_then():
    old = Recipe().to_json()
    for name in ("length_caliper", "confound_auc", "confound_p"):
        del old[name]
    assert Recipe.from_json(old) == Recipe(length_caliper=0.2, confound_auc=0.9, confound_p=0.05)


def test_a_model_and_a_running_engine_exclude_each_other():
    with pytest.raises(UsageError, match="--model pocket-base and --base-url http://h: the engine there has a model"):
        parse_options({"model": "pocket-base", "base_url": "http://h"})
    assert parse_options(DEFAULTS | {"model": None, "base_url": "http://h"}).model == "http://h"
    assert parse_options(DEFAULTS | {"model": None}).model == "pocket"
