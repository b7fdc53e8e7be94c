"""A job of Harbor 0.26.0, and what becomes of its exceptions."""

from __future__ import annotations

import json
import shutil

import pytest
from support.judged import RESULTS
from support.traces import COMPLAINT, agent, terminus
from support.traces import put as write

from capvec.errors import UsageError
from capvec.harnesses import Reading, check_sources, read_source

pytestmark = pytest.mark.unit

JOB = RESULTS / "harbor" / "both"


def by_config(source):
    return sorted((one.config, one.task, one.outcome) for one in source.trials)


def test_each_model_of_a_job_is_a_config_and_an_exception_of_the_harness_an_error():
    source = read_source(JOB, Reading())
    assert by_config(source) == [
        *[("baseline", task, "unsolved") for task in ("append-line-1", "append-line-1", "copy-file-1", "copy-file-1")],
        ("steered-L22-a4", "append-line-1", "error"),
        *[("steered-L22-a4", task, "solved") for task in ("append-line-1", "copy-file-1", "copy-file-1")],
    ]
    (failed,) = [one.error for one in source.trials if one.outcome == "error"]
    assert failed == "ConnectionError: the model server went away"
    assert (source.tool, source.errors_apart) == ("Harbor", True)


def test_the_trajectories_of_a_trial_say_how_many_replies_did_not_parse_or_carried_no_command(tmp_path):
    shutil.copytree(JOB, tmp_path / "job")
    first, second, third, *_ = sorted(path for path in (tmp_path / "job").iterdir() if path.is_dir())
    replies = [agent("I need…", answer=COMPLAINT), agent("Wait."), agent("Do.", "bash_command")]
    write(first / "agent" / "trajectory.json", terminus(*replies))
    for step in ("one", "two"):  # of a task of two steps
        write(second / "steps" / step / "agent" / "trajectory.json", terminus(*replies))
    write(third / "agent" / "trajectory.json", {"schema_version": "ATIF-v1.8"})  # cut off
    write(first / "artifacts" / "trajectory.json", terminus(*replies))  # left there by the agent
    source = read_source(tmp_path / "job", Reading())
    counts = [(one.steps, one.parse_fail, one.no_cmd) for one in source.trials]
    assert counts == [(3, 1, 1), (6, 2, 2), *[(None, None, None)] * (len(counts) - 2)]
    assert "1 trial with trajectories that cannot be read" in source.notes[0]
    assert first / "agent" / "trajectory.json" in source.files


def test_jobs_of_one_model_each_are_configs_by_their_folders(tmp_path):
    for folder in JOB.iterdir():
        if folder.is_dir():
            result = json.loads((folder / "result.json").read_text())
            arm = "steered" if "steered" in result["agent_info"]["model_info"]["name"] else "plain"
            result["agent_info"]["model_info"]["name"] = "one"
            put(tmp_path / arm / folder.name, result)
    assert {one.config for one in read_source(tmp_path, Reading()).trials} == {"plain", "steered"}
    alone = read_source(tmp_path / "plain", Reading()).called("baseline")
    assert {one.config for one in alone.trials} == {"baseline"}


def test_a_file_that_is_named_is_a_trial_by_what_it_holds(tmp_path):
    folder = next(path for path in sorted(JOB.iterdir()) if path.is_dir())
    copied = shutil.copy(folder / "result.json", tmp_path / "mine.json")
    alone = [by_config(read_source(path, Reading()).called("a")) for path in (folder / "result.json", copied)]
    assert alone[0] == alone[1] == by_config(read_source(folder, Reading()).called("a"))
    assert len(alone[0]) == 1


def test_the_summary_of_a_job_is_refused_with_the_folder_that_has_its_trials():
    with pytest.raises(UsageError, match=r"a job of Harbor.* holds none") as refused:
        read_source(JOB / "result.json", Reading())
    assert str(refused.value).endswith(str(JOB))


def put(folder, result):
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))


def changed(tmp_path, **values):
    """A job of one real trial that failed, with other values."""
    source = next(path for path in JOB.iterdir() if path.is_dir() and '"policy"' in (path / "result.json").read_text())
    put(tmp_path / "job" / source.name, {**json.loads((source / "result.json").read_text()), **values})
    (trial,) = read_source(tmp_path / "job", Reading()).trials
    return trial


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ({"should_retry": False, "should_grade": True, "has_valid_reward": True}, "unsolved"),  # the agent's time
        ({"should_retry": True, "should_grade": True, "has_valid_reward": False}, "error"),  # a rate limit
        ({"should_retry": False, "should_grade": False, "has_valid_reward": False}, "error"),  # no access
        (None, "error"),
    ],
)
def test_an_exception_counts_as_judged_only_if_harbor_takes_it_for_the_agents(tmp_path, policy, outcome):
    info = {"exception_type": "SomeError", "exception_message": "", **({"policy": policy} if policy else {})}
    assert changed(tmp_path, exception_info=info).outcome == outcome


def test_an_agent_that_ran_out_of_time_was_judged_by_an_earlier_harbor_too(tmp_path):
    info = {"exception_type": "AgentTimeoutError", "exception_message": "300 s"}
    assert changed(tmp_path, exception_info=info).outcome == "unsolved"


def test_a_trial_without_a_reward_is_an_error(tmp_path):
    trial = changed(tmp_path, exception_info=None, verifier_result=None)
    assert (trial.outcome, trial.reward) == ("error", None)


def test_rewards_without_a_known_name_are_asked_for(tmp_path):
    job = tmp_path / "job"
    shutil.copytree(JOB, job)
    for file in job.glob("*/result.json"):
        result = json.loads(file.read_text())
        result["verifier_result"] = {"rewards": {"speed": 1.0, "style": 0.0}}
        file.write_text(json.dumps(result))
    with pytest.raises(UsageError, match="speed, style; say which counts with --reward NAME"):
        read_source(job, Reading())
    assert {one.outcome for one in read_source(job, Reading(reward="speed")).trials} == {"solved", "error"}


def test_a_reward_that_no_trial_has_is_refused_with_those_that_there_are():
    for asked, fits in (("reward", True), ("nope", False)):
        source = read_source(JOB, Reading(reward=asked))
        if fits:
            check_sources([source], Reading(reward=asked))
        else:
            with pytest.raises(UsageError, match="--reward nope: the results have reward; expected one of these"):
                check_sources([source], Reading(reward=asked))
