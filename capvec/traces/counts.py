"""Counts the replies of a recorded run that did not parse or carried no command.

capvec counts while it drives the agent. For the records of others there are three sources. If none applies, the counts
are unknown, and a reason is given:

- the record has the counts (`parse_fail`, `no_cmd`, or other names given by `--trace-fields`);
- the record names one of capvec's protocols, whose parser then reads the replies again;
- the agent is Harbor's `terminus-2`, which records its parser's messages (`harbor/agents/terminus_2/terminus_2.py` of
  Harbor 0.26.0).

Harbor's other agents do not record them. Native tool calls are parsed by the model's server, which leaves no trace of
a call that it refused. Some of these agents write one reply as several steps (`codex`: a message, then a call), so
that a step without a call is not a reply without a command. `mini-swe-agent` drops a reply that its parser refused and
keeps only the complaint, whose wording its configuration sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capvec.agent.protocols import PROTOCOLS
from capvec.traces.document import Document
from capvec.traces.messages import read_content

_TERMINUS_COMPLAINT = "Previous response had parsing errors:"


@dataclass(frozen=True)
class ReplyCounts:
    """The two counts of a run; None if a count is unknown."""

    parse_fail: int | None
    no_cmd: int | None
    why: str = ""
    """Why a count is unknown."""

    def known_first(self, parse_fail: int | None, no_cmd: int | None) -> ReplyCounts:
        """These counts, replaced by those of the source where it has them."""
        parse_fail = self.parse_fail if parse_fail is None else parse_fail
        no_cmd = self.no_cmd if no_cmd is None else no_cmd
        return ReplyCounts(parse_fail, no_cmd, self.why if None in {parse_fail, no_cmd} else "")


def by_protocol(name: str | None, replies: Sequence[str]) -> ReplyCounts:
    """Count with the parser of the protocol `name`; the counts are unknown if it is not one of capvec's."""
    if name is None:
        return ReplyCounts(None, None, "the source has no counts and names no protocol")
    if name not in PROTOCOLS:
        return ReplyCounts(None, None, f"the source has no counts, and capvec does not know its protocol {name!r}")
    parses = [PROTOCOLS[name].parse(reply) for reply in replies]
    return ReplyCounts(sum(parse.status == "failed" for parse in parses), sum(parse.no_cmd for parse in parses))


def by_terminus_2(document: Document, replies: Sequence[dict[str, Any]], parser: Any) -> ReplyCounts:
    """Count from the steps of a `terminus-2` trajectory.

    A step whose observation is the parser's complaint did not parse. A step that parsed has its commands and
    `mark_task_complete` as tool calls, so one with neither carried no command. With Harbor's option `raw_content` there
    are no tool calls, and the message is the reply itself: JSON is read again by `terminus-json`, while the commands in
    XML stay unknown.
    """
    failed = [_complained(document, step) for step in replies]
    parsed = [step for step, complaint in zip(replies, failed, strict=True) if not complaint]
    silent = [step for step in parsed if not step.get("tool_calls")]
    if parser != "json" and silent and len(silent) == len(parsed):
        return ReplyCounts(sum(failed), None, f"terminus-2 recorded raw replies for its parser {parser!r}")
    reread = [
        PROTOCOLS["terminus-json"].parse(read_content(document, step["message"], "steps[].message")) for step in silent
    ]
    return ReplyCounts(sum(failed), sum(not parse.commands and not parse.done for parse in reread))


def _complained(document: Document, step: dict[str, Any]) -> bool:
    observation = document.optional(step.get("observation"), "steps[].observation", dict) or {}
    results = document.optional(observation.get("results"), "steps[].observation.results", list) or []
    return any(
        str(document.typed(result, "steps[].observation.results[]", dict).get("content")).startswith(
            _TERMINUS_COMPLAINT
        )
        for result in results
    )
