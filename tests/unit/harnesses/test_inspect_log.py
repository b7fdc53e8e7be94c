"""Logs of Inspect, through its own library."""

from __future__ import annotations

import shutil

import pytest
from support.judged import RESULTS

from capvec.errors import UsageError
from capvec.harnesses import Reading, check_sources, read_source

pytestmark = pytest.mark.unit

LOGS = RESULTS / "inspect"


@pytest.fixture(autouse=True)
def _library():
    pytest.importorskip("inspect_ai.log", reason="Inspect: pip install 'capvec[inspect]'")


def test_epochs_are_attempts_models_are_configs_and_a_broken_sample_is_an_error():
    source = read_source(LOGS, Reading())
    # Answers are right up to 2 of 6 and up to 5 of 6, in both epochs; sum-6 breaks in the second.
    found = {(one.config, one.task, one.attempt): one.outcome for one in source.trials}
    assert found == {
        (config, f"sums/sum-{n}", epoch): "error"
        if (config, n, epoch) == ("steered-L22-a4", 6, 2)
        else "solved"
        if n <= right
        else "unsolved"
        for config, right in (("baseline", 2), ("steered-L22-a4", 5))
        for n in range(1, 7)
        for epoch in (1, 2)
    }
    assert {one.steps for one in source.trials if one.outcome != "error"} == {1}
    assert next(one.error for one in source.trials if one.error) == "RuntimeError('the sandbox went away')"


def test_a_log_is_known_by_its_content_and_its_config_can_be_named(tmp_path):
    shutil.copy(LOGS / "baseline.eval", tmp_path / "log")
    assert read_source(tmp_path / "log", Reading()).called("plain").configs == ("plain",)


def test_of_several_scores_the_one_that_counts_is_asked_for(tmp_path):
    from inspect_ai import log
    from inspect_ai.scorer import Score

    written = log.read_eval_log(str(LOGS / "baseline.eval"))
    for sample in written.samples:
        sample.scores["length"] = Score(value=1)
    log.write_eval_log(written, str(tmp_path / "log.eval"))
    first = next(iter(written.samples[0].scores))
    with pytest.raises(UsageError, match=f"has the scores length, {first}; say which counts with --reward NAME"):
        read_source(tmp_path / "log.eval", Reading())
    source = read_source(tmp_path / "log.eval", Reading(reward="length"))
    assert {one.outcome for one in source.trials} == {"solved"}
    check_sources([source], Reading(reward="length"))
    with pytest.raises(UsageError, match=f"--reward nope: the results have {first}; expected one of these"):
        check_sources([read_source(LOGS, Reading(reward="nope"))], Reading(reward="nope"))
