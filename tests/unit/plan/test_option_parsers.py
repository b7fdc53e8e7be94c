import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.plan.option_parsers import (
    Control,
    Shard,
    parse_alphas,
    parse_base_rate,
    parse_controls,
    parse_grid_layers,
    parse_layers,
    parse_run_name,
    parse_shard,
    parse_share,
)

pytestmark = pytest.mark.unit


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


def test_a_grid_steers_single_layers():
    assert parse_grid_layers("22,30", "--layer") == (22, 30)


@pytest.mark.parametrize("text", ["auto", "22+30", "x"])
def test_a_grid_of_joined_or_unnamed_layers_is_refused(text):
    with pytest.raises(UsageError, match="--format-layer"):
        parse_grid_layers(text, "--format-layer")


def test_a_base_rate_is_a_number_or_a_folder():
    assert parse_base_rate("0.4") == 0.4
    assert parse_base_rate("reports/latest") == "reports/latest"


@pytest.mark.parametrize("text", ["0", "1", "-0.2", "1.5", "nan"])
def test_a_share_is_between_0_and_1(text):
    with pytest.raises(UsageError, match="--effect"):
        parse_share("--effect", text, "a difference")


@pytest.mark.parametrize("text", ["", "../elsewhere", ".hidden", "a/b", "-x", "a b"])
def test_a_runs_name_is_the_name_of_a_folder(text):
    assert parse_run_name("2026.11_a-b") == "2026.11_a-b"
    with pytest.raises(UsageError, match="--run"):
        parse_run_name(text)


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_shard_is_its_number_and_the_number_of_all(number, more):
    assert parse_shard(f" {number} / {number + more}") == Shard(number, number + more)


@pytest.mark.parametrize(
    "text", ["", "3", "/", "3/", "/8", "0/8", "9/8", "-1/8", "1.5/8", "3/8/2", "a/b", "1/" + "9" * 9999]
)
def test_what_is_no_shard_is_refused_by_the_option_and_what_was_typed(text):
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)
