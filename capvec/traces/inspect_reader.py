"""Reads logs of Inspect through its own library, as a program: a request for each line of its input, and an answer.

The library unpacks what a log holds and expands what it refers to, without a bound. Here it has one: the memory that a
process may have. `capvec.traces.inspect_library` starts it, and bounds its time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def main() -> None:
    """Answer until the input ends; what the library prints goes nowhere."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    read = _library()
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), read)), file=answers, flush=True)


def _library() -> Callable[..., Any] | str:
    """What reads a log, or why there is none."""
    try:
        from inspect_ai.log import read_eval_log  # noqa: PLC0415
    except ImportError as error:
        return str(error)
    read: Callable[..., Any] = read_eval_log
    return read


def _answer(asked: dict[str, Any], read: Callable[..., Any] | str) -> dict[str, Any]:
    if isinstance(read, str):
        return {"missing": read}
    try:
        _bound(asked["memory"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library, about its own older logs
            log = _plain(read(asked["path"], format=asked["kind"], resolve_attachments=True))
        if len(json.dumps(log)) > asked["largest"]:
            return {"beyond": True}
    except MemoryError:
        return {"beyond": True}
    except Exception as error:  # whatever its parsers raise on what is no log
        return {"refused": f"{type(error).__name__}: {error}".split("\n")[0]}
    return {"log": log}


def _bound(more: int) -> None:
    """Let this process have so many bytes more than it has."""
    now = psutil.Process().memory_info().vms
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + more if hard == resource.RLIM_INFINITY else min(now + more, hard)
    with suppress(OSError, ValueError):  # a system that has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _plain(log: Any) -> dict[str, Any]:
    """What capvec reads of a log."""
    samples = [_sample(sample) for sample in log.samples or ()]
    return {"task": str(log.eval.task), "model": str(log.eval.model), "status": str(log.status), "samples": samples}


def _sample(sample: Any) -> dict[str, Any]:
    offered = {
        event.output.message.id: [tool.name for tool in event.tools]
        for event in sample.events or ()
        if event.event == "model" and event.output.choices
    }
    return {
        "id": str(sample.id),
        "epoch": sample.epoch,
        "error": None if sample.error is None else str(sample.error.message),
        "scores": {name: score.model_dump(mode="json")["value"] for name, score in (sample.scores or {}).items()},
        "choices": len(sample.output.choices),
        "messages": [message.model_dump(mode="json", exclude_none=True) for message in sample.messages],
        "offered": {str(reply): tools for reply, tools in offered.items()},
    }


if __name__ == "__main__":
    main()
