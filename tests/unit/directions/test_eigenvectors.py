"""First eigenvectors of many small matrices at once, against LAPACK's of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.directions.eigenvectors import first_eigenvectors

pytestmark = pytest.mark.unit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 13), st.sampled_from([1, 3, 40, 3000]), st.booleans())
def test_each_is_lapacks_where_that_is_determined(seed, size, d, padded):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, size, d)) * 10.0 ** rng.integers(-6, 7, (30, 1, 1))
    if padded and size > 1:
        x[::2, -1] = 0  # as a pair that does not exist
    matrices = x @ x.transpose(0, 2, 1)
    got = first_eigenvectors(np.moveaxis(matrices, 0, -1)).T
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, rtol=1e-12)
    for vector, matrix in zip(got, matrices, strict=True):
        values, vectors = np.linalg.eigh(matrix)
        assert vector @ matrix @ vector >= values[-1] * (1 - 1e-10)
        if size > 1 and values[-1] - values[-2] > 1e-6 * values[-1]:
            assert abs(vector @ vectors[:, -1]) == pytest.approx(1, abs=1e-9)
    if padded and size > 1:
        assert np.abs(got[::2, -1]).max() < 1e-7


def test_equal_eigenvalues_and_zeros_give_some_unit_vector():
    for matrix in (np.eye(4), np.zeros((4, 4)), np.diag([2.0, 2.0, 1.0, 0.0])):
        vector = first_eigenvectors(matrix[:, :, None])[:, 0]
        assert np.linalg.norm(vector) == pytest.approx(1)
        assert vector @ matrix @ vector == pytest.approx(np.linalg.eigvalsh(matrix)[-1])


def test_no_matrix_gives_no_vector():
    assert first_eigenvectors(np.empty((3, 3, 0))).shape == (3, 0)


def matrix_of_gap(seed, size, gap):
    """A matrix whose largest eigenvalues are 1 and 1 less the gap, and its eigenvectors."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.random(size))
    values[-2:] = 1 - gap, 1
    turn = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return turn * values @ turn.T, turn


@pytest.mark.parametrize("size", range(2, 11))
def test_an_eigenvalue_that_rounding_made_too_small_does_not_spoil_its_vector(size):
    matrices = np.stack([matrix_of_gap(seed, size, 0.1)[0] for seed in range(5000)], axis=-1)
    vectors = first_eigenvectors(matrices)
    assert np.abs(np.einsum("ijb,jb->ib", matrices, vectors) - vectors).max() < 1e-14


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 10), st.integers(1, 14))
def test_two_largest_eigenvalues_that_are_nearly_equal_are_told_apart_as_well_as_lapack_can(seed, size, digits):
    matrix, turn = matrix_of_gap(seed, size, 10.0**-digits)
    vector = first_eigenvectors(matrix[:, :, None])[:, 0]
    assert np.abs(matrix @ vector - vector).max() < 1e-13
    # Rounding turns an eigenvector by its size over the gap, of LAPACK's as well.
    assert np.abs(np.abs(vector @ turn[:, -1]) - 1) < (1e-14 * 10.0**digits) ** 2 + 1e-12
