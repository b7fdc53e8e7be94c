"""Help texts made from the table of options: for argparse and pytest, and as Markdown for the documentation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from capvec.plan.option import Option
from capvec.plan.option_table import GROUPS, OPTIONS, PLACES

STUDIES = ("sweep", "calibration")
"""Places whose options are pytest's."""


def options_of(*places: str) -> tuple[Option, ...]:
    """The options that any of the places has, each once, in the order of the table."""
    return tuple(option for option in OPTIONS if set(option.places) & set(places))


def default_words(option: Option, places: Sequence[str]) -> str:
    """The default as help texts show it, as in `1`, or `1; calibration: 2` where places differ; empty without one."""
    shown = {place: option.default_in(place).shown for place in places if place in option.places}
    usual = next(iter(shown.values()))
    others = [f"{place}: {words}" for place, words in shown.items() if words != usual]
    return "; ".join([*([usual] if usual else []), *others])


def help_text(option: Option, *places: str) -> str:
    """The meaning and the default."""
    default = default_words(option, places)
    return f"{option.help} Default: {default}." if default else option.help


def add_arguments(parser: argparse.ArgumentParser, place: str) -> None:
    """Put the options of a command on its parser. Each is None, and a switch False, unless it is typed."""
    for name, options in groupby(options_of(place), lambda option: option.group):
        group = parser.add_argument_group(GROUPS[name])
        for option in options:
            add_option(group.add_argument, option, help_text(option, place), option.name)


def add_option(add: Any, option: Option, text: str, dest: str) -> None:
    """Put one option on a command line; what is typed becomes the attribute `dest`, for a positional one its name."""
    text = text.replace("%", "%%")
    if option.positional:
        add(option.name, metavar=option.metavar, help=text, **({"nargs": "+"} if option.several else {}))
        return
    if option.metavar is None:
        add(option.flag, dest=dest, action="store_true", help=text)
    else:
        more = {"required": True} if option.required else {"action": "append"} if option.several else {}
        add(option.flag, dest=dest, metavar=option.metavar, help=text, **more)
    for name in option.earlier:
        add(f"--{name.replace('_', '-')}", dest=dest, metavar=option.metavar, help=argparse.SUPPRESS)


def options_markdown() -> str:
    """docs/reference/options.md, whole: a section for pytest's options, and one for each other command.

    `python -m capvec.plan.option_help` prints it.
    """
    commands = [name for name in PLACES if name not in STUDIES]
    return "\n".join([*_pytest_section(), *(line for name in commands for line in _command_section(name))])


def _pytest_section() -> Iterator[str]:
    yield "# Options\n"
    yield "## Sweeps and calibrations\n"
    for study in STUDIES:
        yield f"`{PLACES[study].command}`: {PLACES[study].summary}\n"
    yield "Without one of these two marks pytest never starts a study.\n"
    for name, options in groupby(options_of(*STUDIES), lambda option: option.group):
        yield f"### {GROUPS[name].capitalize()}\n"
        yield from _table(options, STUDIES, studies=True)


def _command_section(name: str) -> Iterator[str]:
    yield f"## {PLACES[name].command}\n"
    yield f"{PLACES[name].summary}\n"
    options = options_of(name)
    if options:
        yield from _table(options, (name,))
    else:
        yield "It has no options.\n"


def _table(
    options: Iterator[Option] | Sequence[Option], places: Sequence[str], *, studies: bool = False
) -> Iterator[str]:
    yield "| option | meaning | default |" + (" for |" if studies else "")
    yield "|---|---|---|" + ("---|" if studies else "")
    for option in options:
        typed = option.flag if option.metavar is None or option.positional else f"{option.flag} {option.metavar}"
        default = "required" if option.required else default_words(option, places)
        marks = " ".join(f"`-m {place}`" for place in places if place in option.places)
        cells = (f"`{typed}`", option.help, default or ("off" if option.metavar is None else "none"))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, *([marks] if studies else []))) + " |"
    yield ""


if __name__ == "__main__":
    print(options_markdown())
