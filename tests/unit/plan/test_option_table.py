"""The table of options, and that the help texts, the documentation and `provenance.json` are what it says."""

import re
from collections import Counter
from dataclasses import fields
from itertools import groupby

import pytest

from capvec.directions.recipe import RECIPE_PARSERS, Recipe
from capvec.errors import UsageError
from capvec.plan.option_help import STUDIES, default_words, help_text, options_markdown, options_of
from capvec.plan.option_table import GROUPS, OPTIONS, PLACES
from capvec.plan.options import SweepOptions, parse_options

pytestmark = pytest.mark.unit

NOT_RECORDED = {"plan"}
"""A dry run leaves nothing on record."""


def test_a_command_has_each_option_once():
    named = Counter((option.name, place) for option in OPTIONS for place in option.places)
    assert {pair for pair, times in named.items() if times > 1} == set()
    assert {place for _, place in named} <= set(PLACES)


@pytest.mark.parametrize("place", [*PLACES, "pytest"])
def test_the_options_of_a_group_stand_together(place):
    options = options_of(*STUDIES) if place == "pytest" else options_of(place)
    headings = [name for name, _ in groupby(options, lambda option: option.group)]
    assert len(set(headings)) == len(headings)
    assert set(headings) <= set(GROUPS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: f"{option.name}-{option.places[0]}")
def test_an_option_reads_its_own_default_and_names_itself_where_a_value_is_bad(option):
    for place in option.places:
        text = option.default_in(place).text
        assert not (option.required and text)
        if text is not None:
            option.parse(text)
    # Any text but a number is the folder of a run, and any text is the name of a reward.
    if option.parse is not str and option.name not in {"base_rate", "reward"}:
        with pytest.raises(UsageError, match=re.escape(option.flag)):
            option.parse("no/such value")
    assert option.help.endswith(".")


def test_a_sweep_without_options_has_the_defaults_of_the_table():
    assert parse_options({}) == SweepOptions()
    for option in options_of("sweep"):
        if option.default.text is not None:
            holder = SweepOptions().recipe if option.name in RECIPE_PARSERS else SweepOptions()
            assert getattr(holder, option.key) == option.parse(option.default.text)


def test_every_field_of_the_options_is_in_the_table():
    keys = {option.key for option in options_of(*STUDIES)} - set(NOT_RECORDED) - set(RECIPE_PARSERS)
    assert {field.name for field in fields(SweepOptions)} == keys | {"recipe", "command_line"}


def test_every_field_of_a_recipe_is_an_option_with_its_default():
    assert {option.name for option in OPTIONS} >= set(RECIPE_PARSERS)
    assert [field.name for field in fields(Recipe)] == list(RECIPE_PARSERS)


@pytest.mark.parametrize("place", ["sweep", "calibration", "collect"])
def test_what_goes_on_record_is_what_the_command_has(place):
    recorded = SweepOptions().recorded(place)
    keys = [option.key for option in options_of(place) if option.name not in {*NOT_RECORDED, *RECIPE_PARSERS}]
    found = [*(key for key in recorded if key != "recipe"), *recorded.get("recipe", ())]
    own = {"out", "jobs"}  # of the run and not of its trials
    assert set(found) == {*keys, *(name for name in RECIPE_PARSERS if "recipe" in recorded)} - own
    assert ("recipe" in recorded) == (place == "sweep")


def rows(text):
    """Option → the cells beside it."""
    found = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            typed, *cells = (cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            found[typed.strip("`").split(" ")[0]] = cells
    return found


def test_the_documentation_has_every_option_of_every_command_and_nothing_else():
    studies, *commands = re.split(r"^## (?!Sweeps)", options_markdown(), flags=re.MULTILINE)
    assert list(rows(studies)) == [option.flag for option in options_of(*STUDIES)]
    for option in options_of(*STUDIES):
        meaning, default, marks = rows(studies)[option.flag]
        assert meaning == option.help
        assert default == default_words(option, STUDIES) or default in {"none", "off"}
        assert marks == " ".join(f"`-m {study}`" for study in STUDIES if study in option.places)
    assert [text.splitlines()[0] for text in commands] == [
        place.command for name, place in PLACES.items() if name not in STUDIES
    ]
    for name, text in zip([name for name in PLACES if name not in STUDIES], commands, strict=True):
        assert list(rows(text)) == [option.flag for option in options_of(name)]
        for option in options_of(name):
            meaning, default = rows(text)[option.flag]
            assert meaning == option.help
            assert default == default_words(option, (name,)) or default in {"none", "off", "required"}


def test_a_default_that_differs_between_studies_is_shown_for_both():
    (attempts,) = (option for option in options_of("sweep") if option.name == "attempts")
    assert help_text(attempts, *STUDIES).endswith("Default: 1; calibration: 2.")
    assert help_text(attempts, "calibration").endswith("Default: 2.")
