"""The options of a sweep and of a calibration on pytest's command line.

Other plugins and conftest files have options too, and some have the same names, such as `--retries` and `--base-url`.
What they have stays theirs: capvec's options come last, and only where the name is free.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from capvec.errors import UsageError
from capvec.plan.option import Option
from capvec.plan.option_help import STUDIES, add_option, help_text, options_of
from capvec.plan.option_table import GROUPS

_SETTINGS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg")
"""Files that pytest looks for to find the root of the tests."""
_DEST = "capvec_{}"
"""The name of an option's value, which no other plugin has."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options whose names are free to pytest's, with a heading for each group."""
    for name, options in groupby(options_of(*STUDIES), lambda option: option.group):
        members = list(options)
        studies = _studies_of(*members)
        marks = " or ".join(f"-m {study}" for study in studies)
        group = parser.getgroup(f"capvec-{name}", f"capvec: {GROUPS[name]} (with {marks})")
        for option in members:
            only = f"For -m {option.places[0]} only. " if _studies_of(option) != studies else ""
            add = partial(_add_if_free, group.addoption)
            add_option(add, option, only + help_text(option, *STUDIES), _DEST.format(option.name))


def _add_if_free(add: Any, flag: str, **settings: Any) -> None:
    with suppress(argparse.ArgumentError):  # given_options says so, where it was typed
        add(flag, **settings)


def _studies_of(*options: Option) -> list[str]:
    """The studies that have any of the options."""
    return [study for study in STUDIES if any(study in option.places for option in options)]


def is_in_conftest(manager: pytest.PytestPluginManager) -> bool:
    """Whether capvec is loaded by a conftest file, and so after all plugins."""
    return any(Path(name).name == "conftest.py" for name, _ in manager.list_name_plugin())


def files_and_folders(parser: pytest.Parser, args: Sequence[str]) -> list[str]:
    """The positional arguments of a command line, while pytest's parser does not have capvec's options yet."""
    found: list[str] = parser.parse_known_args(_split(args)[1]).file_or_dir
    return found


def wants_plan(config: pytest.Config) -> bool:
    """Whether `--plan` was typed, and is capvec's."""
    return bool(config.getoption(_DEST.format("plan"), False))


def given_options(config: pytest.Config) -> dict[str, Any]:
    """Option (with `_` for `-`) → what was typed. None for an option that was not, and False for a switch.

    Defaults are filled in later: they depend on the study.

    Raises:
        UsageError: an option was typed that belongs to another plugin, or pytest took the file or folder after an
            option for the root of the tests.
    """
    _refuse_root_of_a_value(config)
    found = {option.name: config.getoption(_DEST.format(option.name), None) for option in options_of(*STUDIES)}
    for option in _typed_of_others(config, found):
        raise UsageError(
            f"{option.flag} is here an option of another plugin or of a conftest.py (`pytest --help` shows its "
            "heading), which would act on the trials: leave it out, or leave that plugin out with -p no:NAME"
        )
    return found


def _refuse_root_of_a_value(config: pytest.Config) -> None:
    """Refuse a root that comes from the value of an option of capvec's.

    pytest looks for its settings before it loads plugins. A path that stands alone after an option that it does not
    know is to it one of the tests.
    """
    here = config.invocation_params.dir
    expected = next(
        (folder for folder in (here, *here.parents) if any((folder / x).is_file() for x in _SETTINGS)), None
    )
    asked = config.known_args_namespace
    if expected is None or asked.file_or_dir or asked.rootdir or asked.inifilename:
        return
    if config.inipath is not None and config.inipath.parent == expected:
        return
    flags = {option.flag for option in options_of(*STUDIES) if option.metavar is not None}
    for flag, value in pairwise(_typed(config)):
        if flag in flags and os.path.exists(here / value):
            raise UsageError(
                f"pytest does not read the settings of {expected}: it takes {value}, after {flag}, for a place of "
                f"tests, and {config.rootpath} for their root. Write {flag}={value}, with an equals sign"
            )


def _typed(config: pytest.Config) -> list[str]:
    """The command line, after what the environment puts before it."""
    return [*shlex.split(os.environ.get("PYTEST_ADDOPTS", "")), *map(str, config.invocation_params.args)]


def _typed_of_others(config: pytest.Config, ours: dict[str, Any]) -> Iterator[Option]:
    """Options that were typed and did not reach capvec."""
    typed, _ = _split([*config.getini("addopts"), *_typed(config)])
    for option in options_of(*STUDIES):
        if getattr(typed, option.name) and not ours[option.name]:
            yield option


def _split(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """What a command line has of capvec's options, and the rest of it.

    Each is looked for alone, since another plugin may have a switch where capvec has a value, or the reverse.
    """
    typed, rest = argparse.Namespace(), list(args)
    for option in options_of(*STUDIES):
        parser = argparse.ArgumentParser(
            add_help=False, allow_abbrev=False, exit_on_error=False, fromfile_prefix_chars="@"
        )
        may_be_missing = {} if option.metavar is None else {"nargs": "?", "const": True}
        add_option(partial(parser.add_argument, **may_be_missing), option, "", option.name)  # type: ignore[arg-type]
        try:
            _, rest = parser.parse_known_args(rest, typed)
        except argparse.ArgumentError:
            setattr(typed, option.name, True)
    return typed, rest
