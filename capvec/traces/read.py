"""Finds and reads the traces in a folder or a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from capvec.errors import UsageError
from capvec.reading import shown
from capvec.records import Trace
from capvec.traces import atif
from capvec.traces.conversation import check_conversation
from capvec.traces.copies import Copies
from capvec.traces.document import Document, NotATrace
from capvec.traces.fields import FieldNames
from capvec.traces.format import Format
from capvec.traces.formats import FORMATS
from capvec.traces.found import Found, PassedOver
from capvec.traces.harbor import (
    cut_runs,
    embedded_subagents,
    own_records,
    subagent_files,
    unnamed_rewards,
    whole_runs,
    with_result,
)
from capvec.traces.swe_bench import Run, with_verdicts

_EXPECTED = f"a file of one of the formats {', '.join(known.name for known in FORMATS)}, or a folder of these"

_SUBAGENTS = "trajectories of subagents"


def read_traces(
    path: Path, fields: Mapping[str, str] | None = None, say: Callable[[str], None] | None = None
) -> tuple[Trace, ...]:
    """Read every trace of a folder, at any depth, or of a file: JSON, JSON lines, or an archive of Inspect.

    The formats are those of `formats.py`, known by the content of a file and not by its name. What holds no trace is
    passed over and said: reports, results, a run without a reply, trajectories of subagents, copies of a file. A run
    that Harbor wrote in parts is one trace: the conversation of the last part, with the steps and counts of all.

    The reward of a trace is, in this order: capvec's own (None if the trial ended in `error`), the one of its file, the
    one in Harbor's `result.json` or in a report of SWE-bench beside or above the file, None. `steps` counts the model's
    replies without copied context. `parse_fail` and `no_cmd` are None if they are unknown, and `uncounted` says why.

    Args:
        path: folder or file.
        fields: field → its name in the files, in addition to the names in `TRACE_FIELDS`.
        say: takes a line for each reason for which something was passed over, or a reward is unknown.

    Returns:
        The traces in the order of paths and lines, with unique ids.

    Raises:
        UsageError: the path does not exist or holds no trace, no trace has a field of `fields`, or a trace is broken;
            the message names file, line and key. A trace is broken as well if it is empty, if the assistant speaks
            first, if a text of it has no UTF-8, or if a part of a message has a type that is not read.
    """
    try:
        return _read_all(path, fields, (lambda line: say(shown(line))) if say is not None else None)
    except UsageError as error:  # of names and texts from outside, which stay on its line
        raise UsageError(shown(str(error))) from error


def _read_all(path: Path, fields: Mapping[str, str] | None, say: Callable[[str], None] | None) -> tuple[Trace, ...]:
    check_traces(path)
    names, passed_over, unrewarded = FieldNames(fields or {}), PassedOver(path), PassedOver(path)
    traces = tuple(_with_unique_ids([*_traces(Found(path, names, passed_over, unrewarded))]))
    reasons = passed_over.lines()
    if not traces:
        raise UsageError(
            f"--traces {path}: holds no trace: {'; '.join(reasons) or 'it is empty'}; expected {_EXPECTED}"
        )
    _check_found(path, names)
    if say is not None:
        for reason in reasons:
            say(f"--traces {path}: passed over: {reason}")
        for rewards in unrewarded.lines():
            say(f"--traces {path}: unknown reward: {rewards}; choose one with --trace-fields reward=NAME")
    return traces


def check_traces(path: Path) -> None:
    """Check the path of traces without reading them.

    Raises:
        UsageError: the path does not exist.
    """
    if not path.exists():
        raise UsageError(f"--traces {shown(path)}: no such file or folder; expected {_EXPECTED}")


def _check_found(path: Path, names: FieldNames) -> None:
    """Check that some trace had each field that the user named."""
    for field, name in names.items():
        if field not in names.found:
            raise UsageError(
                f"--trace-fields {field}={name}: no trace of {path} has it; expected the name of a field beside the "
                f"messages, in which a dot reaches into an object"
            )


def _traces(found: Found) -> Iterator[Trace]:
    """The traces, those of agents' own formats with the verdicts of SWE-bench."""
    read, copies = [*_ungraded(found)], Copies()
    runs = [Run(trace, document.path) for trace, document, known in read if known is not atif.FORMAT]
    graded = with_verdicts(runs, found.reports)
    for trace, document, known in read:
        judged = trace if known is atif.FORMAT else next(graded)
        if copies.has(judged, document):
            found.passed_over.add("the same run as in another file", document.name)
            continue
        if judged.reward is None and (rewards := unnamed_rewards(document)):
            found.unrewarded.add(f"Harbor's verifier gave {', '.join(rewards)}", document.name)
        yield judged


def _ungraded(found: Found) -> Iterator[tuple[Trace, Document, Format]]:
    documents = [*found.documents()]
    trajectories = [document for document, known in documents if known is atif.FORMAT]
    others = [document for document, known in documents if known is not atif.FORMAT]
    left_out = {
        **dict.fromkeys(subagent_files(trajectories), _SUBAGENTS),
        **dict.fromkeys(own_records(trajectories, others), "an agent's own record of a run that is read as ATIF"),
    }
    for document in trajectories:
        for number in range(embedded_subagents(document)):
            found.passed_over.add(_SUBAGENTS, f"{document.name} (subagent {number + 1})")
    runs = {parts[-1].name: parts for parts in whole_runs(trajectories)}
    cut = cut_runs(trajectories, runs.values())
    for document, known in documents:
        if why := left_out.get(document.path) or cut.get(document.name):
            found.passed_over.add(why, document.name)
        elif known is not atif.FORMAT or document.name in runs:
            yield from _read(runs.get(document.name, (document,)), known, found)


def _read(parts: Sequence[Document], known: Format, found: Found) -> Iterator[tuple[Trace, Document, Format]]:
    """The traces of one document, or of one run in parts."""
    last = parts[-1]
    try:
        read = [trace for part in parts for trace in known.read(part, found.fields)]
    except NotATrace as reason:
        found.passed_over.add(str(reason), last.name)
        return
    except RecursionError as error:
        raise UsageError(f"{last.name}: is nested too deeply to be read, expected a run") from error
    for trace in read if len(parts) == 1 else [_joined(read)]:
        judged = trace
        if known is not atif.FORMAT:
            judged = with_result(trace, last, found.fields)
        try:
            check_conversation(judged, last.name)
        except NotATrace as reason:
            found.passed_over.add(str(reason), last.name if len(read) == 1 else f"{last.name} ({trace.id})")
        else:
            yield judged, last, known


def _joined(parts: Sequence[Trace]) -> Trace:
    """One run from its parts, each of which opens with what the model kept of the parts before."""
    return replace(
        parts[-1],
        steps=sum(part.steps for part in parts),
        parse_fail=total([part.parse_fail for part in parts]),
        no_cmd=total([part.no_cmd for part in parts]),
    )


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of counts; None where one is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _with_unique_ids(traces: Sequence[Trace]) -> Iterator[Trace]:
    """Trajectories of other agents may share one session id: the second gets `#2`, or the next number that is free."""
    taken = {trace.id for trace in traces}
    seen: Counter[str] = Counter()
    for trace in traces:
        seen[trace.id] += 1
        if seen[trace.id] == 1:
            yield trace
            continue
        while (name := f"{trace.id}#{seen[trace.id]}") in taken:
            seen[trace.id] += 1
        taken.add(name)
        yield replace(trace, id=name)
