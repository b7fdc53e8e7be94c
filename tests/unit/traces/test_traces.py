"""What is written can be read back exactly, and what others wrote is read or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.records import CommandResult, Config, Episode, Outcome, Parse, Reply, Step, Task, TrialSpec
from capvec.steering import IsolationCheck, Receipt, Steer
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
    0, reply("```bash\nid\n```"), Parse("strict", ("id",)), (CommandResult("uid=0", 0),), "told: uid=0", 0.1,
    "2026-01-02T03:04:05.678+00:00",
)  # fmt: skip
GARBLED = Step(1, reply("``` ```"), Parse("failed", error="No."), (), "told: unreadable", 0.0)
DONE = Step(2, reply("DONE"), Parse("strict", done=True))


def outcome_of(episode, *, status="solved", reward=1.0):
    return Outcome(
        "run1", SPEC.task, SPEC.config, 22, 4.0, 0, 7, status, reward,
        len(episode.steps), episode.parse_fail, episode.repaired, episode.no_cmd, episode.end_reason,
    )  # fmt: skip


def write(path, episode, config=CONFIG, **outcome):
    write_trajectory(
        path, spec=SPEC, task=TASK, config=config, model_name="pocket", protocol="bash-block",
        episode=episode, outcome=outcome_of(episode, **outcome),
    )  # fmt: skip
    return json.loads(path.read_text())


def conversation(episode):
    """The oracle: what the model saw and said, told without the file format."""
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


def test_worked_examples_are_not_taken_for_steps_of_the_agent(tmp_path):
    document = write(tmp_path / "a.json", Episode(OPENING, (ACTED, DONE), "done"))
    # Opening: system, example task, example reply, instruction; then two replies.
    copied = [step.get("is_copied_context", False) for step in document["steps"]]
    assert copied == [False, True, True, False, False, False]
    assert read_traces(tmp_path / "a.json")[0].steps == 2


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
    assert step["extra"]["observation"] == "told: uid=0"
    assert step["metrics"]["extra"]["receipts"] == [RECEIPT.to_json()]
    assert step["metrics"]["extra"]["isolation"] == STILL.to_json()


def test_a_file_says_what_steered_it_in_the_users_unit_and_in_stored_units(tmp_path):
    extra = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))["agent"]["extra"]
    assert (extra["layer"], extra["alpha"], extra["alpha_unit"], extra["alpha_stored"]) == (22, 4.0, "norm", [2.0])
    assert (extra["direction"], extra["dose"], extra["protocol"]) == ("d1rec710", 0.25, "bash-block")


def test_of_several_steers_every_strength_is_told_in_stored_units(tmp_path):
    """As `--layer 20+22 --alpha-unit norm` makes them: one α as typed, and another in stored units at each layer."""
    steers = (Steer(20, "d1rec710", 8.0), Steer(22, "d1rec710", 2.0))
    for config, told in (
        (replace(CONFIG, steers=steers, layer="20+22"), ("20+22", 4.0, [8.0, 2.0], "d1rec710")),
        (
            replace(CONFIG, steers=(steers[0], replace(steers[1], direction="0ther"))),
            (22, 4.0, [8.0, 2.0], "d1rec710+0ther"),
        ),
        (Config("baseline", "baseline"), (None, None, [], None)),
    ):
        extra = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"), config)["agent"]["extra"]
        assert (extra["layer"], extra["alpha"], extra["alpha_stored"], extra["direction"]) == told
        assert extra["alpha_stored"] == [steer["alpha"] for steer in extra["config"]["steers"]]


def test_a_trial_that_ended_in_error_has_no_reward(tmp_path):
    write(tmp_path / "a.json", Episode(OPENING, (ACTED,), "error", "gone"), status="error", reward=0.0)
    assert read_traces(tmp_path / "a.json")[0].reward is None


def test_numbers_that_json_lacks_and_lone_surrogates_do_not_break_the_file(tmp_path):
    odd = Reply("\ud800", "stop", 1, 1, float("nan"))
    document = write(tmp_path / "a.json", Episode(OPENING, (Step(0, odd, Parse("strict")),), "max_steps"))
    assert document["steps"][-1]["metrics"]["extra"]["model_s"] == "nan"
    assert read_traces(tmp_path / "a.json")[0].messages[-1]["content"] == "\ud800"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))
    before = (tmp_path / "a.json").read_bytes()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr("capvec.traces.write.os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a.json", Episode(OPENING, (ACTED, DONE), "done"))
    assert (tmp_path / "a.json").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


# ------------------------------------------------------------------------------------------------ other agents


def foreign(**changes):
    return {
        "schema_version": "ATIF-v1.2",
        "session_id": "s1",
        "agent": {"name": "other", "version": "1", "model_name": "big"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "Count."},
            {
                "step_id": 2, "source": "agent", "message": "I look.",
                "tool_calls": [{"tool_call_id": "c", "function_name": "bash", "arguments": {"command": "ls"}}],
                "observation": {"results": [{"source_call_id": "c", "content": "a b"}]},
            },
            {"step_id": 3, "source": "agent", "message": [{"type": "text", "text": "Two."}, {"type": "image"}]},
        ],
    } | changes  # fmt: skip


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def test_another_agents_tool_calls_and_observations_become_messages(tmp_path):
    (trace,) = read_traces(put(tmp_path / "a.json", foreign(extra={"reward": 1, "task": "count"})))
    call = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    assert trace.messages == (
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": f"I look.\n{call}"},
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": "Two.\n[image]"},
    )
    assert (trace.reward, trace.task, trace.model, trace.steps) == (1.0, "count", "big", 2)
    assert (trace.parse_fail, trace.no_cmd) == (None, None)
    assert trace.uncounted == "trajectories of other do not record it"


def test_roles_that_chat_templates_refuse_are_made_acceptable(tmp_path):
    """A late system message, and one role twice in a row."""
    steps = [
        {"source": "system", "message": "Rules."},
        {"source": "user", "message": "Go."},
        {"source": "system", "message": "Clock: 5."},
        {"source": "agent", "message": "A."},
        {"source": "agent", "message": "B."},
    ]
    (trace,) = read_traces(put(tmp_path / "a.json", foreign(steps=steps)))
    assert [message["role"] for message in trace.messages] == ["system", "user", "assistant"]
    assert [message["content"] for message in trace.messages] == ["Rules.", "Go.\n\nClock: 5.", "A.\n\nB."]


def test_harbors_result_beside_the_agents_folder_gives_reward_and_task(tmp_path):
    put(tmp_path / "trial" / "agent" / "trajectory.json", foreign())
    put(tmp_path / "trial" / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 0.0}}})
    put(tmp_path / "result.json", {"n_trials": 1})
    (trace,) = read_traces(tmp_path)
    assert (trace.task, trace.reward) == ("t9", 0.0)


def test_a_folder_is_read_at_any_depth_in_order_and_reports_are_passed_over(tmp_path):
    put(tmp_path / "b.json", foreign(session_id="b"))
    put(tmp_path / "a" / "x.json", foreign(session_id="ax"))
    put(tmp_path / "summary.json", {"steps": 3})
    assert [trace.id for trace in read_traces(tmp_path)] == ["ax", "b"]


def test_a_jsonl_holds_one_trajectory_a_line_and_shared_ids_are_told_apart(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join([json.dumps(foreign(extra={"reward": 0})), "", json.dumps(foreign())]))
    put(tmp_path / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 1.0}}})
    traces = read_traces(file)
    assert [(trace.id, trace.reward) for trace in traces] == [("s1", 0.0), ("s1#2", None)]


@pytest.mark.parametrize("minor", range(9))
def test_every_version_from_1_0_to_1_8_is_read(tmp_path, minor):
    assert len(read_traces(put(tmp_path / "a.json", foreign(schema_version=f"ATIF-v1.{minor}")))) == 1


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema_version": "ATIF-v1.9"}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"agent": "me"}, "agent"),
        ({"steps": None}, "steps"),
        ({"steps": [3]}, "steps[0]"),
        ({"steps": [{"source": "robot", "message": ""}]}, "steps[0].source"),
        ({"steps": [{"source": "user"}]}, "steps[0].message"),
        ({"steps": [{"source": "agent", "message": "", "tool_calls": {}}]}, "steps[0].tool_calls"),
        ({"steps": [{"source": "agent", "message": "", "observation": {"results": [1]}}]}, "observation.results[]"),
        ({"extra": {"reward": "high"}}, "extra.reward"),
        ({"extra": {"reward": [1]}}, "extra.reward"),
        ({"extra": []}, "extra"),
        ({"extra": {"parse_fail": "2"}}, "extra.parse_fail"),
        ({"extra": {"no_cmd": -1}}, "extra.no_cmd"),
    ],
)
def test_a_broken_trajectory_is_refused_with_file_and_key(tmp_path, changes, key):
    file = put(tmp_path / "broken.json", foreign(**changes))
    with pytest.raises(UsageError) as refusal:
        read_traces(file)
    assert "broken.json" in str(refusal.value)
    assert f"{key}`" in str(refusal.value)


def test_a_file_of_ours_without_its_counts_is_refused_by_key(tmp_path):
    document = write(tmp_path / "a.json", Episode(OPENING, (DONE,), "done"))
    del document["extra"]["outcome"]["parse_fail"]
    with pytest.raises(UsageError, match=r"extra\.outcome\.parse_fail"):
        read_traces(put(tmp_path / "a.json", document))


def test_a_jsonl_line_that_is_not_json_is_named_by_its_number(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(foreign()) + "\n{broken\n")
    with pytest.raises(UsageError, match="line 2"):
        read_traces(file)


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_traces(tmp_path / "absent")
    with pytest.raises(UsageError, match="no ATIF trajectory and no JSONL of chats"):
        read_traces(tmp_path)


# ------------------------------------------------------------------------------------------------ Harbor's agents

COMPLAINT = (
    "Previous response had parsing errors:\nERROR: Missing required fields: analysis, plan\n\n"
    "Please fix these issues and provide a proper JSON response."
)


def agent(message, *calls, told="New Terminal Output:\n", **more):
    """A step as `terminus-2` writes it: Harbor 0.26.0, `harbor/agents/terminus_2/terminus_2.py`, `_run_agent_loop`."""
    named = [{"tool_call_id": f"c{n}", "function_name": name, "arguments": {}} for n, name in enumerate(calls)]
    step = {"source": "agent", "message": message, "observation": {"results": [{"content": told}]}}
    return step | ({"tool_calls": named} if named else {}) | more


def terminus(*steps, parser="json", **changes):
    about = {"name": "terminus-2", "version": "2.0.0", "model_name": "openai/gpt-4o", "extra": {"parser": parser}}
    return foreign(agent=about, steps=[{"source": "user", "message": "Go."}, *steps], **changes)


ASKED = agent("Analysis: done.\nPlan: none.", "mark_task_complete", told="Are you sure you want to mark the task…")
INVALID_JSON = (  # the run of Harbor's tests/golden/terminus_2/hello-world-invalid-json.trajectory.json
    agent('I need…\n{"commands": []}\nThis should work!', told=COMPLAINT),
    agent("Analysis: an error.\nPlan: printf.", "bash_command"),
    ASKED,
    ASKED,
)


def test_what_terminus_2s_parser_refused_is_counted_from_its_complaints(tmp_path):
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*INVALID_JSON)))
    assert (trace.steps, trace.parse_fail, trace.no_cmd, trace.uncounted) == (4, 1, 0, "")


def test_a_terminus_2_step_with_neither_command_nor_completion_carried_no_command(tmp_path):
    waiting = agent("Analysis: it compiles.\nPlan: wait.")
    warned = agent("Plan: ls", "bash_command", told="Previous response had warnings:\n- Extra text\n\nout")
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(waiting, warned, waiting, ASKED)))
    assert (trace.parse_fail, trace.no_cmd) == (0, 2)


def test_raw_replies_of_terminus_2_are_read_again_by_the_protocol(tmp_path):
    """With `raw_content` there are no tool calls, and the message is the reply."""
    raw = [
        {"analysis": "", "plan": "", "commands": [{"keystrokes": "ls\n"}]},
        {"analysis": "", "plan": "", "commands": []},
        {"analysis": "", "plan": "", "commands": [], "task_complete": True},
    ]
    steps = [agent("{broken", told=COMPLAINT), *(agent(json.dumps(reply)) for reply in raw)]
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*steps)))
    assert (trace.parse_fail, trace.no_cmd) == (1, 1)
    (xml,) = read_traces(put(tmp_path / "a.json", terminus(*steps, parser="xml")))
    assert (xml.parse_fail, xml.no_cmd) == (1, None)
    assert "raw replies for its parser 'xml'" in xml.uncounted


def test_replies_are_counted_by_the_protocol_that_a_trajectory_names_and_by_the_source_before_all(tmp_path):
    steps = [{"source": "agent", "message": text} for text in ("```bash\nls\n```", "```python\n1\n```", "Hm.")]
    document = foreign(steps=steps, extra={"protocol": "bash-block"})
    (trace,) = read_traces(put(tmp_path / "a.json", document))
    assert (trace.parse_fail, trace.no_cmd, trace.uncounted) == (1, 1, "")
    (counted,) = read_traces(put(tmp_path / "a.json", document | {"extra": {"parse_failures": 7}}))
    assert (counted.parse_fail, counted.no_cmd) == (7, None)
    (other,) = read_traces(put(tmp_path / "a.json", document | {"extra": {"protocol": "xml"}}))
    assert other.uncounted == "the source does not count, and its protocol 'xml' is none of capvec's"


def test_steps_that_no_model_was_asked_for_are_no_replies(tmp_path):
    steps = [agent("a"), agent("b", llm_call_count=0), agent("c", is_copied_context=True)]
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*steps)))
    assert (trace.steps, trace.no_cmd) == (1, 1)


def test_a_run_that_harbor_wrote_in_parts_is_one_trace_without_its_subagents(tmp_path):
    """`linear_history`: each part names the next; the summaries are trajectories of their own, which the run names."""
    folder = tmp_path / "trial" / "agent"
    handoff = {
        "source": "system",
        "message": "Performed context summarization and handoff to continue task.",
        "observation": {"results": [{"subagent_trajectory_ref": [{"trajectory_path": "trajectory.summary.json"}]}]},
    }
    first = terminus(agent("x", told=COMPLAINT), handoff, continued_trajectory_ref="trajectory.cont-1.json")
    second = terminus(
        agent("x", told=COMPLAINT, is_copied_context=True), agent("y", "bash_command"), session_id="s-cont-1"
    )
    put(folder / "trajectory.json", first)
    put(folder / "trajectory.cont-1.json", second)
    put(folder / "trajectory.summary.json", terminus(agent("So far…"), session_id="s1-summary"))
    put(folder.parent / "result.json", {"task_name": "t9", "verifier_result": {"rewards": {"reward": 1}}})
    (trace,) = read_traces(tmp_path)
    assert (trace.id, trace.task, trace.reward) == ("s-cont-1", "t9", 1.0)
    assert (trace.steps, trace.parse_fail, trace.no_cmd) == (2, 1, 0)


# ------------------------------------------------------------------------------------------------ chats


def chat(**changes):
    return {
        "messages": [
            {"role": "system", "content": "Rules."},
            {"role": "user", "content": "Count."},
            {"role": "assistant", "content": "```bash\nls\n```"},
            {"role": "user", "content": "a b"},
            {"role": "assistant", "content": "DONE"},
        ],
        "reward": 1,
    } | changes  # fmt: skip


def lines(path, *values):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n")
    return path


def test_a_chat_becomes_a_trace(tmp_path):
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(task="count", model="m", parse_fail=2, no_cmd=0, id="c1")))
    assert (trace.id, trace.task, trace.model, trace.reward) == ("c1", "count", "m", 1.0)
    assert (trace.steps, trace.parse_fail, trace.no_cmd, trace.uncounted) == (2, 2, 0, "")
    assert list(trace.messages) == chat()["messages"]


@pytest.mark.parametrize(
    ("wild", "field", "value"),
    [
        ({"score": 0.5, "reward": None}, "reward", 0.5),
        ({"success": True, "reward": None}, "reward", 1.0),
        ({"resolved": False, "reward": None}, "reward", 0.0),
        ({"instance_id": "django-1"}, "task", "django-1"),
        ({"problem_id": 17}, "task", "17"),
        ({"model_name": "big"}, "model", "big"),
        ({"parse_failures": 3}, "parse_fail", 3),
        ({"n_steps": 9}, "steps", 9),
        ({}, "task", "unknown"),
        ({"reward": None}, "reward", None),
    ],
)
def test_fields_are_found_under_the_names_they_have_in_the_wild(tmp_path, wild, field, value):
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(**wild)))
    assert getattr(trace, field) == value


def test_the_users_names_come_first_and_reach_into_objects(tmp_path):
    file = lines(tmp_path / "a.jsonl", chat(metrics={"pass": 0.25}, talk=chat()["messages"][:3]), chat(reward=0.75))
    first, second = read_traces(file, {"reward": "metrics.pass", "messages": "talk"})
    assert (first.id, second.id) == ("a.jsonl, line 1", "a.jsonl, line 2")
    assert (first.reward, len(first.messages)) == (0.25, 3)
    assert (second.reward, len(second.messages)) == (0.75, 5)  # without them, the names that are known


def test_the_users_names_hold_for_trajectories_as_well(tmp_path):
    file = put(tmp_path / "a.json", foreign(extra={"grade": 0.5, "puzzle": "p1"}))
    (trace,) = read_traces(file, {"reward": "grade", "task": "puzzle"})
    assert (trace.reward, trace.task) == (0.5, "p1")


def test_replies_of_a_chat_are_counted_by_the_protocol_that_it_names(tmp_path):
    talk = [*chat()["messages"], {"role": "assistant", "content": "```python\n1\n```"}]
    said = [chat(messages=talk, protocol="bash-block"), chat(messages=talk)]
    counted, unknown = read_traces(lines(tmp_path / "a.jsonl", *said))
    assert (counted.steps, counted.parse_fail, counted.no_cmd, counted.uncounted) == (3, 1, 0, "")
    assert (unknown.parse_fail, unknown.uncounted) == (None, "the source neither counts nor names a protocol")


def test_openais_tool_calls_become_text_and_tool_messages_the_users(tmp_path):
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}
    talk = [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a b"}]},
    ]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", chat(messages=talk, protocol="tool-call")))
    assert trace.messages[1]["content"] == '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    assert trace.messages[2] == {"role": "user", "content": "a b"}
    assert (trace.parse_fail, trace.no_cmd) == (0, 0)  # the text is what the protocol reads


def test_sharegpts_conversations_are_read(tmp_path):
    talk = [{"from": "human", "value": "Go."}, {"from": "gpt", "value": "DONE"}]
    (trace,) = read_traces(lines(tmp_path / "a.jsonl", {"conversations": talk, "reward": 0}))
    assert trace.messages == ({"role": "user", "content": "Go."}, {"role": "assistant", "content": "DONE"})


def test_a_folder_gives_its_chats_and_passes_over_other_logs(tmp_path):
    put(tmp_path / "a.json", foreign())
    lines(tmp_path / "b.jsonl", chat(id="x"), chat(id="y"))
    lines(tmp_path / "trials.jsonl", {"trial": "t", "steps": 3})
    (tmp_path / "torn.jsonl").write_text('{"trial": "t"}\n{"tri')
    put(tmp_path / "chat.json", chat())  # a JSON file of a folder is read as a trajectory only
    assert [trace.id for trace in read_traces(tmp_path)] == ["s1", "x", "y"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ([1], "is list, expected an object with messages"),
        ({"reward": 1}, "neither an ATIF trajectory"),
        (chat(messages="hi"), "key `messages` is 'hi', expected a list"),
        (chat(messages=[3]), "key `messages[0]` is 3"),
        (chat(messages=[{"role": "robot", "content": ""}]), "key `messages[0].role` is 'robot'"),
        (chat(messages=[{"role": "user"}]), "key `messages[0].content` is None"),
        (chat(messages=[{"role": "user", "content": "", "tool_calls": [1]}]), "key `messages[0].tool_calls[]` is 1"),
        (chat(reward="high"), "key `reward` is 'high', expected a finite number"),
        (chat(score="high", reward=None), "key `score` is 'high'"),
        (chat(task=[1]), "key `task` is [1], expected text"),
        (chat(parse_fail=-1), "key `parse_fail` is -1, expected a whole number of at least 0"),
        (chat(steps=1.5), "key `steps` is 1.5, expected a whole number"),
    ],
)
def test_a_broken_chat_is_refused_with_file_line_and_key(tmp_path, line, told):
    with pytest.raises(UsageError) as refusal:
        read_traces(lines(tmp_path / "a.jsonl", chat(), line))
    assert "a.jsonl, line 2" in str(refusal.value)
    assert told in str(refusal.value)
