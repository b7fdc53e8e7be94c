"""What is written is valid ATIF, and reads back as the same trace."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.traces import put

from capvec.errors import StorageFault, UsageError
from capvec.records import CommandResult, Config, Episode, Outcome, Parse, Reply, Step, TrialSpec
from capvec.steering import IsolationCheck, Receipt, Steer
from capvec.task_records import Task, TaskStep
from capvec.traces import read_traces, write_trajectory

pytestmark = pytest.mark.unit

SPEC = TrialSpec("greet", "L22a4", 0, 7)
TASK = Task("greet", Path("tasks/greet"), "Say hello.", "c0ffee")
CONFIG = Config("L22a4", "steered", (Steer(22, "d1rec710", 2.0),), 22, 4.0, "norm", 0.25)
OPENING = (
    {"role": "system", "content": "You are an agent."},
    {"role": "user", "content": "List the files."},
    {"role": "assistant", "content": "```bash\nls\n```"},
    {"role": "user", "content": "Say hello."},
)
RECEIPT = Receipt(Steer(22, "d1rec710", 2.0), 3, 3, 9, 9, shift_mean=1.0, ambient_norm=4.0)
STILL = IsolationCheck(forwards=2, sites=4, watched=4, steered=9, leak_max=0.0)


def reply(text):
    return Reply(text, "stop", 10, 2, 0.5, (RECEIPT,), isolation=STILL)


ACTED = Step(
    0, reply("```bash\nid\n```"), Parse("strict", ("id",)), (CommandResult("uid=0", 0),), "seen: uid=0", 0.1,
    "2026-01-02T03:04:05.678+00:00",
)  # fmt: skip
GARBLED = Step(1, reply("``` ```"), Parse("failed", error="No."), (), "seen: unreadable", 0.0)
DONE = Step(2, reply("DONE"), Parse("strict", done=True))


def outcome_of(episode, *, status="solved", reward=1.0):
    return Outcome(
        "run1", SPEC.task, SPEC.config, 22, 4.0, 0, 7, status, reward=reward,
        steps=len(episode.steps), parse_fail=episode.parse_fail, repaired=episode.repaired, no_cmd=episode.no_cmd,
        end_reason=episode.end_reason,
    )  # fmt: skip


def write(path, episode, config=CONFIG, **outcome):
    write_trajectory(
        path, spec=SPEC, task=TASK, config=config, model_name="pocket", protocol="bash-block",
        episodes=[episode], outcome=outcome_of(episode, **outcome),
    )  # fmt: skip
    return json.loads(path.read_text())


def conversation(episode):
    """The oracle: what the model saw and said, without the file format."""
    talk = list(episode.messages)
    for step in episode.steps:
        talk.append({"role": "assistant", "content": step.reply.text})
        if step.observation:
            talk.append({"role": "user", "content": step.observation})
    return tuple(talk)


texts = st.text(max_size=20)
parses = st.one_of(
    st.builds(lambda c: Parse("strict", tuple(c)), st.lists(st.text(min_size=1, max_size=5), max_size=3)),
    st.just(Parse("failed", error="No.")),
    st.just(Parse("strict", done=True)),
)


@st.composite
def episodes(draw):
    steps = []
    for index in range(draw(st.integers(0, 4))):
        parse = draw(parses)
        ran = draw(st.integers(0, len(parse.commands)))
        results = tuple(CommandResult(draw(texts), 0) for _ in range(ran))
        steps.append(Step(index, reply(draw(texts)), parse, results, draw(texts)))
    opening = ({"role": "system", "content": draw(texts)}, *OPENING[1:3], {"role": "user", "content": draw(texts)})
    return Episode(opening, tuple(steps), "max_steps")


@settings(max_examples=60)
@given(episode=episodes(), reward=st.floats(0, 1))
def test_a_written_trajectory_reads_back_as_the_same_trace(tmp_path_factory, episode, reward):
    path = tmp_path_factory.mktemp("t") / "a.json"
    write(path, episode, reward=reward)
    (trace,) = read_traces(path)
    assert trace.messages == conversation(episode)
    assert (trace.task, trace.model, trace.config, trace.reward) == ("greet", "pocket", "L22a4", reward)
    assert (trace.steps, trace.parse_fail, trace.no_cmd) == (len(episode.steps), episode.parse_fail, episode.no_cmd)


def test_a_thought_is_kept_beside_the_reply_and_is_no_part_of_the_conversation(tmp_path):
    thinking = replace(ACTED, reply=replace(ACTED.reply, thought="I look first."))
    document = write(tmp_path / "a.json", Episode(OPENING, (thinking, DONE), "done"))
    assert [step.get("reasoning_content") for step in document["steps"][-2:]] == ["I look first.", None]
    assert document["steps"][-2]["message"] == ACTED.reply.text
    (trace,) = read_traces(tmp_path / "a.json")
    assert trace.messages == conversation(Episode(OPENING, (ACTED, DONE), "done"))


def test_worked_examples_are_not_taken_for_steps_of_the_agent(tmp_path):
    document = write(tmp_path / "a.json", Episode(OPENING, (ACTED, DONE), "done"))
    # Opening: system, example task, example reply, instruction; then two replies.
    copied = [step.get("is_copied_context", False) for step in document["steps"]]
    assert copied == [False, True, True, False, False, False]
    assert read_traces(tmp_path / "a.json")[0].steps == 2


def test_the_episodes_of_several_steps_are_one_conversation_in_which_each_says_its_step(tmp_path):
    second = Episode((*OPENING[:3], {"role": "user", "content": "Say bye."}), (ACTED, DONE), "max_steps")
    path = tmp_path / "a.json"
    write_trajectory(
        path, spec=SPEC, task=replace(TASK, several=(TaskStep("hello", ""), TaskStep("bye", ""))), config=CONFIG,
        model_name="pocket", protocol="bash-block", episodes=[Episode(OPENING, (ACTED, DONE), "done"), second],
        outcome=outcome_of(second),
    )  # fmt: skip
    document = json.loads(path.read_text())
    steps = document["steps"]
    assert [step["step_id"] for step in steps] == list(range(1, 10))
    assert [step["extra"]["step"] for step in steps] == ["hello"] * 6 + ["bye"] * 3
    calls = [call["tool_call_id"] for step in steps for call in step.get("tool_calls", [])]
    assert len(calls) == len(set(calls)) == 2
    assert document["final_metrics"]["extra"] == {"agent_steps": 4, "end_reason": "max_steps"}
    assert document["final_metrics"]["total_prompt_tokens"] == 40
    (trace,) = read_traces(path)
    alone = conversation(Episode(OPENING, (ACTED, DONE), "done"))
    assert trace.messages == (*alone, {"role": "user", "content": "Say bye."}, *alone[len(OPENING) :])
    assert trace.steps == 4


def test_the_file_has_the_shape_that_atif_1_8_asks_for(tmp_path):
    """The rules of Harbor's RFC 0001 that a validator enforces."""
    document = write(tmp_path / "a.json", Episode(OPENING, (ACTED, GARBLED, DONE), "done"))
    assert document["schema_version"] == "ATIF-v1.8"
    assert {"name", "version", "model_name"} <= set(document["agent"])
    assert [step["step_id"] for step in document["steps"]] == [1, 2, 3, 4, 5, 6, 7]
    assert document["final_metrics"]["total_steps"] == 7
    assert isinstance(document["agent"]["extra"], dict)  # free in its content, and nothing beside it is
    assert set(document["agent"]) <= {"name", "version", "model_name", "tool_definitions", "extra"}
    for step in document["steps"]:
        assert step["source"] in {"system", "user", "agent"}
        assert set(step.get("metrics", {})) <= {"prompt_tokens", "completion_tokens", "extra"}
        if step["source"] != "agent":
            assert not {"tool_calls", "metrics", "model_name", "reasoning_content"} & set(step)
        calls = {call["tool_call_id"] for call in step.get("tool_calls", [])}
        for result in step.get("observation", {}).get("results", []):
            assert result.get("source_call_id") is None or result["source_call_id"] in calls


def test_a_command_its_raw_output_and_what_the_model_was_told_are_all_kept(tmp_path):
    step = write(tmp_path / "a.json", Episode(OPENING, (ACTED, DONE), "done"))["steps"][4]
    assert step["tool_calls"][0]["arguments"] == {"command": "id"}
    (result,) = step["observation"]["results"]
    assert (result["content"], result["extra"]["exit_code"]) == ("uid=0", 0)
    assert step["extra"]["observation"] == "seen: uid=0"
    assert step["metrics"]["extra"]["receipts"] == [RECEIPT.to_json()]
    assert step["metrics"]["extra"]["isolation"] == STILL.to_json()


def test_a_file_says_what_steered_it_in_the_users_unit_and_in_stored_units(tmp_path):
    extra = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))["agent"]["extra"]
    assert (extra["layer"], extra["alpha"], extra["alpha_unit"], extra["alpha_stored"]) == (22, 4.0, "norm", [2.0])
    assert (extra["direction"], extra["dose"], extra["protocol"]) == ("d1rec710", 0.25, "bash-block")


def test_of_several_steers_every_strength_is_told_in_stored_units(tmp_path):
    """As `--layer 20+22 --alpha-unit norm` makes them: one α as typed, and another in stored units at each layer."""
    steers = (Steer(20, "d1rec710", 8.0), Steer(22, "d1rec710", 2.0))
    for config, expected in (
        (replace(CONFIG, steers=steers, layer="20+22"), ("20+22", 4.0, [8.0, 2.0], "d1rec710")),
        (
            replace(CONFIG, steers=(steers[0], replace(steers[1], direction="0ther"))),
            (22, 4.0, [8.0, 2.0], "d1rec710+0ther"),
        ),
        (Config("baseline", "baseline"), (None, None, [], None)),
    ):
        extra = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"), config)["agent"]["extra"]
        assert (extra["layer"], extra["alpha"], extra["alpha_stored"], extra["direction"]) == expected
        assert extra["alpha_stored"] == [steer["alpha"] for steer in extra["config"]["steers"]]


def test_a_trial_that_ended_in_error_has_no_reward(tmp_path):
    write(tmp_path / "a.json", Episode(OPENING, (ACTED,), "error", "gone"), status="error", reward=0.0)
    assert read_traces(tmp_path / "a.json")[0].reward is None


def test_numbers_that_json_lacks_and_lone_surrogates_do_not_break_the_file(tmp_path):
    odd = Reply("\ud800", "stop", 1, 1, float("nan"))
    document = write(tmp_path / "a.json", Episode(OPENING, (Step(0, odd, Parse("strict")),), "max_steps"))
    assert document["steps"][-1]["metrics"]["extra"]["model_s"] == "nan"
    assert document["steps"][-1]["message"] == "\ud800"
    with pytest.raises(UsageError, match=r"lone surrogate U\+D800"):  # no model can be given it again
        read_traces(tmp_path / "a.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))
    before = (tmp_path / "a.json").read_bytes()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr("capvec.storage.os.replace", refuse)
    with pytest.raises(StorageFault, match=r"a\.json cannot be written \(disk full\)"):
        write(tmp_path / "a.json", Episode(OPENING, (ACTED, DONE), "done"))
    assert (tmp_path / "a.json").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_file_of_ours_without_its_counts_is_refused_by_key(tmp_path):
    document = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))
    del document["extra"]["outcome"]["parse_fail"]
    with pytest.raises(UsageError, match=r"extra\.outcome\.parse_fail"):
        read_traces(put(tmp_path / "a.json", document))
