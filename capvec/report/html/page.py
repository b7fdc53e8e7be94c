"""`report.html`: one file that loads nothing, with charts in two widths and the trajectories side by side."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from capvec import __version__
from capvec.report.html.environment import asset, environment
from capvec.report.html.viewer import Embedded
from capvec.report.section import Report


def page(report: Report, trials: Embedded, tasks: Sequence[str], configs: Sequence[str]) -> str:
    """The whole document. The same report gives the same text.

    Args:
        report: to draw.
        trials: for the viewer.
        tasks: names, in the plan's order.
        configs: names, in the plan's order.
    """
    style = Markup(asset("html/page.css") + asset("charts/chart.css"))
    script = Markup(asset("html/viewer.js"))
    return (
        environment()
        .get_template("page.html")
        .render(
            report=report,
            sections=[section for section in report.sections if section.blocks],
            trials=trials,
            tasks=tasks,
            configs=configs,
            viewable={(trial["task"], trial["config"], trial["attempt"]) for trial in trials.trials},
            version=__version__,
            style=style,
            script=script,
            policy=_policy(style, script),
        )
    )


def _policy(style: str, script: str) -> str:
    """Nothing loads, and only the page's own script runs, for any text of a model."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
