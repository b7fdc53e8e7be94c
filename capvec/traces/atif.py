"""Turns a parsed ATIF document into a trace."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from capvec.errors import UsageError
from capvec.records import Config, Trace
from capvec.traces.conversation import acceptable, with_calls, without_thought
from capvec.traces.counts import ReplyCounts, by_protocol, by_terminus_2
from capvec.traces.document import Document, first_name
from capvec.traces.fields import UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.harbor import trial_result, verified_reward
from capvec.traces.messages import read_content
from capvec.traces.unread import check_read

LATEST_MINOR = 8
"""The latest N of the schema versions `ATIF-v1.N` that can be read."""

_T = TypeVar("_T")
_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
_COUNTED = ("parse_fail", "no_cmd")


def looks_like_trajectory(value: Any, _named: Mapping[str, str]) -> bool:
    """Whether a JSON value is meant to be a trajectory: it names the schema, or has steps with sources."""
    if not isinstance(value, dict):
        return False
    steps = value.get("steps")
    sourced = isinstance(steps, list) and any(isinstance(step, dict) and "source" in step for step in steps)
    return sourced or str(value.get("schema_version", "")).startswith("ATIF")


def own_trace(document: Document) -> Trace | None:
    """The trace of a trajectory that capvec wrote; None if another agent wrote it.

    Raises:
        UsageError: a key is missing or wrong; the message names it.
    """
    root, steps = _checked(document)
    outcome = _extra(document).get("outcome")
    if root["agent"].get("name") != "capvec" or outcome is None:
        return None
    outcome = document.typed(outcome, "extra.outcome", dict)

    def from_outcome(key: str, kind: type[_T]) -> _T:
        return document.typed(outcome.get(key), f"extra.outcome.{key}", kind)

    reward = None
    if from_outcome("outcome", str) != "error":
        reward = document.number(outcome.get("reward"), "extra.outcome.reward")
    messages = []
    for index, step in enumerate(steps):
        messages.append(
            {
                "role": _ROLES[step["source"]],
                "content": read_content(document, step["message"], f"steps[{index}].message"),
            }
        )
        extra = document.optional(step.get("extra"), f"steps[{index}].extra", dict) or {}
        if observed := document.optional(extra.get("observation"), f"steps[{index}].extra.observation", str):
            messages.append({"role": "user", "content": observed})
    return Trace(
        id=f"{from_outcome('run', str)}/{from_outcome('trial', str)}",
        task=from_outcome("task", str),
        model=document.typed(root["agent"].get("model_name"), "agent.model_name", str),
        messages=tuple(messages),
        reward=reward,
        steps=len(_replies(steps)),
        parse_fail=from_outcome("parse_fail", int),
        no_cmd=from_outcome("no_cmd", int),
        config=from_outcome("config", str),
    )


def foreign_trace(document: Document, named: Mapping[str, str]) -> Trace:
    """The trace of another agent's trajectory.

    Tool calls become text after the message, as `<tool_call>{"name": …, "arguments": …}</tool_call>`. Observations
    become user messages, and images become `[image]`. Chat templates refuse late system messages and consecutive
    messages of one role: the former become user messages, the latter are joined. `reasoning_content` and a thought at
    the start of a message are left out, as the templates of reasoning models leave out the reasoning of earlier turns.

    Task, reward, parse_fail and no_cmd come from `extra`; task and reward else from Harbor's `result.json`.

    Raises:
        UsageError: a key is missing or wrong; the message names it.
    """
    root, steps = _checked(document)
    extra, result = _extra(document), trial_result(document)
    counts = _counts(document, steps, named)
    models = [root["agent"].get("model_name"), *(step.get("model_name") for step in steps)]
    return Trace(
        id=first_name([root.get("trajectory_id"), root.get("session_id"), document.path.stem], UNKNOWN),
        task=first_name((_name(look_up(source, "task", named)[1]) for source in (extra, result)), UNKNOWN),
        model=first_name(models, UNKNOWN),
        messages=acceptable(_foreign_messages(document, steps)),
        reward=_reward(document, extra, result, named),
        steps=len(_replies(steps)),
        parse_fail=counts.parse_fail,
        no_cmd=counts.no_cmd,
        config=first_name([extra.get("config")], Config.BASELINE),
        uncounted=counts.why,
    )


def _reward(
    document: Document, extra: dict[str, Any], result: dict[str, Any], named: Mapping[str, str]
) -> float | None:
    key, value = look_up(extra, "reward", named)
    if value is not None:
        return document.reward(value, f"extra.{key}")
    return verified_reward(document, result, named)


def _counts(document: Document, steps: list[dict[str, Any]], named: Mapping[str, str]) -> ReplyCounts:
    """The counts of the source, or else those that can be derived."""
    extra, agent = _extra(document), document.value["agent"]
    about = document.optional(agent.get("extra"), "agent.extra", dict) or {}
    protocol = about.get("protocol") or look_up(extra, "protocol", named)[1]
    replies = _replies(steps)
    if agent.get("name") == "terminus-2":
        derived = by_terminus_2(document, replies, about.get("parser"))
    elif protocol is not None:
        derived = by_protocol(
            document.typed(protocol, "protocol", str),
            [without_thought(read_content(document, step["message"], "steps[].message")) for step in replies],
        )
    else:
        derived = ReplyCounts(None, None, f"trajectories of {agent.get('name')} do not record these counts")
    given = [(f"extra.{key}", value) for key, value in (look_up(extra, field, named) for field in _COUNTED)]
    return derived.known_first(*(document.count(value, key) for key, value in given))


def _checked(document: Document) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The root and its steps, checked for the keys that every trajectory must have."""
    root = document.value
    if not isinstance(root, dict):
        raise UsageError(f"{document.name}: is {type(root).__name__}, expected a JSON object with the keys of ATIF")
    version = re.fullmatch(r"ATIF-v1\.(\d+)", str(root.get("schema_version")))
    if version is None or int(version[1]) > LATEST_MINOR:
        expected = f"ATIF-v1.0 to ATIF-v1.{LATEST_MINOR}"
        raise document.broken("schema_version", root.get("schema_version"), expected)
    document.typed(root.get("agent"), "agent", dict)
    steps = document.typed(root.get("steps"), "steps", list)
    for index, step in enumerate(steps):
        document.typed(step, f"steps[{index}]", dict)
        if str(step.get("source")) not in _ROLES:
            raise document.broken(f"steps[{index}].source", step.get("source"), "system, user or agent")
        if not isinstance(step.get("message"), str | list):
            raise document.broken(f"steps[{index}].message", step.get("message"), "text or a list of content parts")
    return root, steps


def _extra(document: Document) -> dict[str, Any]:
    return document.optional(document.value.get("extra"), "extra", dict) or {}


def _replies(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The replies of the model: steps of the agent, without those copied from an earlier run or made by no model."""
    return [
        step
        for step in steps
        if step["source"] == "agent" and not step.get("is_copied_context") and step.get("llm_call_count") != 0
    ]


def _foreign_messages(document: Document, steps: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    for index, step in enumerate(steps):
        where = f"steps[{index}]"
        text = read_content(document, step["message"], f"{where}.message")
        if step["source"] == "agent":
            text = without_thought(text)
        calls = [*_calls(document, step, f"{where}.tool_calls")]
        said = with_calls(text, calls)
        check_read(document, step, where, ("source", "message", "tool_calls", "observation"), said, calls=bool(calls))
        yield {"role": _ROLES[step["source"]], "content": said}
        if observed := [*_observed(document, step, f"{where}.observation")]:
            yield {"role": "user", "content": "\n".join(observed)}


def _calls(document: Document, step: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    """Name and arguments of each of a step's calls."""
    for call in document.optional(step.get("tool_calls"), key, list) or []:
        document.typed(call, f"{key}[]", dict)
        name = document.typed(call.get("function_name"), f"{key}[].function_name", str)
        check_read(document, call, f"{key}[]", ("function_name", "arguments"))
        if call.get("arguments") is None:
            raise document.broken(f"{key}[].arguments", None, "what the tool was called with")
        yield name, call["arguments"]


def _observed(document: Document, step: Mapping[str, Any], key: str) -> Iterator[str]:
    """What the agent read of each of a step's results."""
    observation = document.optional(step.get("observation"), key, dict) or {}
    check_read(document, observation, key, ("results",))
    for result in document.optional(observation.get("results"), f"{key}.results", list) or []:
        content = document.typed(result, f"{key}.results[]", dict).get("content")
        text = "" if content is None else read_content(document, content, f"{key}.results[].content")
        check_read(document, result, f"{key}.results[]", ("content", "subagent_trajectory_ref"), text)
        if content is not None:
            yield text


def _name(value: Any) -> Any:
    """The name of a task, which may be an object with a name, as in capvec's own files."""
    return value.get("name") if isinstance(value, dict) else value


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    yield own_trace(document) or foreign_trace(document, named)


FORMAT = Format("ATIF", looks_like_trajectory, _read)
