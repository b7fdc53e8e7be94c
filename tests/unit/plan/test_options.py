import pytest

from capvec.errors import UsageError
from capvec.plan.options import parse_options

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
        ({"top_p": "0"}, "--top-p '0': expected a number above 0, at most 1"),
        ({"top_p": "1.1"}, "--top-p '1.1': expected a number above 0, at most 1"),
        ({"top_k": "-1"}, "--top-k '-1': expected a whole number of at least 0"),
        ({"min_p": "1.5"}, "--min-p '1.5': expected a number from 0 to 1"),
        ({"presence_penalty": "3"}, "--presence-penalty '3': expected a number from -2 to 2"),
        ({"frequency_penalty": "-3"}, "--frequency-penalty '-3': expected a number from -2 to 2"),
        ({"repetition_penalty": "0"}, "--repetition-penalty '0': expected a number from 0.01 to 100$"),
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


def test_a_model_and_a_running_engine_exclude_each_other():
    with pytest.raises(UsageError, match="--model pocket-base and --base-url http://h: the engine there has a model"):
        parse_options({"model": "pocket-base", "base_url": "http://h"})
    assert parse_options(DEFAULTS | {"model": None, "base_url": "http://h"}).model == "http://h"
    assert parse_options(DEFAULTS | {"model": None}).model == "pocket"


@pytest.mark.parametrize(("option", "typed"), [("engine", "vllm"), ("engine_arg", ["dtype=half"])])
def test_an_engine_to_start_and_a_running_engine_exclude_each_other(option, typed):
    with pytest.raises(UsageError, match="and --base-url http://h: the engine there has a model; drop one"):
        parse_options({option: typed, "base_url": "http://h"})


def test_arguments_of_the_engine_are_json_or_else_text():
    typed = ["tensor_parallel_size=2", "dtype=half", 'compilation-config={"level": 0}', "load_format="]
    options = parse_options({"engine_arg": typed})
    assert options.engine_args == {
        "tensor_parallel_size": 2, "dtype": "half", "compilation_config": {"level": 0}, "load_format": "",
    }  # fmt: skip
    assert parse_options({}).engine_args == {}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["dtype"], "--engine-arg 'dtype': expected KEY=VALUE, as in tensor_parallel_size=2"),
        (["=2"], "--engine-arg '=2': expected KEY=VALUE"),
        (["two words=2"], "--engine-arg 'two words=2': expected KEY=VALUE"),
        (["dtype=half", "dtype=float"], "--engine-arg dtype: it is given twice; expected once"),
    ],
)
def test_a_bad_argument_of_the_engine_is_refused(typed, said):
    with pytest.raises(UsageError, match=said):
        parse_options({"engine_arg": typed})


def test_docker_hosts_are_addresses_or_contexts():
    typed = ["ssh://ada@build1:2222/run/user/1000/docker.sock", "tcp://[::1]:2375", "unix:///run/d.sock", "office-2"]
    assert parse_options({"docker_host": typed}).docker_hosts == tuple(typed)
    assert parse_options({}).docker_hosts == ()


@pytest.mark.parametrize("typed", ["", "ssh://", "ftp://a", "tcp://a:port", "two words", "-oProxyCommand=x", "a"])
def test_what_names_no_docker_host_is_refused(typed):
    with pytest.raises(UsageError, match="expected an address such as ssh://user@machine"):
        parse_options({"docker_host": [typed]})


CLAIM = {"plan": True, "write_preregistration": "claim.json", "hypothesis": "It helps."}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"plan": False}, "--write-preregistration needs --plan: a claim is written before a sweep, not by it"),
        ({"hypothesis": None}, '--write-preregistration needs --hypothesis "…"'),
        ({"write_preregistration": None}, "--hypothesis needs --plan and --write-preregistration FILE"),
        ({"shard": "1/2"}, "--write-preregistration with --shard: the whole plan is written"),
        ({"preregistration": "old.json"}, "--write-preregistration with --preregistration: the whole plan is written"),
    ],
)
def test_a_claim_is_written_by_a_whole_plan_and_says_what_it_claims(change, said):
    assert parse_options(DEFAULTS | CLAIM).hypothesis == "It helps."
    with pytest.raises(UsageError, match=said):
        parse_options(DEFAULTS | CLAIM | change)


def test_a_calibration_is_compared_with_no_preregistration():
    with pytest.raises(UsageError, match="--preregistration is for -m sweep"):
        parse_options({"preregistration": "claim.json"}, "calibration")
