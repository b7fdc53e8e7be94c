"""Turns a run of OpenHands into a trace: its stream of events, as a list or with the verdict of an evaluation.

Up to version 0 an event has an `action` or an `observation`; events of the newer SDK have a `kind`. The `output.jsonl`
of an evaluation has the events under `history`, and a verdict under `test_result`. Events that the model neither wrote
nor read, such as changes of the agent's state, are left out; any other that is not known is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.document import Document, NotATrace, first_name
from capvec.traces.fields import UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import only_choice, read_content, read_messages
from capvec.traces.unread import check_read

_LISTS = ("history", "trajectory", "events")
"""Keys under which an object may have the events."""
_ACTIONS = {
    "message", "system", "read", "write", "edit", "run", "run_ipython", "browse", "browse_interactive", "call_tool_mcp",
    "delegate", "think", "finish", "reject", "task_tracking",
}  # fmt: skip
_OBSERVATIONS = {
    "read", "write", "edit", "browse", "run", "run_ipython", "delegate", "message", "error", "success", "think",
    "user_rejected", "mcp", "download", "task_tracking",
}  # fmt: skip
_SILENT = {
    "null", "start", "pause", "resume", "stop", "change_agent_state", "push", "send_pr", "recall", "condensation",
    "condensation_request", "loop_recovery", "agent_state_changed", "condense", "chat", "loop_detection", "",
}  # fmt: skip
_SILENT_KINDS = {
    "ConversationStateUpdateEvent", "TokenEvent", "PauseEvent", "InterruptEvent", "StreamingDeltaEvent", "Condensation",
    "CondensationRequest", "CondensationSummaryEvent", "HookExecutionEvent", "LLMCompletionLogEvent",
    "ConversationErrorEvent", "ServerErrorEvent",
}  # fmt: skip
_KINDS = {
    "SystemPromptEvent", "MessageEvent", "ActionEvent", "ObservationEvent", "AgentErrorEvent", "UserRejectObservation",
    *_SILENT_KINDS,
}  # fmt: skip
_BOOKKEEPING = {
    "thought", "keep_prompt", "is_confirmed", "confirmation_state", "action_risk", "security_risk", "blocking",
    "hidden", "is_input", "impl_source", "is_static", "wait_for_response", "timeout",
}  # fmt: skip
"""Arguments of an action that are OpenHands's own and not the model's."""
_SEEN = ("content", "output", "message", "error")
"""Keys of what the model read of an observation of the SDK, whose name has changed."""
_RECALLED = ("repo_instructions", "additional_agent_instructions", "conversation_instructions")
"""Texts of a recall that the prompt contained."""


def _looks_like(value: Any, _named: Mapping[str, str]) -> bool:
    if isinstance(value, list):
        events = _flat(value)
        return all(is_event(event) for event in events) and any(_is_known(event) for event in events)
    if not isinstance(value, dict):
        return False
    evaluated = "test_result" in value and "instance_id" in value and "history" in value
    return evaluated or any(_looks_like(value.get(key), {}) for key in _LISTS if isinstance(value.get(key), list))


def is_event(event: Any) -> bool:
    """Whether a JSON value has the form of an event."""
    if not isinstance(event, dict) or "role" in event:
        return False
    if isinstance(kind := event.get("kind"), str):
        return kind in _KINDS or (kind.endswith("Event") and "source" in event)
    return isinstance(event.get("action"), str) != isinstance(event.get("observation"), str)


def ordered(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a run that were kept in a file each, in their order: by number, or by time where they have none."""
    return sorted(events, key=lambda event: (number if isinstance(number := event.get("id"), int) else 0, _time(event)))


def _time(event: Mapping[str, Any]) -> str:
    return str(event.get("timestamp") or "")


def _is_known(event: dict[str, Any]) -> bool:
    """Whether it is an event of a type that is read, and not only one in the form of an event."""
    known = {"kind": _KINDS, "action": _ACTIONS, "observation": _OBSERVATIONS}
    return any(isinstance(event.get(key), str) and event[key] in names for key, names in known.items())


def _flat(events: Sequence[Any]) -> list[Any]:
    """The events in order. Old evaluations list them in pairs of an action and an observation."""
    return [event for entry in events for event in (entry if isinstance(entry, list) else [entry])]


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    root = document.value if isinstance(document.value, dict) else {"events": document.value}
    key = next((key for key in _LISTS if root.get(key)), None)
    if key is None:
        raise NotATrace("an evaluation of OpenHands without events")
    events = [document.typed(event, f"{key}[]", dict) for event in _flat(document.typed(root[key], key, list))]
    messages = read_messages(document, [*_entries(document, events, key)], key)
    name = first_name([look_up(root, "id", named)[1], look_up(root, "task", named)[1]], document.stem)
    yield Trace(
        id=name,
        task=first_name([look_up(root, "task", named)[1]], UNKNOWN),
        model=first_name([_reach(root, "metadata", "llm_config", "model"), *map(_model, events)], UNKNOWN),
        messages=acceptable(messages),
        reward=_reward(document, root, named),
        steps=sum(message["role"] == "assistant" for message in messages),
        parse_fail=None,
        no_cmd=None,
        uncounted="runs of OpenHands do not record these counts",
    )


def _reward(document: Document, root: Mapping[str, Any], named: Mapping[str, str]) -> float | None:
    """The verdict: a field of the evaluation, or of what its tests gave. A test that broke off gives none."""
    tested = root.get("test_result")
    report = _reach(tested, "report") or _reach(root, "report")
    if _reach(report, "error_eval"):
        return None
    result = _reach(tested, "result")
    for source in (root, report, tested, result):
        key, value = look_up(source, "reward", named) if isinstance(source, dict) else ("", None)
        if value is not None:
            return document.reward(value, key)
    plain = next((value for value in (result, tested) if isinstance(value, bool | int | float)), None)
    return document.reward(plain, "test_result")


def _entries(document: Document, events: Sequence[dict[str, Any]], key: str) -> Iterator[dict[str, Any]]:
    """The events as messages of a chat. Calls that one response made at once are one message."""
    responses: set[str] = set()
    spoken = False
    for index, event in enumerate(events):
        where = f"{key}[{index}]"
        answer = _reach(event, "tool_call_metadata", "model_response")
        if isinstance(event.get("kind"), str):
            yield from _sdk_entry(document, event, where)
        elif "observation" in event and "action" not in event:
            yield from _observed(document, event, where)
        elif isinstance(answer, dict) and event.get("source") != "user":
            response = str(answer.get("id") or where)
            if response not in responses:
                yield _answer(document, answer, where)
            responses.add(response)
        else:
            for entry in _acted(document, event, where, asks=not spoken):
                yield entry
                spoken = spoken or entry["role"] != "system"


def _answer(document: Document, answer: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {**only_choice(document, answer.get("choices"), f"{where}.choices"), "role": "assistant"}


def _acted(document: Document, event: Mapping[str, Any], where: str, *, asks: bool) -> Iterator[dict[str, Any]]:
    action, args = document.typed(event.get("action"), f"{where}.action", str), _args(document, event, where)
    if action in _SILENT:
        return
    if action not in _ACTIONS:
        raise _unknown(document, where, "action", action)
    # The events of old evaluations have no source: the first message is the task.
    by_user = event.get("source") == "user" or (asks and action == "message" and event.get("source") is None)
    if action in {"message", "system"}:
        role = "system" if action == "system" else "user" if by_user else "assistant"
        images = document.optional(args.get("image_urls") or args.get("images_urls"), f"{where}.image_urls", list) or []
        parts = [{"type": "text", "text": args.get("content") or ""}, *({"type": "image"} for _ in images)]
        yield {"role": role, "content": parts}
        return
    said = args.get("thought") or ""
    given = {name: value for name, value in args.items() if name not in _BOOKKEEPING and value not in (None, "", {})}
    if action == "think":
        said, given = "", {"thought": said}
    call = {"name": action, "arguments": given}
    if action == "finish" and not given and not by_user:
        yield {"role": "assistant", "content": said or event.get("message") or ""}
    else:
        yield {"role": "user" if by_user else "assistant", "content": said, "tool_calls": [call]}


def _args(document: Document, event: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments of an action. The events of old evaluations have them at their top."""
    if "args" in event:
        return document.optional(event["args"], f"{where}.args", dict) or {}
    beside = {"action", "source", "id", "timestamp", "message", "cause"}
    return {name: value for name, value in event.items() if name not in beside}


def _observed(document: Document, event: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    observation = document.typed(event["observation"], f"{where}.observation", str)
    content = document.optional(event.get("content"), f"{where}.content", str) or ""
    extras = document.optional(event.get("extras"), f"{where}.extras", dict) or {}
    if observation == "recall":
        yield from ({"role": "user", "content": text} for text in _recalled(document, extras, where))
        return
    if observation in _SILENT:
        return
    if observation not in _OBSERVATIONS:
        raise _unknown(document, where, "observation", observation)
    if observation == "run":
        content = _as_shown(content, extras.get("metadata") or extras)
    images = document.optional(extras.get("image_urls"), f"{where}.extras.image_urls", list) or []
    yield {"role": "user", "content": "\n".join([content, *("[image]" for _ in images)])}


def _recalled(document: Document, extras: Mapping[str, Any], where: str) -> list[str]:
    """What the prompt had of a recall: instructions and microagents. `content` only says that there are some."""
    known = document.objects(extras.get("microagent_knowledge"), f"{where}.extras.microagent_knowledge")
    texts = [*(extras.get(key) for key in _RECALLED), *(agent.get("content") for agent in known)]
    return [text for text in texts if isinstance(text, str) and text]


def _as_shown(output: str, metadata: Any) -> str:
    """The output of a command with the lines that OpenHands puts after it for the model. Its own -1 is no exit code."""
    if not isinstance(metadata, dict):
        return output
    shown = f"{metadata.get('prefix') or ''}{output}{metadata.get('suffix') or ''}"
    code = metadata.get("exit_code")
    lines = [
        ("Current working directory: {}", metadata.get("working_dir")),
        ("Python interpreter: {}", metadata.get("py_interpreter_path")),
        ("Command finished with exit code {}", None if code in (None, -1) else str(code)),
    ]
    return "\n".join([shown, *(f"[{line.format(value)}]" for line, value in lines if value)])


def _sdk_entry(document: Document, event: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    kind = event["kind"]
    if kind == "SystemPromptEvent":
        dynamic = [event["dynamic_context"]] if event.get("dynamic_context") else []
        yield {"role": "system", "content": [event.get("system_prompt"), *dynamic]}
    elif kind == "MessageEvent":
        message = document.typed(event.get("llm_message"), f"{where}.llm_message", dict)
        yield message
        if extended := event.get("extended_content"):
            yield {"role": message.get("role"), "content": extended}
    elif kind == "ActionEvent":
        call = document.typed(event.get("tool_call"), f"{where}.tool_call", dict)
        # The type makes calls of one response one reply.
        yield {"type": "message", "role": "assistant", "content": event.get("thought") or "", "tool_calls": [call]}
    elif kind == "ObservationEvent":
        seen = document.typed(event.get("observation"), f"{where}.observation", dict)
        yield {"role": "user", "content": _as_shown(_seen(document, seen, where), seen.get("metadata"))}
    elif kind in {"AgentErrorEvent", "UserRejectObservation"}:
        yield {"role": "user", "content": event.get("error") or event.get("rejection_reason") or ""}
    elif kind not in _SILENT_KINDS:
        raise _unknown(document, where, "kind", kind)


def _seen(document: Document, seen: Mapping[str, Any], where: str) -> str:
    """What the model read of an observation: its text, what went wrong, and a screenshot."""
    if not any(key in seen for key in _SEEN):
        raise document.broken(f"{where}.observation", dict(seen), f"one of {', '.join(_SEEN)}")
    given = [key for key in _SEEN if seen.get(key)]
    texts = [read_content(document, seen[given[0]], f"{where}.observation.{given[0]}")] if given else [""]
    failed = seen.get("error")
    named = {key: seen[key] for key in given if key != "error"}
    check_read(document, named, f"{where}.observation", given[:1], texts[0])
    if isinstance(failed, str) and failed not in texts:
        texts.append(failed)
    return "\n".join(text for text in (*texts, "[image]" if seen.get("screenshot_data") else "") if text)


def _unknown(document: Document, where: str, name: str, value: Any) -> UsageError:
    return UsageError(f"{document.name}: `{where}` has the {name} {value!r}, which capvec does not read from OpenHands")


def _model(event: Any) -> Any:
    return _reach(event, "tool_call_metadata", "model_response", "model")


def _reach(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


FORMAT = Format("OpenHands", _looks_like, _read)
