"""The report's section on the contrast: what each rule kept, and what else tells the classes apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.directions.audit import Audit, Confound
from capvec.directions.contrast import Contrast, ContrastRecord, RuleCount
from capvec.report.table import markdown_table
from capvec.text import number, p_value


def contrast_section(contrast: ContrastRecord, audit: Audit, layers: Sequence[int]) -> Iterator[str]:
    """Markdown lines.

    Args:
        contrast: as it is on record.
        audit: of it.
        layers: at which to say what the direction separates.
    """
    yield "## The contrast\n"
    yield (
        f"`{contrast.name}` of the model `{contrast.model}`, hash `{contrast.hash}`: {len(contrast.positives)} "
        f"positive and {len(contrast.negatives)} negative traces{' in pairs' if contrast.paired else ''}. "
        "Rules, in their order:\n"
    )
    yield from markdown_table(rule_rows(contrast))
    if unknown := contrast.unknown_in_words():
        yield f"\n{unknown}"
    yield "\nWhat else tells positives from negatives, and what else the direction separates:\n"
    yield from markdown_table(
        [
            ("", "values", "shared", "AUC alone", "95 % of the null", "p", *(f"layer {layer}" for layer in layers), ""),
            *(_confound_row(confound, audit.explains(confound), layers) for confound in audit.confounds),
        ]
    )
    yield (
        "\nAUC alone: in sample, of the best score that the task, the model or the length can give; the null permutes "
        f"the labels and chooses the score again. Flagged from {audit.confound_auc:g} (`--confound-auc`) at "
        f"p < {audit.confound_p:g} (`--confound-p`), and at any p where it separates them wholly. At a layer: within "
        "the classes, Spearman's ρ of a number with the projection on the direction, or the share η² of the "
        "projection's variance that lies between tasks or models, and what that is by chance.\n"
    )


def rule_rows(contrast: Contrast | ContrastRecord) -> list[tuple[str, ...]]:
    """One row for each rule, the head first."""
    rows = [(rule.rule, str(rule.kept), str(sum(rule.dropped.values())), _reasons(rule)) for rule in contrast.rules]
    return [("rule", "kept", "dropped", "why"), *rows]


def _reasons(rule: RuleCount) -> str:
    if len(rule.dropped) == 1:
        return next(iter(rule.dropped))
    return "; ".join(f"{count} {reason}" for reason, count in rule.dropped.items())


def _confound_row(confound: Confound, flagged: bool, layers: Sequence[int]) -> tuple[str, ...]:
    if confound.values == 1:
        return (confound.name, "1", "1", *("–" for _ in range(3 + len(layers))), "the same in every trace")
    return (
        f"{confound.name}{f' (more in {confound.more})' if confound.more else ''}",
        str(confound.values),
        str(confound.shared),
        number(confound.auc, 3),
        number(confound.auc_null_p95, 3),
        p_value(confound.p_value),
        *(_association(confound, layer) for layer in layers),
        "**flagged**" if flagged else "",
    )


def _association(confound: Confound, layer: int) -> str:
    if not confound.association or (found := confound.association[layer]) is None:
        return "–"
    if confound.is_number:
        return f"ρ = {found:.2f}"
    return f"η² = {found:.2f} (chance {confound.association_null[layer]:.2f})"
