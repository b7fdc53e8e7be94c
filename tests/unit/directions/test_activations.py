"""Residuals of traces: in files, in words, and how they are shared out into batches."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.directions.activations import ActivationFile, Activations, cut_in_words
from capvec.engines.protocol import EngineInfo
from capvec.errors import UsageError
from capvec.records import Trace

pytestmark = pytest.mark.unit

HEALTH = EngineInfo("pocket", "abc", "LlamaForCausalLM", 2, 3, 64, "float32", "cpu", "0")


def trace(name, **changes):
    said = ({"role": "user", "content": "über\u2028\n"}, {"role": "assistant", "content": "ls"})
    fields = {"task": "t", "model": "m", "messages": said, "reward": 1.0, "steps": 3, "parse_fail": 0, "no_cmd": None}
    return Trace(id=name, **(fields | changes))


def activations(n=3, pooling="mean-assistant"):
    residuals = np.arange(n * 6, dtype=np.float32).reshape(n, 2, 3)
    return Activations(residuals, pooling, (70,) * n, (6, 0, 16)[:n], (4, 0, 0)[:n])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "new" / "a.safetensors"
    ActivationFile((trace("a"), trace("b", reward=None), trace("c", parse_fail=None)), activations(), HEALTH).save(path)
    return path


def test_a_file_of_activations_gives_back_what_was_saved(file):
    loaded = ActivationFile.load(file)
    assert loaded.traces == (trace("a"), trace("b", reward=None), trace("c", parse_fail=None))
    assert loaded.engine == HEALTH
    np.testing.assert_array_equal(loaded.activations.residuals, activations().residuals)
    assert loaded.activations.pooling == "mean-assistant"
    assert loaded.activations.tokens == (70, 70, 70)
    assert loaded.activations.truncated_tokens == (6, 0, 16)
    assert loaded.activations.truncated_assistant == (4, 0, 0)
    assert [path.name for path in file.parent.iterdir()] == ["a.safetensors"]


def test_residuals_are_found_by_trace_in_the_order_asked(file):
    some = ActivationFile.load(file).of([trace("c"), trace("a")])
    np.testing.assert_array_equal(some.residuals, activations().residuals[[2, 0]])
    assert some.truncated_tokens == (16, 6)
    assert some.truncated_assistant == (0, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "expected a file of activations"),
        (lambda path: path.write_bytes(safetensors.numpy.save({"directions": np.ones((2, 3))})), "its format is None"),
    ],
)
def test_what_is_no_file_of_activations_is_refused_by_name(file, change, said):
    change(file)
    with pytest.raises(UsageError, match=said) as refused:
        ActivationFile.load(file)
    assert str(refused.value).startswith(str(file))


def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    ActivationFile((trace("a"),), activations(), HEALTH).save(path)
    with pytest.raises(UsageError, match="1 traces and 3 residuals"):
        ActivationFile.load(path)


def test_what_was_cut_is_said_in_words_worst_first():
    first, *others = cut_in_words(["a", "b", "c"], activations())
    assert first.startswith("2 of 3 traces")
    assert "22 tokens" in first
    assert "4 of them are the assistant's" in first
    assert others == ["c lost 16 of 70 tokens", "a lost 6 of 70 tokens (4 of the assistant's)"]


def test_of_many_traces_that_were_cut_the_worst_are_named():
    n = 8
    many = Activations(np.zeros((n, 1, 1), np.float32), "last", (100,) * n, tuple(range(1, n + 1)))
    lines = cut_in_words([str(number) for number in range(n)], many, most=3)
    assert "36 tokens" in lines[0]
    assert lines[1:] == ["7 lost 8 of 100 tokens", "6 lost 7 of 100 tokens", "5 lost 6 of 100 tokens", "and 5 more"]


def test_where_nothing_was_cut_nothing_is_said():
    assert cut_in_words(["a"], Activations(np.zeros((1, 1, 1), np.float32), "last", (5,), (0,))) == []


@given(
    lengths=st.lists(st.integers(1, 60), max_size=8),
    budget=st.integers(1, 200),
    overhead=st.integers(0, 80),
)
@settings(max_examples=60, deadline=None)  # the first call imports torch
def test_batches_hold_every_conversation_once_within_the_budget_at_the_least_cost(lengths, budget, overhead):
    from capvec.engines.transformers.capture import Limits, plan_batches

    batches = plan_batches(lengths, Limits(budget, overhead))
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths, reverse=True)

    def cost(cut):
        """Of a list of batches of lengths; None where one is too large."""
        positions = [len(batch) * max(batch) for batch in cut]
        fits = all(len(batch) == 1 or size <= budget for batch, size in zip(cut, positions, strict=True))
        return sum(positions) + overhead * len(cut) if fits else None

    # Every way to cut a sorted list in two or more: each gap between neighbours is a cut or not.
    by_length = sorted(lengths, reverse=True)
    costs = []
    for cuts in product([False, True], repeat=max(0, len(lengths) - 1)):
        ends = [index for index, cut in enumerate(cuts, start=1) if cut]
        parts = [by_length[i:j] for i, j in pairwise([0, *ends, len(by_length)])] if lengths else []
        costs.append(cost(parts))
    mine = cost([[lengths[index] for index in batch] for batch in batches])
    assert mine == min(value for value in costs if value is not None)
