"""The options of a sweep and of a calibration on pytest's command line."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest

from capvec.plan.option import Option
from capvec.plan.option_help import STUDIES, add_option, help_text, options_of
from capvec.plan.option_table import GROUPS


def add_options(parser: pytest.Parser) -> None:
    """Add the options to pytest's, with a heading for each group."""
    for name, options in groupby(options_of(*STUDIES), lambda option: option.group):
        members = list(options)
        studies = _studies_of(*members)
        marks = " or ".join(f"-m {study}" for study in studies)
        group = parser.getgroup(f"capvec-{name}", f"capvec: {GROUPS[name]} (with {marks})")
        for option in members:
            only = f"For -m {option.places[0]} only. " if _studies_of(option) != studies else ""
            add_option(group.addoption, option, only + help_text(option, *STUDIES))


def _studies_of(*options: Option) -> list[str]:
    """The studies that have any of the options."""
    return [study for study in STUDIES if any(study in option.places for option in options)]


def given_options(config: pytest.Config) -> dict[str, Any]:
    """Option (with `_` for `-`) → what was typed. None for an option that was not, and False for a switch.

    Defaults are filled in later: they depend on the study.
    """
    return {option.name: config.getoption(option.name) for option in options_of(*STUDIES)}
