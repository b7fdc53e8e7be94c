"""Harbor's job folders: one result.json for each trial, whose agent and model are its config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.harnesses.source import Reading, Scale, Source, Trial, judged, without_provider
from capvec.parsing import read_json
from capvec.text import counted, enumerated
from capvec.traces.document import Document, first_name
from capvec.traces.fields import FieldNames
from capvec.traces.harbor import rewards_of, verified_reward
from capvec.traces.read import read_traces, total

_OF_AGENTS = frozenset({"AgentTimeoutError", "NonZeroAgentExitCodeError", "ContextWindowExceededError"})
"""Exceptions that are the agent's own failure, for results without a policy beside them."""


def read_harbor(path: Path, files: Sequence[Path], reading: Reading) -> Source | None:
    """The trials of a job, of several jobs, or of one trial; None where there are none.

    In a folder only the files called `result.json` are trials; a file that the user named is one by what it holds.

    A trial that ended in an exception is an error, unless Harbor takes the exception for the agent's own failure: it
    then holds the reward valid and would not run the trial again, as after the agent's time ran out.

    Raises:
        UsageError: a result is broken, or has several rewards of which none is named.
    """
    candidates = [file for file in files if file.name == "result.json" or file == path]
    results = [(file, value) for file in candidates if is_trial(value := read_json(file))]
    if not results:
        return None
    labels = _labels(path, results)
    recorded = {file: _Recorded.of(file.parent) for file, _ in results}
    named = FieldNames({"reward": reading.reward} if reading.reward is not None else {})
    trials = tuple(_trial(file, value, labels[file], recorded[file], reading, named) for file, value in results)
    rewards = dict.fromkeys(
        name for file, value in results for name in rewards_of(Document(str(file), value, file), value)
    )
    read = tuple(one for file, _ in results for one in (file, *recorded[file].files))
    broken = [one.why for one in recorded.values() if one.why]
    notes = (f"{counted(len(broken), 'trial')} with trajectories that cannot be read: {broken[0]}.",) if broken else ()
    scale = Scale.of(reading.reward or "the reward", (trial.reward for trial in trials))
    return Source(
        path,
        "Harbor",
        trials,
        errors_apart=True,
        notes=notes,
        files=read,
        scale=scale,
        rewards=(*rewards, *(named[field] for field in named.found)),
    )


def is_trial(value: Any) -> bool:
    """Whether a JSON value is the result of a trial."""
    return isinstance(value, dict) and {"task_name", "trial_name"} <= value.keys()


def is_job(value: Any) -> bool:
    """Whether a JSON value is the result of a job, which counts trials and holds none."""
    return isinstance(value, dict) and {"n_total_trials", "stats"} <= value.keys()


def _labels(path: Path, results: Sequence[tuple[Path, Mapping[str, Any]]]) -> dict[Path, str]:
    """The config of each trial: its model, its agent and model, or its job, whichever tells configs apart."""
    jobs = {file: file.parent.parent.name if file.parent != path else path.parent.name for file, _ in results}
    agents = {file: _agent(value) for file, value in results}
    models = {file: model for file, (_, model) in agents.items()}
    pairs = len(set(agents.values()))
    if pairs == 1:
        return jobs
    if len(set(models.values())) == pairs and all(models.values()):
        short = without_provider(models.values())
        return {file: short[model] for file, model in models.items()}
    return {file: "/".join(filter(None, agents[file])) for file, _ in results}


def _agent(value: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the agent and of its model; the model's may be empty."""
    agent = value.get("agent_info")
    known = agent if isinstance(agent, dict) else {}
    model = known.get("model_info")
    return first_name([known.get("name")], ""), first_name([model.get("name")] if isinstance(model, dict) else [], "")


@dataclass(frozen=True)
class _Recorded:
    """What the trajectories of a trial, one for each step of its task, say of the model's replies."""

    files: tuple[Path, ...] = ()
    steps: int | None = None
    parse_fail: int | None = None
    no_cmd: int | None = None
    why: str = ""
    """Why they cannot be read; empty if they can, or if there are none."""

    @classmethod
    def of(cls, trial: Path) -> _Recorded:
        """Of the folder of a trial. Only what Harbor's agents write is read, and nothing that a task leaves there."""
        folders = [trial / "agent", *sorted(trial.glob("steps/*/agent"))]
        kept = [folder for folder in folders if (folder / "trajectory.json").is_file()]
        files = tuple(file for folder in kept for file in sorted(folder.glob("trajectory*.json")))
        try:
            traces = [trace for folder in kept for trace in read_traces(folder)]
        except UsageError as error:
            return cls(files, why=str(error))
        if not traces:
            return cls(files)
        failed, silent = total([trace.parse_fail for trace in traces]), total([trace.no_cmd for trace in traces])
        return cls(files, sum(trace.steps for trace in traces), failed, silent)


def _trial(
    file: Path, value: dict[str, Any], config: str, recorded: _Recorded, reading: Reading, named: FieldNames
) -> Trial:
    document = Document(str(file), value, file)
    exceptions = [*_exceptions(document, value)]
    reward = verified_reward(document, value, named)
    failed = next((words for words, of_agent in exceptions if not of_agent), "")
    if reward is None and not failed:
        failed = next((words for words, _ in exceptions), "")
        _refuse_unnamed(document, value)
    outcome, error = judged(reward, reading, failed)
    return Trial(
        first_name([value["task_name"]], file.parent.name),
        config,
        outcome,
        reward=None if error else reward,
        steps=recorded.steps,
        parse_fail=recorded.parse_fail,
        no_cmd=recorded.no_cmd,
        error=error,
    )


def _exceptions(document: Document, value: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The exceptions of a trial and its steps: in words, and whether each is the agent's own failure."""
    steps = document.objects(value.get("step_results"), "step_results")
    for owner in (value, *steps):
        found = document.optional(owner.get("exception_info"), "exception_info", dict)
        if found is None:
            continue
        words = f"{found.get('exception_type', 'Exception')}: {found.get('exception_message', '')}"
        policy = found.get("policy")
        if isinstance(policy, dict):
            yield words, bool(policy.get("has_valid_reward")) and not policy.get("should_retry")
        else:  # of an earlier Harbor
            yield words, found.get("exception_type") in _OF_AGENTS


def _refuse_unnamed(document: Document, value: Mapping[str, Any]) -> None:
    """Refuse a trial with rewards of which none is known by its name."""
    verified = value.get("verifier_result")
    rewards = verified.get("rewards") if isinstance(verified, dict) else None
    if rewards:
        raise UsageError(
            f"{document.name}: the verifier gave {enumerated([*map(str, rewards)])}; say which counts with "
            "--reward NAME"
        )
