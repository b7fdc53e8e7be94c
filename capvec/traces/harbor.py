"""Harbor's layout of a trial's folder, as of Harbor 0.26.0 and its RFC 0001.

`<trial>/result.json` holds the task's name and the verifier's rewards, and `<trial>/agent/trajectory.json` the run. A
run whose context was summarised has more files there: trajectories of the subagents that wrote the summary, to which
the run refers, and, with the option `linear_history`, parts of the run (`trajectory.cont-1.json`, …), each of which
refers to the next.

A trial of several steps has `steps/<step>/agent/trajectory.json` for each, and what the verifier said of each under
`step_results` of the one `result.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import read_json
from capvec.records import Trace
from capvec.traces.document import Document, first_name
from capvec.traces.fields import look_up


def trial_result(document: Document) -> dict[str, Any]:
    """Harbor's `result.json` of the trial of a document; empty if there is none.

    For a step of a trial of several, `verifier_result` is the one of the step.

    Raises:
        UsageError: the file is not JSON.
    """
    path = document.path
    # The lines of a file are many trials, for which no single result holds.
    for folder in _trial_folders(path) if document.alone else ():
        file = folder / "result.json"
        if file.is_file() and file != path:
            try:
                result = read_json(file, whole=True)
            except UsageError as error:
                raise UsageError(f"{error}; expected Harbor's result of a trial") from error
            # A job has a result.json too, without these keys.
            if isinstance(result, dict) and ("verifier_result" in result or "task_name" in result):
                return _of_step(document, result, path.relative_to(folder).parts)
    return {}


def _trial_folders(path: Path) -> list[Path]:
    """The folders that may be that of a file's trial, from the nearest."""
    near = [*path.parents[:4]]
    return near[:2] + [trial for step, trial in pairwise(near[1:]) if step.name == "steps"]


def _of_step(document: Document, result: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """The result of the step in whose folder a file is; that of the trial if it is in none."""
    if parts[0] != "steps":
        return result
    for step in document.objects(result.get("step_results"), "step_results (result.json)"):
        if step.get("step_name") == parts[1]:
            return {**result, "verifier_result": step.get("verifier_result")}
    return result


def verified_reward(document: Document, result: Mapping[str, Any], named: Mapping[str, str]) -> float | None:
    """The verifier's reward in Harbor's result of a trial.

    Raises:
        UsageError: the reward is not a number; the message names the key.
    """
    key, value = look_up(rewards_of(document, result), "reward", named)
    return document.reward(value, f"verifier_result.rewards.{key} (result.json)")


def unnamed_rewards(document: Document) -> list[str]:
    """The names of the verifier's rewards of a trial."""
    return sorted(rewards_of(document, trial_result(document)))


def rewards_of(document: Document, result: Mapping[str, Any]) -> dict[str, Any]:
    """The verifier's rewards in Harbor's result of a trial, by name."""
    verified = document.optional(result.get("verifier_result"), "verifier_result (result.json)", dict) or {}
    return document.optional(verified.get("rewards"), "verifier_result.rewards (result.json)", dict) or {}


def with_result(trace: Trace, document: Document, named: Mapping[str, str]) -> Trace:
    """A trace from an agent's own record of one of Harbor's trials, with the task and the reward of the trial."""
    result = trial_result(document)
    reward = verified_reward(document, result, named) if trace.reward is None else trace.reward
    return replace(trace, task=first_name([look_up(result, "task", named)[1]], trace.task), reward=reward)


def whole_runs(documents: Sequence[Document]) -> Iterator[tuple[Document, ...]]:
    """Each run as its parts in order, usually one. Files of subagents are left out: they are not runs of a task."""
    by_path = {document.path: document for document in documents if document.alone}
    inner = subagent_files(documents)
    earlier = {after: document for document in documents if (after := _continuation(document)) and after in by_path}
    continued = {document.path for document in earlier.values()}
    for document in documents:
        if document.path in inner or document.path in continued:
            continue
        parts = [document]
        while parts[0].path in earlier:
            parts.insert(0, earlier[parts[0].path])
        yield tuple(parts)


def cut_runs(documents: Sequence[Document], runs: Iterable[Sequence[Document]]) -> dict[str, str]:
    """Name of a document → why it is no trace, for those whose run goes on in a file that does not follow it."""
    followed = {part.name for parts in runs for part in parts[:-1]}
    return {
        document.name: f"a run whose next part ({after.name}) was not found"
        for document in documents
        if (after := _continuation(document)) is not None and document.name not in followed
    }


def subagent_files(documents: Sequence[Document]) -> set[Path]:
    """The files of subagents that runs refer to."""
    return {path for document in documents for path in _subagents(document)}


def embedded_subagents(document: Document) -> int:
    """How many trajectories of subagents a run holds in its own file."""
    inner = document.value.get("subagent_trajectories") if isinstance(document.value, dict) else None
    return len(inner) if isinstance(inner, list) else 0


def own_records(trajectories: Sequence[Document], others: Sequence[Document]) -> set[Path]:
    """The files of `others` in which an agent recorded, in its own format, a run that Harbor kept as ATIF as well."""
    kept = {document.path.parent for document in trajectories if document.alone and trial_result(document)}
    return {document.path for document in others if not kept.isdisjoint(document.path.parents)}


def _continuation(document: Document) -> Path | None:
    name = document.value.get("continued_trajectory_ref") if isinstance(document.value, dict) else None
    return document.path.parent / name if isinstance(name, str) else None


def _subagents(document: Document) -> Iterator[Path]:
    """Files of subagents that a trajectory refers to (`subagent_trajectory_ref` of its observations)."""
    steps = document.value.get("steps") if isinstance(document.value, dict) else None
    for step in steps if isinstance(steps, list) else []:
        observation = step.get("observation") if isinstance(step, dict) else None
        results = observation.get("results") if isinstance(observation, dict) else None
        for result in results if isinstance(results, list) else []:
            references = result.get("subagent_trajectory_ref") if isinstance(result, dict) else None
            for reference in references if isinstance(references, list) else []:
                if isinstance(reference, dict) and isinstance(name := reference.get("trajectory_path"), str):
                    yield document.path.parent / name
