"""Counts of replies that did not parse or carried no command, from what other agents recorded."""

from __future__ import annotations

import json

import pytest
from support.traces import COMPLAINT, agent, foreign, put, terminus

from capvec.traces import read_traces

pytestmark = pytest.mark.unit


ASKED = agent("Analysis: done.\nPlan: none.", "mark_task_complete", answer="Are you sure you want to mark the task…")
INVALID_JSON = (  # the run of Harbor's tests/golden/terminus_2/hello-world-invalid-json.trajectory.json
    agent('I need…\n{"commands": []}\nThis should work!', answer=COMPLAINT),
    agent("Analysis: an error.\nPlan: printf.", "bash_command"),
    ASKED,
    ASKED,
)


def test_what_terminus_2s_parser_refused_is_counted_from_its_complaints(tmp_path):
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*INVALID_JSON)))
    assert (trace.steps, trace.parse_fail, trace.no_cmd, trace.uncounted) == (4, 1, 0, "")


def test_a_terminus_2_step_with_neither_command_nor_completion_carried_no_command(tmp_path):
    waiting = agent("Analysis: it compiles.\nPlan: wait.")
    warned = agent("Plan: ls", "bash_command", answer="Previous response had warnings:\n- Extra text\n\nout")
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(waiting, warned, waiting, ASKED)))
    assert (trace.parse_fail, trace.no_cmd) == (0, 2)


def test_raw_replies_of_terminus_2_are_read_again_by_the_protocol(tmp_path):
    """With `raw_content` there are no tool calls, and the message is the reply."""
    raw = [
        {"analysis": "", "plan": "", "commands": [{"keystrokes": "ls\n"}]},
        {"analysis": "", "plan": "", "commands": []},
        {"analysis": "", "plan": "", "commands": [], "task_complete": True},
    ]
    steps = [agent("{broken", answer=COMPLAINT), *(agent(json.dumps(reply)) for reply in raw)]
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*steps)))
    assert (trace.parse_fail, trace.no_cmd) == (1, 1)
    (xml,) = read_traces(put(tmp_path / "a.json", terminus(*steps, parser="xml")))
    assert (xml.parse_fail, xml.no_cmd) == (1, None)
    assert "'xml'" in xml.uncounted


def test_replies_are_counted_by_the_protocol_that_a_trajectory_names_and_by_the_source_before_all(tmp_path):
    steps = [{"source": "agent", "message": text} for text in ("```bash\nls\n```", "```python\n1\n```", "Hm.")]
    document = foreign(steps=[{"source": "user", "message": "Go."}, *steps], extra={"protocol": "bash-block"})
    (trace,) = read_traces(put(tmp_path / "a.json", document))
    assert (trace.parse_fail, trace.no_cmd, trace.uncounted) == (1, 1, "")
    (counted,) = read_traces(put(tmp_path / "a.json", document | {"extra": {"parse_failures": 7}}))
    assert (counted.parse_fail, counted.no_cmd) == (7, None)
    (other,) = read_traces(put(tmp_path / "a.json", document | {"extra": {"protocol": "xml"}}))
    assert "'xml'" in other.uncounted


def test_steps_that_no_model_was_asked_for_are_no_replies(tmp_path):
    steps = [agent("a"), agent("b", llm_call_count=0), agent("c", is_copied_context=True)]
    (trace,) = read_traces(put(tmp_path / "a.json", terminus(*steps)))
    assert (trace.steps, trace.no_cmd) == (1, 1)
