"""The rewards that a verifier wrote, and the one that counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from capvec.decimals import exact_mean
from capvec.errors import VerifierFault

NAME = "reward"
"""The reward that counts where there are several and none is asked for."""
LARGEST = 1e100
"""The largest reward in size. Sums of such numbers, and of their squares, are still finite."""
LONGEST_NAME = 100
"""Characters."""
MOST = 1000
"""Rewards of one verifier. Each is a number of every trial's record, and a row of the report."""
_SHOWN = 10
"""Names in a message."""


def read_rewards(in_json: bytes | None, in_text: bytes | None) -> dict[str, float]:
    """Read every reward of a verifier, with its name.

    As in Harbor, `reward.json` counts where it exists, and `reward.txt` otherwise. The first holds an object of names
    and numbers, in which `true` is 1 and `false` is 0. The second holds one number, whose name is `reward`.

    Args:
        in_json: the content of `reward.json`; None if there is no such file.
        in_text: the same of `reward.txt`.

    Returns:
        Name → reward, in the order of the file; at least one.

    Raises:
        ValueError: there is neither file, or the one that counts holds anything else: no reward, a value that is not a
            number, not finite or beyond `LARGEST`, a name that cannot be printed, or more than `MOST`.
    """
    if in_json is not None:
        return _of_json(in_json)
    if in_text is None:
        raise ValueError("there is neither reward.json nor reward.txt in /logs/verifier")
    try:
        return {NAME: _number(float(in_text.decode()))}
    except ValueError as error:
        raise _unusable("reward.txt", in_text, "one finite number") from error


def counted(rewards: Mapping[str, float], name: str | None = None) -> float:
    """The reward that counts: the one named, or else `reward`, or else the only one.

    Args:
        rewards: as `read_rewards` returns them.
        name: as `--reward` gives it; None if it was not given.

    Raises:
        VerifierFault: there is no such reward, or there are several without one that counts. The message names them.
    """
    if name is not None:
        if name not in rewards:
            raise VerifierFault(
                f"the verifier wrote no reward {name!r}, which --reward asks for; it wrote {_listed(rewards)}"
            )
        return rewards[name]
    if NAME in rewards:
        return rewards[NAME]
    if len(rewards) > 1:
        raise VerifierFault(
            f"the verifier wrote several rewards and none is named {NAME!r}: {_listed(rewards)}; say which one counts "
            f"with --reward, as in --reward {next(iter(rewards))}"
        )
    return next(iter(rewards.values()))


def of_steps(steps: Sequence[Mapping[str, float]], strategy: Literal["mean", "final"]) -> dict[str, float]:
    """The rewards of a task from those of its steps.

    Args:
        steps: name → reward of each step that was judged, in order; empty for one that the agent made impossible to
            judge.
        strategy: `mean` over the steps, by name, where a step without the name counts as 0; or those of the `final`
            one. Those of a single step are kept as they are.
    """
    if strategy == "final" or len(steps) == 1:
        return dict(steps[-1])
    names = dict.fromkeys(name for rewards in steps for name in rewards)
    return {name: float(exact_mean([rewards.get(name, 0.0) for rewards in steps])) for name in names}


def _of_json(data: bytes) -> dict[str, float]:
    expected = "an object of names and finite numbers"
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unusable("reward.json", data, expected) from error
    if not isinstance(content, dict) or not content:
        raise _unusable("reward.json", data, expected)
    if len(content) > MOST:
        raise _unusable("reward.json", data, f"at most {MOST} rewards, and it has {len(content)}")
    rewards = {}
    for name, value in content.items():
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise _unusable("reward.json", data, f"names of 1 to {LONGEST_NAME} printable characters")
        try:
            rewards[name] = _number(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise _unusable("reward.json", data, f"{expected}, and {name!r} has another value") from error
    return rewards


def _number(value: Any) -> float:
    """The value as a float; raises TypeError, ValueError or OverflowError where it is no usable number."""
    if not isinstance(value, int | float):
        raise TypeError
    number = float(value)
    if not abs(number) <= LARGEST:  # also where it is nan
        raise ValueError
    return number


def _unusable(file: str, data: bytes, expected: str) -> ValueError:
    shown = repr(data[:80].decode(errors="replace")) if data.strip() else "nothing"
    return ValueError(f"/logs/verifier/{file} holds {shown}; expected {expected}")


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(map(repr, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
