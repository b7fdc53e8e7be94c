"""What the receipts of every steer measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from capvec.records import Measured, Outcome
from capvec.report.section import Paragraph, Section, Table, left, right
from capvec.steering import Op
from capvec.text import number

_QUANTITIES: dict[Op, str] = {"add": "shift", "ablate": "level", "set": "level"}
_NOTE = (
    "Measured inside the forward pass, at the input of the next block, over the steered positions. Where a steer adds, "
    "the quantity is the shift ⟨h_out − h_in, d⟩, expected to be α·‖v‖. Where it ablates or sets, the quantity is the "
    "level ⟨h_out, d⟩, expected to be 0 or α·‖v‖. Where the norm is kept, both are measured with the rescaling undone. "
    "Where no number is expected (steers of different operations or positions at one layer), the output was compared "
    "with the formula at every position. Positions that were not to be steered were checked to be unchanged, also in "
    "replies without a steer."
)


def receipts_section(outcomes: Sequence[Outcome]) -> Section | None:
    """A row for each steer; None where nothing was steered."""
    groups: defaultdict[tuple[str, int, Op], list[Measured]] = defaultdict(list)
    for outcome in outcomes:
        for measured in outcome.measured:
            groups[outcome.config, measured.layer, measured.op].append(measured)
    if not groups:
        return None
    columns = (
        *left("config"),
        *right("layer", "trials"),
        *left("quantity"),
        *right("expected", "measured, min to max"),
    )
    rows = tuple(
        (config, str(layer), str(len(group)), _QUANTITIES[op], number(group[0].expected, 4), _span(group))
        for (config, layer, op), group in groups.items()
    )
    return Section("receipts", "Receipts", (Table(columns, rows), Paragraph(_NOTE)))


def _span(group: Sequence[Measured]) -> str:
    means = [measured.mean for measured in group if measured.mean is not None]
    return f"{min(means):.4f} to {max(means):.4f}" if means else "–"
