"""In how many threads a step is computed."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("every", "rows", "expected"), [(2, 1, 1), (2, 4, 1), (2, 5, 2), (16, 4, 15), (16, 32, 16), (1, 1, 1), (1, 32, 1)]
)
def test_a_step_of_few_rows_leaves_a_core_to_the_others(every, rows, expected):
    from capvec.engines.transformers.threads import computing_in, threads_for

    with computing_in(every):
        assert threads_for(rows) == expected


def test_the_number_of_threads_is_as_before_afterwards():
    import torch

    from capvec.engines.transformers.threads import computing_in

    before = torch.get_num_threads()
    with computing_in(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
