"""Samples that lm-evaluation-harness logs."""

from __future__ import annotations

import json

import pytest
from support.judged import RESULTS

from capvec.errors import UsageError
from capvec.harnesses import Reading, read_source

pytestmark = pytest.mark.unit

SAMPLES = RESULTS / "lm_eval"


def test_a_document_is_a_task_and_a_folder_a_config():
    source = read_source(SAMPLES, Reading(reward="exact_match,strict-match"))
    (file,) = (SAMPLES / "baseline").glob("samples_capitals_2*")
    right = [json.loads(line)["acc"] == 1.0 for line in file.read_text().splitlines()]
    found = [one for one in source.trials if one.config == "baseline" and one.task.startswith("capitals/")]
    assert [(one.task, one.outcome == "solved") for one in found] == [(f"capitals/{n}", right[n]) for n in range(8)]
    assert source.configs == ("baseline", "steered")
    assert len(source.trials) == 2 * 2 * 8  # one filter of the two, and the one metric of the other task
    assert source.notes == ("Metrics: acc of capitals, exact_match,strict-match of capitals_gen.",)


@pytest.mark.parametrize("asked", [None, "exact_match", "f1"])
def test_one_of_several_metrics_is_asked_for_by_name(asked):
    with pytest.raises(UsageError, match="exact_match,strict-match, exact_match,flexible"):
        read_source(SAMPLES, Reading(reward=asked))


def test_a_single_metric_needs_no_name():
    (file,) = (SAMPLES / "steered").glob("samples_capitals_2*")
    assert len(read_source(file, Reading()).trials) == 8
