"""How many replies of a run did not parse, or carried no command: as far as its source lets us count.

capvec counts while it drives the agent. For what others recorded there are three ways, and where none applies the
counts stay unknown, with the reason:

- the source counted (`parse_fail`, `no_cmd`, or what `--trace-fields` calls them);
- the source names one of capvec's protocols: its parser reads the replies again;
- Harbor's `terminus-2`, which records what its parser said (`harbor/agents/terminus_2/terminus_2.py`, read at 0.26.0).

The other agents of Harbor do not say. Those with native tool calls have their calls parsed by the model's server, which
leaves no trace of a call it refused, and some of them write one reply as several steps (`codex`: a message, then a
call), so that a step without a call is no reply without a command. `mini-swe-agent` drops the reply that its parser
refused from its record and keeps the complaint alone, in words that its configuration chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from capvec.agent.protocols import PROTOCOLS
from capvec.traces.document import Document

_TERMINUS_COMPLAINT = "Previous response had parsing errors:"


@dataclass(frozen=True)
class ReplyCounts:
    """None where it cannot be known."""

    parse_fail: int | None
    no_cmd: int | None
    why: str = ""
    """Why one of them is None."""

    def known_first(self, parse_fail: int | None, no_cmd: int | None) -> ReplyCounts:
        """With what the source itself counted in place of what was derived."""
        parse_fail = self.parse_fail if parse_fail is None else parse_fail
        no_cmd = self.no_cmd if no_cmd is None else no_cmd
        return ReplyCounts(parse_fail, no_cmd, self.why if None in {parse_fail, no_cmd} else "")


def by_protocol(name: str | None, replies: Sequence[str]) -> ReplyCounts:
    """Counted by running the parser of one of capvec's protocols over the replies, if `name` is one of theirs."""
    if name is None:
        return ReplyCounts(None, None, "the source neither counts nor names a protocol")
    if name not in PROTOCOLS:
        return ReplyCounts(None, None, f"the source does not count, and its protocol {name!r} is none of capvec's")
    parses = [PROTOCOLS[name].parse(reply) for reply in replies]
    return ReplyCounts(sum(parse.status == "failed" for parse in parses), sum(parse.no_cmd for parse in parses))


def by_terminus_2(document: Document, replies: Sequence[dict[str, Any]], parser: Any) -> ReplyCounts:
    """Counted from the steps of a `terminus-2` trajectory.

    A step whose observation is the parser's complaint did not parse. One that parsed has its commands and
    `mark_task_complete` as tool calls, so a step with neither carried no command. With Harbor's option `raw_content`
    there are no tool calls at all, and the message is the reply itself: the JSON one is read again by `terminus-json`,
    and of the XML one the commands stay unknown.

    Args:
        document: for messages.
        replies: the agent's own steps.
        parser: `agent.extra.parser`, `json` or `xml`.
    """
    failed = [_complained(document, step) for step in replies]
    parsed = [step for step, complaint in zip(replies, failed, strict=True) if not complaint]
    silent = [step for step in parsed if not step.get("tool_calls")]
    if parser != "json" and silent and len(silent) == len(parsed):
        return ReplyCounts(sum(failed), None, f"terminus-2 recorded raw replies for its parser {parser!r}")
    reread = [PROTOCOLS["terminus-json"].parse(document.text(step["message"], "steps[].message")) for step in silent]
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
