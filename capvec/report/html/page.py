"""The page: the sections of `RESULTS.md`, with charts where a chart says more, and the trajectories."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from capvec import __version__
from capvec.report.html import charts
from capvec.report.html.canvas import Chart, asset, chart_style
from capvec.report.html.data import RunReport, Section, sections
from capvec.report.html.direction_chart import auc_by_layer
from capvec.report.html.markup import Markup, element, inline, join, markdown, script_json
from capvec.report.html.matrix import matrix
from capvec.report.html.matrix_chart import task_by_config
from capvec.report.html.viewer import Embedded, embed

WIDE, NARROW = 860, 336
"""Widths of a chart in px: on a desk, and on a phone of 360."""
Draw = Callable[[int], Chart | None]


def write_html(report: RunReport) -> None:
    """Write `report.html` and `plots/*.svg` into the run folder."""
    folder = report.plan.folder
    folder.joinpath("report.html").write_text(page(report), encoding="utf-8")
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    names = [config.name for config in report.plan.configs]
    whole: Draw = partial(task_by_config, report.splits, names, report.cells)  # in the page it is a table
    for draw in [*drawings(report).values(), whole]:
        if (chart := draw(WIDE)) is not None:
            svg = chart.svg(standalone=True)
            (plots / f"{chart.name}.svg").write_text(f"{svg}\n", encoding="utf-8")


def drawings(report: RunReport) -> dict[str, Draw]:
    """Section → how to draw its chart; a drawing gives None where the run has nothing to show."""
    rows, base = report.summary["configs"], report.summary["baseline"]
    return {
        "Verdict": partial(charts.differences, [row for row in rows if _judged(report, row["config"])]),
        "Results": partial(charts.pass_rates, rows, report.kinds, base),
        "Dose and response": partial(charts.dose_response, rows, report.plan.configs, base),
        "The direction": partial(auc_by_layer, report.ranking(), report.steered_layers),
        "Controls": partial(charts.twins, report.summary.get("matched_controls", ())),
    }


def page(report: RunReport) -> str:
    """The whole document; the same run gives the same text."""
    head, *told = sections(report.results)
    embedded = embed(report.plan.folder / "trajectories", report.outcomes)
    parts = [_verdict(report, head), *_body(report, told, embedded), _viewer(report, embedded)]
    shown = [(ident, title, content) for ident, title, content in parts if content]
    style = Markup(asset("page.css") + chart_style())
    script = Markup(asset("viewer.js"))
    return (
        "<!doctype html>\n"
        + element(
            "html",
            element(
                "head",
                element("meta", charset="utf-8"),
                element("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
                element("meta", name="viewport", content="width=device-width, initial-scale=1"),
                element("meta", name="generator", content=f"capvec {__version__}"),
                element("title", f"{head.title}: capvec"),
                element("style", style),
            ),
            element(
                "body",
                element("header", element("h1", head.title), element("p", _about(report), class_="meta")),
                element("nav", _contents([(ident, title) for ident, title, _ in shown]), aria_label="Contents"),
                element(
                    "main",
                    [
                        element("section", element("h2", title, id=f"{ident}-title"), content, **_named(ident))
                        for ident, title, content in shown
                    ],
                ),
                element("footer", element("p", _closing(), class_="meta")),
                element("script", script) if any(ident == "trajectories" for ident, _, _ in shown) else "",
            ),
            lang="en",
        )
        + "\n"
    )


def _policy(style: str, script: str) -> str:
    """Nothing may load, and nothing runs but the page's own script and style, whatever a model wrote."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _named(ident: str) -> dict[str, object]:
    return {"id": ident, "aria_labelledby": f"{ident}-title"}


def _about(report: RunReport) -> str:
    tasks, configs = report.plan.tasks, report.plan.configs
    return (
        f"Model {report.plan.settings.model}, {len(tasks)} tasks, {len(configs)} configs, {len(report.outcomes)} trials"
    )


def _closing() -> str:
    return (
        f"Written by capvec {__version__} from trials.jsonl. This page loads nothing. Its numbers are those of "
        "the run's RESULTS.md and summary.json; its charts are in plots/."
    )


def _contents(entries: Sequence[tuple[str, str]]) -> Markup:
    return element("ul", [element("li", element("a", title, href=f"#{ident}")) for ident, title in entries])


# ------------------------------------------------------------------------------------------------ sections


def _verdict(report: RunReport, head: Section) -> tuple[str, str, Markup]:
    """What stands above the first section; the calls, where there are some, as a list of their own."""
    status = next((line for line in head.lines if line.startswith("**Status:**")), "").removeprefix("**Status:**")
    calls = [row for row in report.summary["configs"] if row.get("verdict") and _judged(report, row["config"])]
    rest = [line for line in head.lines if not line.startswith(("**Status:**", "**Warning:**", "- "))]
    content = join(
        [
            element("p", inline(status.strip()), class_="status"),
            *(element("p", warning, class_="warning") for warning in report.summary.get("warnings", ())),
            element("ul", [_call(row["config"], row["verdict"]) for row in calls], class_="calls") if calls else "",
            _figure(drawings(report)["Verdict"]),
            markdown(rest),
        ]
    )
    return "verdict", "Verdict", content


def _judged(report: RunReport, config: str) -> bool:
    """Whether a call is of the family: those of controls are not the verdict."""
    return config in report.summary.get("comparisons", [config])


def _call(config: str, call: dict[str, str]) -> Markup:
    kind = {"improves": "good", "harms": "bad"}.get(call["name"])
    name, _, words = call["words"].partition(":")
    return element("li", element("span", config, class_="config"), element("b", name), f":{words}.", class_=kind)


def _body(report: RunReport, told: Sequence[Section], embedded: Embedded) -> Iterator[tuple[str, str, Markup]]:
    """Every section of `RESULTS.md`, in the page's order; those it does not know follow in theirs."""
    left = {section.title: markdown(section.lines) for section in told}
    draw = drawings(report)
    known: dict[str, Callable[[Markup], Markup]] = {
        "What it means": lambda text: text,
        "What was done": lambda text: text,
        "Results": lambda text: join([_figure(draw["Results"]), text]),
        "What stands behind it": lambda text: _folded("Other tests, other outcomes, other readings, drift", text),
        "Task by config": lambda _: matrix(
            report, {(one["task"], one["config"], one["attempt"]) for one in embedded.trials}
        ),
        "By family": lambda text: _folded("Solved of valid trials, by split and family", text),
        "Dose and response": lambda _: _figure(draw["Dose and response"]),
        "The direction": lambda text: join([_figure(draw["The direction"]), text]),
        "The contrast": lambda text: _folded("What each rule kept, and what else tells the classes apart", text),
        "Controls": lambda text: join([_figure(draw["Controls"]), text]),
    }
    last = ("Caveats", "Receipts", "Gates", "Errors of the instrument")
    for title, make in known.items():
        if title in left or title == "Dose and response":
            yield _ident(title), title, make(left.pop(title, Markup()))
    others = [title for title in left if title not in last]
    yield from ((_ident(title), title, left[title]) for title in (*others, *last) if title in left)


def _ident(title: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())


def _folded(summary: str, content: Markup) -> Markup:
    return element("details", element("summary", summary), content)


def _figure(draw: Draw) -> Markup:
    """A chart in both widths, of which the style sheet shows one."""
    wide, narrow = draw(WIDE), draw(NARROW)
    if wide is None or narrow is None:
        return Markup()
    return element(
        "figure",
        element("div", wide.svg(), class_="wide"),
        element("div", narrow.svg(suffix="-narrow"), class_="narrow"),
        element("figcaption", wide.caption),
        id=f"chart-{wide.name}",
    )


# ------------------------------------------------------------------------------------------------ trajectories


def _viewer(report: RunReport, embedded: Embedded) -> tuple[str, str, Markup]:
    if not embedded.trials:
        return "trajectories", "Trajectories", Markup()
    return "trajectories", "Trajectories", join(list(_viewer_parts(report, embedded)))


def _viewer_parts(report: RunReport, embedded: Embedded) -> Iterator[Markup]:
    yield element(
        "p",
        "Two configs of the same task and attempt, which share a seed, step by step. ",
        embedded.in_words(),
        class_="note",
    )
    yield element("noscript", element("p", "The viewer needs JavaScript; trajectories/ holds the files."))
    picks = (("task", "task"), ("attempt", "attempt"), ("left", "left"), ("right", "right"))
    yield element(
        "div",
        [element("label", name, element("select", id=ident), for_=ident) for ident, name in picks],
        class_="picks",
    )
    turns = (("before", "← previous task"), ("after", "next task →"), ("jump", "where they part ↓"))
    yield element("div", [element("button", text, type="button", id=ident) for ident, text in turns], class_="turns")
    yield element("p", id="told", class_="told", aria_live="polite")
    yield element("div", id="steps")
    data = embedded.to_json([task.name for task in report.plan.tasks], [config.name for config in report.plan.configs])
    yield element("script", script_json(data), type="application/json", id="trials")
