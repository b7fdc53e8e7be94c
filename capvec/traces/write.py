"""Writing a trial as a trajectory in ATIF v1.8, the Agent Trajectory Interchange Format of Harbor.

The format is specified in Harbor's RFC 0001, https://harborframework.com/docs/trajectory-format.

In capvec's own files, worked examples of the opening are steps with `is_copied_context`, so that they do not count as
the agent's. `observation.results` holds the output of each command, and `extra.observation` of an agent step the text
that the model received, which may differ.

A task with several steps has an episode for each. They stand one after the other, and `extra.step` names the step of
the task. The instruction of a later episode is a user's step; the rest of its opening is the first's and not repeated.
The model saw each episode alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capvec import __version__
from capvec.records import Config, Episode, Outcome, Step, TrialSpec
from capvec.storage import make_folder, write_text
from capvec.task_records import Task

SCHEMA_VERSION = "ATIF-v1.8"


def write_trajectory(
    path: Path,
    *,
    spec: TrialSpec,
    task: Task,
    config: Config,
    model_name: str,
    protocol: str,
    episodes: Sequence[Episode],
    outcome: Outcome,
) -> None:
    """Write one trial as an ATIF v1.8 file, completely or not at all. Missing folders are made.

    `episodes` are those of the task's steps that were reached, in order; at least one.

    `agent.extra` holds the steering: `layer` and `direction` (several are joined by `+`), `alpha` as typed,
    `alpha_stored` in stored units with one number for each of `config.steers`, and the dose.
    `metrics.extra` of each reply holds its receipts, and the isolation check, steered or not. `extra.outcome`
    is the complete outcome. Numbers that are not finite become text, since JSON has none.
    """
    own = [step for episode in episodes for step in episode.steps]
    steps = list(_steps(task, episodes))
    document = {
        "schema_version": SCHEMA_VERSION,
        "session_id": f"{outcome.run}/{spec.id}",
        "trajectory_id": str(spec.id),
        "agent": {
            "name": "capvec",
            "version": __version__,
            "model_name": model_name,
            "extra": _agent_extra(config, protocol),
        },
        "steps": [{"step_id": number, **step} for number, step in enumerate(steps, start=1)],
        "final_metrics": {
            "total_prompt_tokens": sum(step.reply.prompt_tokens for step in own),
            "total_completion_tokens": sum(step.reply.completion_tokens for step in own),
            "total_steps": len(steps),
            "extra": {"agent_steps": len(own), "end_reason": episodes[-1].end_reason},
        },
        "extra": {
            "outcome": outcome.to_json(),
            "task": {"name": task.name, "checksum": task.checksum},
            "spec": spec.to_json(),
            "error": episodes[-1].error,
        },
    }
    # ASCII only, so that the file can be read whatever its texts hold.
    _write(path, json.dumps(_finite(document), indent=1, allow_nan=False))


def _steps(task: Task, episodes: Sequence[Episode]) -> Iterator[dict[str, Any]]:
    """The steps of all episodes; those of a task with several steps say to which of them they belong."""
    calls = 0
    for number, (episode, part) in enumerate(zip(episodes, task.steps, strict=False)):
        opening = list(_opening_steps(episode.messages))
        replies = [_agent_step(step, calls + step.index) for step in episode.steps]
        calls += len(replies)
        for step in (*(opening[-1:] if number else opening), *replies):
            yield step | {"extra": {"step": part.name, **step.get("extra", {})}} if part.name else step


def _opening_steps(messages: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """System prompt and instruction as they are; everything between them is worked examples."""
    sources = {"system": "system", "user": "user", "assistant": "agent"}
    for index, message in enumerate(messages):
        step: dict[str, Any] = {"source": sources[message["role"]], "message": message["content"]}
        if message["role"] != "system" and index < len(messages) - 1:
            step["is_copied_context"] = True
        yield step


def _agent_step(step: Step, number: int) -> dict[str, Any]:
    reply, parse = step.reply, step.parse
    ids = [f"call_{number}_{call}" for call in range(len(parse.commands))]
    data: dict[str, Any] = {"source": "agent", "message": reply.text, "llm_call_count": 1}
    if reply.thought:
        data["reasoning_content"] = reply.thought
    if step.timestamp:
        data["timestamp"] = step.timestamp
    if parse.commands:
        data["tool_calls"] = [
            {"tool_call_id": call, "function_name": "bash", "arguments": {"command": command}}
            for call, command in zip(ids, parse.commands, strict=True)
        ]
    # There may be fewer results than calls, if the episode ended before the rest could run.
    results: list[dict[str, Any]] = [
        {"source_call_id": call, "content": result.output, "extra": _without(result.to_json(), "output")}
        for call, result in zip(ids, step.results, strict=False)
    ]
    if not results and step.observation:
        results = [{"content": step.observation}]
    if results:
        data["observation"] = {"results": results}
    data["metrics"] = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "extra": {
            "model_s": reply.model_s,
            "receipts": [receipt.to_json() for receipt in reply.receipts],
            "isolation": reply.isolation.to_json() if reply.isolation is not None else None,
        },
    }
    data["extra"] = {
        "observation": step.observation,
        "finish_reason": reply.finish_reason,
        "parse": _without(parse.to_json(), "commands"),
        "no_cmd": parse.no_cmd,
        "sandbox_s": step.sandbox_s,
    }
    return data


def _agent_extra(config: Config, protocol: str) -> dict[str, Any]:
    directions = "+".join(dict.fromkeys(steer.direction for steer in config.steers))
    return {
        "config": config.to_json(),
        "protocol": protocol,
        "layer": config.layer,
        "alpha": config.alpha,
        "alpha_unit": config.alpha_unit,
        "alpha_stored": [steer.alpha for steer in config.steers],
        "direction": directions or None,
        "dose": config.dose,
    }


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _write(path: Path, text: str) -> None:
    make_folder(path.parent)
    write_text(path, text + "\n")
