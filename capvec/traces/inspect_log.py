"""Turns a log of Inspect, `.eval` or JSON, into a trace for each sample and epoch, through Inspect's own library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.counts import ReplyCounts
from capvec.traces.document import Archive, Document, NotATrace
from capvec.traces.fields import look_up
from capvec.traces.format import Format
from capvec.traces.inspect_library import InspectSample, read_log
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
        name = f"{log.task}/{sample.id}"
        if sample.choices > 1:
            raise UsageError(
                f"{document.name}: `{name}.output.choices` has {sample.choices} choices, of which the messages have "
                f"one; expected a log with num_choices of 1"
            )
        messages = read_messages(document, [_entry(message) for message in sample.messages], f"{name}.messages")
        counts = counts_of(sample)
        yield Trace(
            id=f"{name}/{sample.epoch}",
            task=name,
            model=log.model,
            messages=acceptable(messages),
            reward=score_of(document, sample, named),
            steps=sum(message["role"] == "assistant" for message in messages),
            parse_fail=counts.parse_fail,
            no_cmd=counts.no_cmd,
            uncounted=counts.why,
        )


def counts_of(sample: InspectSample) -> ReplyCounts:
    """Replies of a sample that could not be parsed or carried no call, where the model had tools in each of them.

    A reply with a call whose arguments Inspect could not read is a `parse_fail`. One without a call is a `no_cmd` if
    the solver asked again after it, or if a tool `submit` was there to end with; else it is the answer.
    """
    replies = [message for message in sample.messages if message["role"] == "assistant"]
    offered = [sample.offered.get(str(reply.get("id")), ()) for reply in replies]
    if not replies or not all(offered):
        return ReplyCounts(None, None, "a log of Inspect shows these counts only where every reply had tools to call")
    calls = [reply.get("tool_calls") or () for reply in replies]
    failed = [any(call.get("parse_error") for call in made) for made in calls]
    silent = [not made for made in calls]
    answered = silent[-1] and "submit" not in offered[-1]
    return ReplyCounts(sum(failed), sum(silent) - answered)


def _entry(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as readers take it. What a failed tool gave is its error, which stands beside the content.

    A call has more than the model wrote: how a person is shown it, and what of it did not parse.
    """
    entry = dict(message)
    if calls := entry.get("tool_calls"):
        shown = ("view", "parse_error")
        entry["tool_calls"] = [{key: one for key, one in call.items() if key not in shown} for call in calls]
    if failed := entry.pop("error", None):
        content = entry.get("content") or []
        texts = [content] if isinstance(content, str) else content
        entry["content"] = texts if failed["message"] in texts else [*texts, failed["message"]]
    return entry


def score_of(document: Document, sample: InspectSample, named: Mapping[str, str]) -> float | None:
    """The score of a sample by the scorer that the user names, or else by the first; None for one without a score.

    Raises:
        UsageError: the score is no number, nor one of Inspect's grades.
    """
    if not (scores := sample.scores):
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


def unnamed_scores(sample: InspectSample, named: Mapping[str, str]) -> list[str]:
    """The names of a sample's scores, where there are several and neither the user nor convention says which counts."""
    scorer, value = look_up(sample.scores, "reward", named)
    if value is None and len(sample.scores) > 1:
        return sorted(sample.scores)
    if value is None:
        scorer, value = next(iter(sample.scores.items()), ("", None))
    if isinstance(value, dict) and look_up(value, "reward", named)[1] is None:
        return [f"{scorer}.{name}" for name in sorted(value)]
    return []


FORMAT = Format("Inspect", _looks_like, _read)
