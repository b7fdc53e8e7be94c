"""Samples that lm-evaluation-harness logs (`--log_samples`): a document is a task, the folder of a model a config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.harnesses.source import Reading, Scale, Source, Trial, judged
from capvec.text import enumerated
from capvec.traces.document import Document

_HELD = {"doc_id", "doc_hash", "filtered_resps"}


def is_sample(value: Any) -> bool:
    """Whether a value is a line of such a file."""
    return isinstance(value, dict) and value.keys() >= _HELD


def read_lm_eval(path: Path, files: Mapping[Path, Sequence[Any]], reading: Reading) -> Source:
    """The trials of the files of samples.

    Args:
        path: that the user named.
        files: file → its lines.
        reading: `reward` names the metric, as `acc` or, with a filter, `exact_match,strict-match`. A file without it
            that has but one metric is read by that one.

    Raises:
        UsageError: a file has several metrics or filters of which none is named, or a metric is no number.
    """
    metrics = {file: _metric(file, lines, reading.reward) for file, lines in files.items()}
    trials = tuple(trial for file, lines in files.items() for trial in _trials(file, lines, metrics[file], reading))
    used = dict.fromkeys(f"{_written(metrics[file])} of {_task(file)}" for file in files)
    notes = (f"Metrics: {', '.join(used)}.",)
    counted, asked = tuple(dict.fromkeys(map(_written, metrics.values()))), reading.reward
    rewards = counted if asked is None or not any(_fits(one, asked) for one in metrics.values()) else (*counted, asked)
    scale = Scale.of(enumerated(counted), (one.reward for one in trials))
    return Source(path, "lm-evaluation-harness", trials, notes=notes, files=tuple(files), scale=scale, rewards=rewards)


def _trials(file: Path, lines: Sequence[Any], counts: tuple[str, str], reading: Reading) -> Iterator[Trial]:
    task = _task(file)
    metric, chosen = counts
    for number, line in enumerate(lines, 1):
        if line.get("filter", "none") != chosen:
            continue
        document = Document(f"{file}, line {number}", line, file)
        reward = document.reward(line.get(metric), metric)
        outcome, error = judged(reward, reading)
        yield Trial(f"{task}/{line['doc_id']}", file.parent.name, outcome, reward=reward, error=error)


def _task(file: Path) -> str:
    """`capitals`, from `samples_capitals_2026-11-28T01-36-12.934734.jsonl`."""
    name = file.stem.removeprefix("samples_")
    head, _, date = name.rpartition("_")
    return head if date[:4].isdecimal() and "T" in date else name


def _metric(file: Path, lines: Sequence[Any], asked: str | None) -> tuple[str, str]:
    """The metric that counts, and the filter that it is of."""
    found = dict.fromkeys(
        (metric, str(line.get("filter", "none"))) for line in lines for metric in _metrics(line, file)
    )
    fitting = [pair for pair in found if asked is None or _fits(pair, asked)]
    if not fitting and len(found) == 1:
        fitting = [*found]
    if len(fitting) == 1:
        return fitting[0]
    written = enumerated([*map(_written, found)])
    got = (
        "which of its metrics counts is not said" if asked is None else f"--reward {asked} fits {len(fitting)} of them"
    )
    raise UsageError(
        f"{file}: {got}; it has {written}; expected one of these as --reward METRIC or --reward METRIC,FILTER"
    )


def _fits(metric: tuple[str, str], asked: str) -> bool:
    name, _, chosen = asked.partition(",")
    return metric[0] == name and chosen in ("", metric[1])


def _written(metric: tuple[str, str]) -> str:
    return metric[0] if metric[1] == "none" else ",".join(metric)


def _metrics(line: Mapping[str, Any], file: Path) -> list[str]:
    """The metrics of a line; files of earlier versions do not list them, and hold them beside the rest."""
    listed = line.get("metrics")
    if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
        return listed
    known = ("acc", "acc_norm", "exact_match", "em", "f1", "pass@1")
    if found := [name for name in known if name in line]:
        return found
    raise UsageError(f"{file}: names no metric of its samples; expected a file that lm-eval's --log_samples wrote")
