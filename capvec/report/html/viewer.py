"""The trajectories of a run as the viewer reads them: long texts are cut, and what is left out is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.reading import RECORD, ends_of, shown
from capvec.records import Outcome
from capvec.text import counted, visible

LONGEST_TEXT = 4_000
"""Characters of one reply or observation; of a longer one the beginning and the end are kept."""
FULL_AFTER = 20
"""(task, attempt)s in a row that did not fit, after which a page counts as full, and no other trajectory is read."""
LARGEST_DATA = 8_000_000
"""Characters of all trials together, as JSON. About what a phone can open."""


@dataclass(frozen=True)
class Embedded:
    """What goes into the page, and what does not."""

    trials: tuple[dict[str, Any], ...]
    openings: tuple[str, ...]
    """System prompts and instructions that trials point to, each once."""
    cut: int
    """Texts that were cut."""
    absent: int
    """Trials on record without a readable trajectory."""
    too_much: int
    """Trials left out because the page would grow beyond `LARGEST_DATA`."""
    lost: tuple[str, ...] = ()
    """Those of `absent` that were judged, so that they had a trajectory."""

    def to_json(self, tasks: Sequence[str], configs: Sequence[str]) -> dict[str, Any]:
        """For the viewer: names in the plan's order, as the page shows them."""
        named = [trial | {name: visible(trial[name]) for name in ("task", "config")} for trial in self.trials]
        shown = {"tasks": list(map(visible, tasks)), "configs": list(map(visible, configs))}
        return {**shown, "openings": self.openings, "trials": named}

    def in_words(self) -> str:
        """What the page holds and what it leaves out."""
        sentences = [f"{len(self.trials)} trial{'s' if len(self.trials) != 1 else ''} in this page."]
        if self.cut:
            sentences.append(f"{self.cut} texts are longer than {LONGEST_TEXT:,} characters and cut in the middle.")
        if self.too_much:
            sentences.append(f"{self.too_much} trials are left out to keep the page small enough to open.")
        if self.absent:
            sentences.append(f"{self.absent} trials on record have no trajectory file that can be read.")
        if self.cut or self.too_much:
            sentences.append("The run folder has all of them, under trajectories/.")
        return " ".join(sentences)

    def lost_in_words(self, folder: Path) -> tuple[str, ...]:
        """A line for the terminal where trajectories were lost; `folder` has them."""
        if not self.lost:
            return ()
        if not folder.exists():
            return (f"{shown(folder)} is missing: report.html shows no trajectories",)
        lost = counted(len(self.lost), "judged trial")
        first = shown(folder / f"{self.lost[0]}.json")
        return (f"the trajectories of {lost} are missing or cannot be read, {first} first: report.html lacks them",)


@dataclass
class _Reader:
    folder: Path
    openings: dict[str, int] = field(default_factory=dict)
    cut: int = 0

    def read(self, outcome: Outcome) -> dict[str, Any] | None:
        """One trial; None where its file is missing or is not a trajectory."""
        try:
            steps = read_json(self.folder / f"{outcome.trial}.json")["steps"]
            first = next((place for place, step in enumerate(steps) if "llm_call_count" in step), len(steps))
            opening = [step for step in steps[:first] if not step.get("is_copied_context")]
            examples = sum(bool(step.get("is_copied_context")) for step in steps)
            return {
                "task": outcome.task,
                "config": outcome.config,
                "attempt": outcome.attempt,
                "outcome": outcome.outcome,
                "end": outcome.end_reason,
                "error": self._short(outcome.error),
                "opening": [[step["source"], self._opening(step["message"])] for step in opening],
                "examples": examples,
                "steps": list(self._replies(steps[first:])),
            }
        except (UsageError, OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError):
            return None

    def _opening(self, text: str) -> int:
        return self.openings.setdefault(self._short(text), len(self.openings))

    def _replies(self, steps: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Each reply; the first to a later instruction of the task, with that instruction."""
        instruction = ""
        for step in steps:
            if "llm_call_count" in step:
                yield self._step(step) | ({"instruction": self._short(instruction)} if instruction else {})
            instruction = "" if "llm_call_count" in step else step["message"]

    def _step(self, step: Mapping[str, Any]) -> dict[str, Any]:
        extra = step["extra"]
        return {
            "thought": self._short(step.get("reasoning_content") or ""),
            "reply": self._short(step["message"]),
            "observation": self._short(extra["observation"]),
            "parse": extra["parse"]["status"],
            "done": bool(extra["parse"]["done"]),
            "no_cmd": bool(extra["no_cmd"]),
            "tokens": int(step["metrics"]["completion_tokens"]),
            "full": extra["finish_reason"] == "length",
        }

    def _short(self, text: str) -> str:
        if len(text) <= LONGEST_TEXT:
            return text
        self.cut += 1
        half = LONGEST_TEXT // 2
        return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def embed(folder: Path, outcomes: Sequence[Outcome], largest: int = LARGEST_DATA) -> Embedded:
    """Read the trajectories of a run: all configs of a (task, attempt) or none, since half a pair cannot be compared.

    Args:
        folder: the run folder's `trajectories/`.
        outcomes: all on record, in the plan's order.
        largest: characters of JSON.
    """
    reader, kept, size, too_much, in_a_row = _Reader(folder), [], 0, 0, 0
    absent: list[Outcome] = []
    for group in _groups(outcomes):
        if in_a_row == FULL_AFTER:
            missing = [outcome for outcome in group if not _is_whole(folder / f"{outcome.trial}.json")]
            too_much += len(group) - len(missing)
            absent += missing
            continue
        read = [(outcome, reader.read(outcome)) for outcome in group]
        found = [trial for _, trial in read if trial is not None]
        absent += [outcome for outcome, trial in read if trial is None]
        more = len(json.dumps(found))
        if size + more > largest:
            too_much, in_a_row = too_much + len(found), in_a_row + 1
            continue
        size, in_a_row = size + more, 0
        kept += found
    lost = tuple(outcome.trial for outcome in absent if outcome.outcome != "error")
    return Embedded(tuple(kept), tuple(reader.openings), reader.cut, len(absent), too_much, lost)


def _is_whole(file: Path) -> bool:
    """Whether a file is there and ends as a JSON object does, without reading what is between."""
    try:
        first, last = ends_of(file, RECORD, 2)
    except UsageError:
        return False
    return first == b"{" and last.rstrip().endswith(b"}")


def _groups(outcomes: Sequence[Outcome]) -> Iterator[list[Outcome]]:
    """First attempts of all tasks, then second ones."""
    groups: dict[tuple[int, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.attempt, outcome.task), []).append(outcome)
    yield from (groups[key] for key in sorted(groups, key=lambda key: key[0]))
