"""Runs the verifier `tests/test.sh` in the sandbox and reads the reward that it writes.

The verifier runs where the agent was root. What it can trust there, and what it cannot:

- No process of the agent is alive; the environment is the image's and the task's.
- The system's own commands and libraries, and the files that the dynamic loader reads, are the image's
  (`capvec.sandbox.system_files` lists the paths). No file that the agent put elsewhere on `PATH` replaces one of them.
  A warning lists the paths that had to be restored.
- `/tests` holds the task's files, and `/logs/verifier` is empty.
- Everything else is as the agent left it, since it may be what the task asks for. This includes an interpreter of the
  image under `/usr/local` or `/opt`, and the places where interpreters look for modules and settings
  (`/usr/local/lib`, `/usr/share`, `/etc`, the home folder). A verifier that runs the agent's own files trusts them.
- A task whose result belongs in the system's own directories cannot be judged, because its result is restored too.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from capvec.errors import VerifierFault
from capvec.records import CommandResult, Task
from capvec.sandbox.base import Sandbox

LOGS = "/logs/verifier"
CLEAR = (
    "chmod u+rwx / /logs; chmod -R u+rwX /logs/verifier /tests; "
    "{ [ -d /logs ] && [ ! -L /logs ]; } || rm -rf /logs; "
    "rm -rf /logs/verifier /tests; mkdir -p /logs/verifier; "
    '[ ! -e /tests ] && [ -d /logs/verifier ] && [ -z "$(ls -A /logs/verifier)" ]'
)
"""Empties the folders that the verifier trusts. Root without capabilities is bound by permissions: an agent could
protect a reward of its own by making it read-only; the owner can always change permissions back."""


_log = logging.getLogger(__name__)


def verify(sandbox: Sandbox, task: Task) -> float:
    """Take the sandbox back, run the task's verifier, and return its reward (1.0 is solved).

    The reward is read as Harbor does (`harbor/verifier/verifier.py`): the number `reward` in the object of
    `/logs/verifier/reward.json`; or else the number in `reward.txt`; or else the only number of the object.

    Args:
        sandbox: the agent's sandbox, after the agent has ended.
        task: the task that was worked on.

    Raises:
        VerifierFault: the verifier ran out of time, or wrote no reward, or one that is not a finite number.
        SandboxUnavailable: the sandbox is gone or cannot be restored.
    """
    if restored := sandbox.take_back():
        _log.warning("%s: restored from the image before the verifier ran: %s", task.name, ", ".join(restored))
    cleared = sandbox.execute(("sh", "-c", CLEAR), timeout_s=30)
    if cleared.exit_code != 0:
        raise VerifierFault(f"{LOGS} and /tests cannot be emptied before the verifier runs: {_tail(cleared)}")
    sandbox.upload(task.path / "tests", "/tests")
    result = sandbox.execute(("bash", "/tests/test.sh"), timeout_s=task.verifier.timeout_s, env=dict(task.verifier.env))
    if result.timed_out:
        raise VerifierFault(f"tests/test.sh ran longer than {task.verifier.timeout_s:g} s; it printed: {_tail(result)}")
    try:
        return _reward(sandbox.read(f"{LOGS}/reward.json"), sandbox.read(f"{LOGS}/reward.txt"))
    except ValueError as error:
        raise VerifierFault(
            f"{error}; tests/test.sh ended with exit code {result.exit_code} and printed: {_tail(result)}"
        ) from error


def _reward(in_json: bytes | None, in_text: bytes | None) -> float:
    """The reward of the two files. Raises ValueError if there is no usable one."""
    numbers = {} if in_json is None else _numbers(in_json)
    if "reward" in numbers:
        return _finite(numbers["reward"], "reward.json", in_json)
    if in_text is not None:
        return _finite(in_text, "reward.txt", in_text)
    if in_json is None:
        raise ValueError(f"there is neither reward.json nor reward.txt in {LOGS}")
    if len(numbers) != 1:
        raise _unusable("reward.json", in_json)
    return _finite(next(iter(numbers.values())), "reward.json", in_json)


def _numbers(data: bytes) -> dict[str, int | float]:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unusable("reward.json", data) from error
    if not isinstance(content, dict):
        raise _unusable("reward.json", data)
    numbers = {
        key: value for key, value in content.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }
    # Another number does not replace a `reward` that is not a number.
    return numbers if "reward" in numbers or "reward" not in content else {}


def _finite(value: float | bytes, file: str, data: bytes | None) -> float:
    try:
        number = float(value.decode() if isinstance(value, bytes) else value)
    except (ValueError, OverflowError) as error:
        raise _unusable(file, data) from error
    if not math.isfinite(number):
        raise _unusable(file, data)
    return number


def _unusable(file: str, data: bytes | None) -> ValueError:
    expected = (
        "one finite number" if file == "reward.txt" else "an object with one finite number, or one named `reward`"
    )
    return ValueError(f"{LOGS}/{file} holds {(data or b'')[:80]!r}; expected {expected}")


def _tail(result: CommandResult) -> str:
    return result.output.strip()[-400:] or "nothing"
