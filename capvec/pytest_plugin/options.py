"""The options of a sweep or a calibration: what each takes, and what `--help` says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from capvec.directions.recipe import RECIPE_OPTIONS


class Option(NamedTuple):
    """One option of the command line; its default depends on the study, so what was not typed stays None."""

    metavar: str | None
    """None for a switch."""
    help: str


OPTIONS: Mapping[str, Option] = {
    "alpha": Option("A[,A…]", "steering strengths (default: 4)"),
    "alpha_unit": Option(
        "U",
        "what alpha multiplies: `stored`, the vector with its natural length; `norm`, the unit vector; `ambient`, the "
        "mean norm of the residual, so that alpha is the dose (default: stored)",
    ),
    "layer": Option(
        "L[,L…]",
        "decoder blocks, from 0, each a config of its own; `20+22` steers both in one; or `auto`: the best of the "
        "ranking (default: auto)",
    ),
    "model": Option(
        "NAME", "`pocket`, `pocket-base`, a Hugging Face id, or a folder (default: pocket, or what --base-url serves)"
    ),
    "direction": Option("PATH", "a .pt, .safetensors or .gguf to steer with; otherwise built from --traces"),
    "traces": Option(
        "PATH", "folder, or JSONL of ATIF trajectories or of chats, to build from (default: the bundled ones)"
    ),
    **{name: Option(name.upper(), meaning) for name, meaning in RECIPE_OPTIONS.items()},
    "reference": Option("PATH", "a direction file; the ranking shows the cosine with it at every layer"),
    "op": Option(
        "OP",
        "what is done along the direction: `add` alpha times it; `ablate`, which takes the component along it away and "
        "has no alpha; `set`, which makes the component alpha times as long as it (default: add)",
    ),
    "positions": Option(
        "P",
        "which tokens are steered: `all`, the `prompt`, the `generated` ones, or those of the `assistant` "
        "(default: all)",
    ),
    "keep_norm": Option(None, "give the residual its norm back after steering it"),
    "tasks": Option(
        "NAME|PATH", "`sprint`, `multi`, `full`, or a folder of tasks (default: multi; calibration: what was chosen on)"
    ),
    "attempts": Option("N", "attempts per (task, config) (default: 1; calibration: 2)"),
    "controls": Option(
        "LIST",
        "of zero, random:K, shuffled:K, orthogonal:K, negated, prompt (default: none; calibration takes random:K only, "
        "by default random:3)",
    ),
    "chosen": Option("PATH", "calibration: the layers and strengths that capvec.studies.calibration.select wrote"),
    "plan": Option(None, "print what the study takes and could see, after a short probe; run nothing"),
    "effect": Option("D", "a difference in pass rate that would matter: the verdict's margin (default: 0.15)"),
    "base_rate": Option(
        "R|RUN",
        "what is assumed of the baseline's pass rate before the sweep, or the folder of an earlier run to take it and "
        "the spread from (default: 0.5, where a trial tells least)",
    ),
    "spread": Option("S", "how much tasks are assumed to differ: SD of the logit (default: 1.5)"),
    "seed": Option("N", "the sweep's base seed (default: 0)"),
    "run": Option("NAME", "report folder reports/NAME (default: a timestamp)"),
    "resume": Option(None, "keep the valid trials of --run NAME and run the others"),
    "gate": Option(
        "EXPR",
        "let the exit code depend on it: improves(CONFIG), by the verdict; no_harm(D) and M<=baseline, by what was "
        "measured, of every config, controls included: no pass rate more than D below the baseline's, no mean of M "
        "(parse_fail, no_cmd, steps) above it",
    ),
    "sequential": Option(None, "stop a config when it is decided, or when nothing is to be expected"),
    "base_url": Option("URL", "use a running engine (token in CAPVEC_ENGINE_TOKEN) instead of starting one"),
    "max_steps": Option("N", "replies per trial (default: 20 with pocket, 8 with pocket-base, else 30)"),
    "max_tokens": Option("N", "tokens per reply (default: 96 with pocket, 64 with pocket-base, else 512)"),
    "temperature": Option("T", "sampling temperature (default: 0.7)"),
    "protocol": Option("NAME", "how replies carry commands: bash-block (default), terminus-json or tool-call"),
}
"""Name (with `_` for `-`) → option, in the order of `--help`."""


def add_options(parser: pytest.Parser) -> None:
    """Put all of them on pytest's command line, in a group of their own."""
    group = parser.getgroup("capvec", "capvec: steering vectors, measured by trials (with -m sweep or -m calibration)")
    for name, option in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        if option.metavar is None:
            group.addoption(flag, action="store_true", help=option.help)
        else:
            group.addoption(flag, metavar=option.metavar, help=option.help)


def given_options(config: pytest.Config) -> dict[str, Any]:
    """What was typed, by name; None for an option that was not, False for a switch."""
    given: dict[str, Any] = {name: config.getoption(name) for name in OPTIONS}
    return given
