"""Harbor's layout of a trial's folder, as of Harbor 0.26.0 and its RFC 0001.

`<trial>/result.json` holds the task's name and the verifier's rewards, and `<trial>/agent/trajectory.json` the run. A
run whose context was summarised has more files there: trajectories of the subagents that wrote the summary, to which
the run refers, and, with the option `linear_history`, parts of the run (`trajectory.cont-1.json`, …), each of which
refers to the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.traces.document import Document


def trial_result(path: Path) -> dict[str, Any]:
    """Harbor's `result.json` of the trial of a trajectory; empty if there is none.

    Raises:
        UsageError: the file is not JSON.
    """
    # The lines of a JSONL are many trials, for which no single result holds.
    for folder in () if path.suffix == ".jsonl" else (path.parent, path.parent.parent):
        file = folder / "result.json"
        if file.is_file() and file != path:
            try:
                result = json.loads(file.read_bytes())
            except ValueError as error:
                raise UsageError(f"{file}: not JSON ({error}); expected Harbor's result of a trial") from error
            # A job has a result.json too, without these keys.
            if isinstance(result, dict) and ("verifier_result" in result or "task_name" in result):
                return result
    return {}


def whole_runs(documents: Sequence[Document]) -> Iterator[tuple[Document, ...]]:
    """Each run as its parts in order, usually one. Files of subagents are left out: they are not runs of a task."""
    by_path = {document.path: document for document in documents if document.path.suffix == ".json"}
    inner = {path for document in documents for path in _subagents(document)}
    earlier = {after: document for document in documents if (after := _continuation(document)) and after in by_path}
    continued = {document.path for document in earlier.values()}
    for document in documents:
        if document.path in inner or document.path in continued:
            continue
        parts = [document]
        while parts[0].path in earlier:
            parts.insert(0, earlier[parts[0].path])
        yield tuple(parts)


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
