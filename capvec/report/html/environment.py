"""The templates of the page and of the charts. Jinja2 escapes every value that is not marked as markup."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup, escape

from capvec.records import Outcome
from capvec.report.charts.canvas import Chart, Mark
from capvec.report.section import Finding, TrialMatrix, parts
from capvec.report.trial_matrix import MARKS
from capvec.tasks.splits import UNKNOWN
from capvec.text import visible

_TALL = 24
"""Tasks above which the matrix scrolls by itself."""
_VARIABLE = re.compile(r"--([\w-]+):\s*([^;]+);")


@cache
def environment() -> Environment:
    """With the filters and tests that the templates use."""
    found = Environment(
        loader=PackageLoader("capvec.report.html"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # markup is a subclass
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    # ASCII alone, so that U+2028 and lone surrogates reach the page as they were.
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": True, "allow_nan": False, "separators": (",", ":")}
    found.filters |= {
        "parts": parts,
        "kind": lambda value: type(value).__name__,
        "markdown": _markdown,
        "colour": _colour,
        "all_solved": lambda trials: bool(trials) and all(trial.outcome == "solved" for trial in trials),
        "mark": lambda trial: MARKS[trial.outcome],
        "place": _place,
        "elements": _elements,
    }
    found.tests |= {
        "tall": lambda matrix: sum(map(len, matrix.splits.values())) > _TALL,
        "split": lambda matrix: list(matrix.splits) != [UNKNOWN],
    }
    return found


def svg(chart: Chart) -> str:
    """A chart as a file of its own, in light colours."""
    template = environment().get_template("chart.svg")
    return template.render(chart=chart, suffix="", light=Markup(_light_style()))


def asset(path: str) -> str:
    """The text of a file of `capvec.report`."""
    return resources.files("capvec.report").joinpath(path).read_text(encoding="utf-8")


@cache
def _inline_markdown() -> MarkdownIt:
    """Code, emphasis and escapes. Links, images and HTML stay text."""
    return MarkdownIt("zero").enable(["backticks", "emphasis", "escape", "entity"])


def _markdown(source: str) -> Markup:
    return Markup(_inline_markdown().renderInline(" ".join(visible(source).split())))


def _colour(finding: Finding) -> str | None:
    return {"improves": "good", "harms": "bad"}.get(finding.name)


def _elements(marks: Iterable[Mark]) -> Markup:
    """The elements of a chart. A matrix has one for each trial, for which a loop in the template takes much longer."""
    return Markup("".join(map(_element, marks)))


def _element(mark: Mark) -> str:
    given = (_attribute(name, value) for name, value in mark.attributes.items() if value is not None)
    tip = f"<title>{_shown(mark.tip)}</title>" if mark.tip else ""
    return f"<{mark.tag}{''.join(given)}>{tip}{_shown(mark.text) if mark.text else ''}</{mark.tag}>"


@lru_cache(1 << 12, typed=True)
def _attribute(name: str, value: str | float) -> str:
    """Marks of a matrix are in few rows and columns."""
    return f' {name}="{_shown(value)}"'


def _shown(value: object) -> Markup:
    return escape(visible(str(value)))


def _place(matrix: TrialMatrix, trial: Outcome) -> str:
    """Of the trial in the viewer, whose script reads it from `location.hash`."""
    base = matrix.baseline
    other = trial.config if trial.config != base else next((name for name in matrix.configs if name != base), base)
    return "/".join(map(_quoted, map(visible, (trial.task, str(trial.attempt), base, other))))


@lru_cache(1 << 12)
def _quoted(part: str) -> str:
    return quote(part, safe="")


@cache
def _light_style() -> str:
    """The charts' style sheet with the light colours in place of the variables.

    The first block of the page's style sheet defines all of them.
    """
    block = asset("html/page.css").partition("}")[0]
    colours = {match[1]: match[2].strip() for match in _VARIABLE.finditer(block)}
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colours[match[1]], asset("charts/chart.css"))
