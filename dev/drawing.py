"""The drawing of the folders and their imports, as SVG: `docs/develop/architecture.svg`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from dev import architecture

WIDTH, BOX, HEIGHT, STEP, LEFT = 960, 212, 50, 88, 120
COLUMNS: Mapping[str, float] = {
    **{"tasks": 0, "sandbox": 1, "engines": 2, "stats": 2.94, "battery": 0, "agent": 1, "models": 2, "traces": 1},
    **{"directions": 1.5, "harnesses": 2.5, "plan": 1.5, "results": 1.5, "run": 1, "report": 2, "studies": 1},
    **{"publish": 2, "setup": 3, "commands": 2, "pytest_plugin": 1},
}
"""Folder → where it stands in its row, from 0 on the left to 3 on the right."""
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1c2733; text-anchor: middle }
.name { font: 600 15px ui-monospace, monospace }
rect { fill: #e8eef6; stroke: #7d93ad }
.ground { fill: #f3eee2; stroke: #b3a37c }
path { fill: none; stroke: #7d8894; stroke-width: 1.6; marker-end: url(#head) }
#head path { fill: #7d8894; stroke: none; marker-end: none }"""


def drawing() -> str:
    """The SVG: a row of boxes for each row of the flow, and an arrow from each folder to those that import it."""
    height = STEP * len(architecture.FLOW) + 20
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'role="img" aria-label="The folders of capvec in the order of the flow, with their imports">',
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            'orient="auto"><path d="M0 0 10 5 0 10z"/></marker></defs>',
            *_ground(),
            *_arrows(),
            *_boxes(),
            "</svg>",
            "",
        ]
    )


def _ground() -> Iterator[str]:
    names = "  ".join(architecture.FLOW[0])
    yield f'<rect class="ground" x="14" y="10" width="{WIDTH - 28}" height="{HEIGHT}" rx="8"/>'
    yield f'<text class="name" x="{WIDTH / 2:g}" y="31">{names}</text>'
    yield f'<text x="{WIDTH / 2:g}" y="50">the ground: single modules that every folder may import</text>'


def _centre(name: str) -> tuple[float, float]:
    """Where the middle of a folder's upper edge is, in pixels."""
    return LEFT + COLUMNS[name] * 240, 10 + architecture.row(name) * STEP


def _boxes() -> Iterator[str]:
    for row in architecture.FLOW[1:]:
        for name, what in row.items():
            x, y = _centre(name)
            yield f'<rect x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="8"/>'
            yield f'<text class="name" x="{x:g}" y="{y + 21:g}">{name}</text>'
            yield f'<text x="{x:g}" y="{y + 40:g}">{escape(what)}</text>'


def _arrows() -> Iterator[str]:
    """Lines that turn in the gaps between rows: late, or early where a box below the imported folder is in the way."""
    found = architecture.arrows(architecture.imports())
    for importer in (name for row in architecture.FLOW[1:] for name in row):
        for imported in sorted(found[importer]):
            (x1, top), (x2, y2) = _centre(imported), _centre(importer)
            gap = (STEP - HEIGHT) / 2
            between = range(architecture.row(imported) + 1, architecture.row(importer))
            blocked = any(abs(_centre(name)[0] - x1) < BOX / 2 for row in between for name in architecture.FLOW[row])
            turn = top + HEIGHT + gap if blocked else y2 - gap
            yield f'<path d="{_line(x1, top + HEIGHT, turn, x2, y2)}"/>'


def _line(x1: float, y1: float, turn: float, x2: float, y2: float) -> str:
    """Down, across at the height `turn` with round corners, and down again."""
    if x1 == x2:
        return f"M{x1:g} {y1:g}V{y2:g}"
    radius = 9 if x2 > x1 else -9
    return (
        f"M{x1:g} {y1:g}V{turn - 9:g}Q{x1:g} {turn:g} {x1 + radius:g} {turn:g}"
        f"H{x2 - radius:g}Q{x2:g} {turn:g} {x2:g} {turn + 9:g}V{y2:g}"
    )
