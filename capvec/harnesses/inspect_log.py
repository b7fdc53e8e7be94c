"""Logs of Inspect: a sample is a task, an epoch an attempt, and the model a config."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from capvec.errors import UsageError
from capvec.harnesses.source import UNKNOWN_OUTCOME, Reading, Scale, Source, Trial, judged, without_provider
from capvec.text import enumerated
from capvec.traces.document import Document
from capvec.traces.fields import FieldNames
from capvec.traces.inspect_library import InspectLog, read_log
from capvec.traces.inspect_log import counts_of, score_of, unnamed_scores

_UNFINISHED = "the log says that the evaluation did not finish ({})"


def read_inspect(path: Path, documents: Sequence[Document], reading: Reading) -> Source:
    """The trials of one or several logs. A sample that ended in an error is one, and so is one without a score.

    Raises:
        UsageError: Inspect's library is missing or cannot read a log, a score is none, or a sample has several of which
            none is named.
    """
    logs = [(document, read_log(document)) for document in documents]
    names = without_provider(log.model for _, log in logs)
    named = FieldNames({"reward": reading.reward} if reading.reward is not None else {})
    trials = tuple(trial for document, log in logs for trial in _trials(document, log, names, reading, named))
    notes = tuple(
        f"{document.name}: {_UNFINISHED.format(log.status)}." for document, log in logs if log.status != "success"
    )
    files = tuple(document.path for document in documents)
    scale = Scale.of(reading.reward or "the score", (trial.reward for trial in trials))
    scorers = dict.fromkeys(scorer for _, log in logs for sample in log.samples for scorer in sample.scores)
    rewards = *scorers, *(named[field] for field in named.found)
    return Source(path, "Inspect", trials, errors_apart=True, notes=notes, files=files, scale=scale, rewards=rewards)


def _trials(
    document: Document, log: InspectLog, names: dict[str, str], reading: Reading, named: FieldNames
) -> Iterator[Trial]:
    for sample in log.samples:
        error = "" if sample.error is None else sample.error or UNKNOWN_OUTCOME
        if not error and (several := unnamed_scores(sample, named)):
            raise UsageError(
                f"{document.name}: sample {sample.id} has the scores {enumerated(several)}; say which counts with "
                "--reward NAME"
            )
        reward = None if error else score_of(document, sample, named)
        outcome, why = judged(reward, reading, error)
        replies, counts = sum(message["role"] == "assistant" for message in sample.messages), counts_of(sample)
        yield Trial(
            task=f"{log.task}/{sample.id}",
            config=names[log.model],
            outcome=outcome,
            attempt=sample.epoch,
            reward=reward,
            steps=replies,
            parse_fail=counts.parse_fail,
            no_cmd=counts.no_cmd,
            error=why,
        )
