"""Traces of other agents on disk: ATIF trajectories, Harbor's `terminus-2`, and chats."""

from __future__ import annotations

import json

COMPLAINT = (
    "Previous response had parsing errors:\nERROR: Missing required fields: analysis, plan\n\n"
    "Please fix these issues and provide a proper JSON response."
)


def foreign(**changes):
    """A trajectory of another agent: two replies, the first with a tool call."""
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
    """Write a JSON file. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def agent(message, *calls, answer="New Terminal Output:\n", **more):
    """A step as `terminus-2` writes it: Harbor 0.26.0, `harbor/agents/terminus_2/terminus_2.py`, `_run_agent_loop`."""
    named = [{"tool_call_id": f"c{n}", "function_name": name, "arguments": {}} for n, name in enumerate(calls)]
    step = {"source": "agent", "message": message, "observation": {"results": [{"content": answer}]}}
    return step | ({"tool_calls": named} if named else {}) | more


def terminus(*steps, parser="json", **changes):
    """A trajectory of `terminus-2`."""
    about = {"name": "terminus-2", "version": "2.0.0", "model_name": "openai/gpt-4o", "extra": {"parser": parser}}
    return foreign(agent=about, steps=[{"source": "user", "message": "Go."}, *steps], **changes)


def chat(**changes):
    """A solved chat of two replies."""
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
    """Write a JSONL. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n")
    return path
