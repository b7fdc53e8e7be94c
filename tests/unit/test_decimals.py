"""The exact values that floats were written for."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capvec.decimals import DIGITS, as_written, exact, exact_mean, reaches

pytestmark = pytest.mark.unit

scales = st.integers(-9, 12)


@given(st.integers(-(10**DIGITS) + 1, 10**DIGITS - 1), st.integers(-30, 12))
def test_a_decimal_of_fifteen_digits_is_itself_or_the_fraction_beside_it(whole, scale):
    decimal = Fraction(whole) * Fraction(10) ** scale
    assert abs(exact(float(f"{whole}e{scale}")) - decimal) <= abs(decimal) * Fraction(10, 10**DIGITS)


@given(st.integers(-(10**12) + 1, 10**12 - 1), scales)
def test_decimals_of_twelve_digits_are_themselves(whole, scale):
    assert exact(float(f"{whole}e{scale}")) == Fraction(whole) * Fraction(10) ** scale


@given(st.integers(-50, 50), st.integers(1, 100), scales)
@example(27, 34, 0)
@example(7, 81, 0)
def test_quotients_of_small_counts_are_themselves_on_every_scale(count, of, scale):
    fraction = Fraction(count, of) * Fraction(10) ** scale
    assert exact(float(fraction)) == fraction


@given(st.lists(st.integers(-99, 99), min_size=1, max_size=12), scales)
def test_means_and_sums_do_not_depend_on_rounding(tenths, scale):
    numbers = [float(f"{n}e{scale}") for n in tenths]
    assert exact_mean(numbers) == Fraction(sum(tenths), len(tenths)) * Fraction(10) ** scale
    assert exact(0.1 + 0.2) == exact(0.3)


@given(st.lists(st.floats(allow_nan=False, min_value=-1e100, max_value=1e100), min_size=2, max_size=2))
def test_the_order_of_numbers_is_kept(numbers):
    low, high = sorted(numbers)
    assert exact(low) <= exact(high)


@given(st.lists(st.integers(-99, 99), min_size=1, max_size=12), st.sampled_from([1, 2, 4, 5, 8]), scales)
def test_a_sum_of_floats_and_its_mean_reach_the_threshold_that_the_decimals_reach(tenths, of, scale):
    total = sum(float(f"{n}e{scale}") for n in tenths) / of
    written = float(Fraction(sum(tenths), of) * Fraction(10) ** scale)
    if sum(tenths) and sum(map(abs, tenths)) <= 10 * abs(sum(tenths)):  # else digits were lost where terms cancelled
        assert reaches(total, written)
        assert reaches(written, total)


@given(st.integers(-(10**12), 10**12), scales)
def test_what_is_less_by_one_in_the_twelfth_digit_does_not_reach_it_nor_read_like_it(whole, scale):
    below, threshold = float(f"{whole}e{scale}"), float(f"{whole + 1}e{scale}")
    assert not reaches(below, threshold)
    assert reaches(threshold, below)
    assert as_written(below) != as_written(threshold)


@pytest.mark.parametrize(
    ("number", "least", "reached"),
    [
        (0.6499999999999999, 0.65, True),
        (0.1 + 0.2, 0.3, True),
        (0.3, 0.1 + 0.2, True),
        (0.7 + 0.2 + 0.1, 1.0, True),
        (0.9999999, 1.0, False),
        (1 - 1e-14, 1.0, False),
        (-0.0, 0.0, True),
        (0.0, -0.0, True),
        (-5e-324, 0.0, False),
        (-1e100, 1e100, False),
        (1 / 3, 0.3333, True),
        (0.3333, 1 / 3, False),
    ],
)
def test_thresholds_are_of_the_numbers_that_were_written(number, least, reached):
    assert reaches(number, least) == reached


mixed = st.one_of(st.floats(-1e9, 1e9), st.fractions(-9, 9, max_denominator=60), st.integers(0, 9))


@given(st.lists(mixed, min_size=1))
def test_a_mean_is_the_sum_of_exact_numbers_over_their_number(numbers):
    assert exact_mean(numbers) == sum(map(exact, numbers)) / len(numbers)
