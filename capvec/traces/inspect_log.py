"""Turns a log of Inspect, `.eval` or JSON, into a trace for each sample and epoch, through Inspect's own library."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.counts import ReplyCounts
from capvec.traces.document import Archive, Document, NotATrace
from capvec.traces.fields import look_up
from capvec.traces.format import Format
from capvec.traces.messages import read_messages

_GRADES = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Inspect's grades in letters (correct, partial, incorrect, no answer) and its words for them, as its metrics count."""


def _looks_like(value: Any, _named: Mapping[str, str]) -> bool:
    if isinstance(value, Archive):
        return "header.json" in value.members or "_journal/start.json" in value.members
    return isinstance(value, dict) and isinstance(value.get("eval"), dict) and {"status", "version"} <= value.keys()


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    log = read_log(document)
    if not log.samples:
        raise NotATrace("a log of Inspect without samples")
    for sample in log.samples:
        name = f"{log.eval.task}/{sample.id}"
        if (choices := len(sample.output.choices)) > 1:
            raise UsageError(
                f"{document.name}: `{name}.output.choices` has {choices} choices, of which the messages have one; "
                f"expected a log with num_choices of 1"
            )
        messages = read_messages(document, [_entry(message) for message in sample.messages], f"{name}.messages")
        counts = counts_of(sample)
        yield Trace(
            id=f"{name}/{sample.epoch}",
            task=name,
            model=log.eval.model,
            messages=acceptable(messages),
            reward=score_of(document, sample, named),
            steps=sum(message["role"] == "assistant" for message in messages),
            parse_fail=counts.parse_fail,
            no_cmd=counts.no_cmd,
            uncounted=counts.why,
        )


def counts_of(sample: Any) -> ReplyCounts:
    """Replies of a sample that could not be parsed or carried no call, where the model had tools in each of them.

    A reply with a call whose arguments Inspect could not read is a `parse_fail`. One without a call is a `no_cmd` if
    the solver asked again after it, or if a tool `submit` was there to end with; else it is the answer.
    """
    replies = [message for message in sample.messages if message.role == "assistant"]
    asked = {
        event.output.message.id: {tool.name for tool in event.tools}
        for event in sample.events or ()
        if event.event == "model" and event.output.choices
    }
    offered = [asked.get(reply.id, set()) for reply in replies]
    if not replies or not all(offered):
        return ReplyCounts(None, None, "a log of Inspect shows these counts only where every reply had tools to call")
    failed = [any(call.parse_error for call in reply.tool_calls or ()) for reply in replies]
    silent = [not reply.tool_calls for reply in replies]
    answered = silent[-1] and "submit" not in offered[-1]
    return ReplyCounts(sum(failed), sum(silent) - answered)


def read_log(document: Document) -> Any:
    """The log of a document, as Inspect's library reads it.

    Raises:
        UsageError: the library is not installed, or cannot read the log.
    """
    try:
        from inspect_ai.log import read_eval_log  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(
            f"{document.name}: is a log of Inspect, which is read through Inspect's own library ({error}); install it "
            f"with `pip install 'capvec[inspect]'`"
        ) from error
    kind = "eval" if isinstance(document.value, Archive) else "json"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library, about its own older logs
            return read_eval_log(str(document.path), format=kind, resolve_attachments=True)
    except Exception as error:  # whatever its parsers raise on what is no log
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise UsageError(
            f"{document.name}: Inspect's library cannot read this log ({reason}); expected a log that is "
            f"complete and no newer than the library: try a newer inspect_ai"
        ) from error


def _entry(message: Any) -> dict[str, Any]:
    """A message as an object. What a failed tool gave is its error, which stands beside the content.

    A call has more than the model wrote: how a person is shown it, and what of it did not parse.
    """
    entry: dict[str, Any] = message.model_dump(exclude_none=True)
    for call in entry.get("tool_calls") or ():
        call.pop("view", None), call.pop("parse_error", None)
    if failed := entry.pop("error", None):
        content = entry.get("content") or []
        texts = [content] if isinstance(content, str) else content
        entry["content"] = texts if failed["message"] in texts else [*texts, failed["message"]]
    return entry


def score_of(document: Document, sample: Any, named: Mapping[str, str]) -> float | None:
    """The score of a sample by the scorer that the user names, or else by the first; None for one without a score.

    Raises:
        UsageError: the score is no number, nor one of Inspect's grades.
    """
    scores = {name: score.value for name, score in (sample.scores or {}).items()}
    if not scores:
        return None
    scorer, value = look_up(scores, "reward", named)
    if value is None:
        scorer, value = next(iter(scores.items()))
    key = f"scores.{scorer} of sample {sample.id}"
    if isinstance(value, dict):
        scorer, value = look_up(value, "reward", named)
        return document.reward(value, f"{key}.{scorer}")
    if isinstance(value, str) and (grade := _GRADES.get(value, _GRADES.get(value.lower()))) is not None:
        return grade
    unscored = isinstance(value, float) and math.isnan(value)  # what Inspect writes for it
    return None if unscored else document.reward(value, key)


FORMAT = Format("Inspect", _looks_like, _read)
