"""The contrast: what each rule kept, and what else separates the classes."""

from __future__ import annotations

from collections.abc import Sequence

from capvec.directions.audit import Audit, Confound
from capvec.directions.contrast import Contrast, ContrastRecord, RuleCount
from capvec.report.direction import steered_layers
from capvec.report.section import Block, Code, Markdown, Paragraph, Row, Section, Strong, Table, left, right
from capvec.results.results import Results
from capvec.text import number, p_value


def contrast_section(results: Results) -> Section | None:
    """At the steered layers, or the best; None for a direction that was not built from traces here."""
    direction = results.direction
    if direction.contrast is None or direction.audit is None:
        return None
    best = direction.ranking.best.layer if direction.ranking else 0
    layers = sorted(steered_layers(results.plan)) or [best]
    folded = "What each rule kept, and what else separates the classes"
    blocks = contrast_blocks(direction.contrast, direction.audit, layers)
    return Section("contrast", "The contrast", blocks, folded=folded)


def contrast_blocks(contrast: ContrastRecord, audit: Audit, layers: Sequence[int]) -> tuple[Block, ...]:
    """The rules in their order, then the confounds.

    Args:
        contrast: as recorded.
        audit: of it.
        layers: at which to say what the direction separates.
    """
    blocks: list[Block] = [
        Paragraph(
            (
                Code(contrast.name),
                " of the model ",
                Code(contrast.model),
                ", hash ",
                Code(contrast.hash),
                f": {len(contrast.positives)} positive and {len(contrast.negatives)} negative traces"
                f"{' in pairs' if contrast.paired else ''}. The rules, in their order:",
            )
        ),
        rule_table(contrast),
    ]
    if unknown := contrast.unknown_in_words():
        blocks.append(Paragraph(Markdown(unknown)))
    columns = (
        *left("confound"),
        *right("values", "shared", "AUC alone", "95 % of the null", "p", *(f"layer {layer}" for layer in layers)),
        *left("remark"),
    )
    rows = tuple(_confound_row(confound, audit.explains(confound), layers) for confound in audit.confounds)
    blocks += [
        Paragraph("What else separates positives from negatives, and what else the direction separates:"),
        Table(columns, rows),
        Paragraph(_note(audit)),
    ]
    return tuple(blocks)


def _note(audit: Audit) -> tuple[str | Code, ...]:
    return (
        "AUC alone: in sample, of the best score that the task, the model or the length can give. The null permutes "
        f"the labels and chooses the score again. A confound is flagged from {audit.confound_auc:g} (",
        Code("--confound-auc"),
        f") at p < {audit.confound_p:g} (",
        Code("--confound-p"),
        "), and at any p where it separates the classes completely. At a layer: within the classes, Spearman's ρ of a "
        "number with the projection on the direction, or the share η² of the variance of the projection that lies "
        "between tasks or models, with its value by chance.",
    )


def rule_table(contrast: Contrast | ContrastRecord) -> Table:
    """One row for each rule."""
    rows = tuple(
        (Markdown(rule.rule), str(rule.kept), str(sum(rule.dropped.values())), Markdown(_reasons(rule)))
        for rule in contrast.rules
    )
    return Table((*left("rule"), *right("kept", "dropped"), *left("why")), rows)


def _reasons(rule: RuleCount) -> str:
    if len(rule.dropped) == 1:
        return next(iter(rule.dropped))
    return "; ".join(f"{count} {reason}" for reason, count in rule.dropped.items())


def _confound_row(confound: Confound, flagged: bool, layers: Sequence[int]) -> Row:
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
        Strong("flagged") if flagged else "",
    )


def _association(confound: Confound, layer: int) -> str:
    if not confound.association or (found := confound.association[layer]) is None:
        return "–"
    if confound.is_number:
        return f"ρ = {found:.2f}".replace("-", "−")
    return f"η² = {found:.2f} (chance {confound.association_null[layer]:.2f})"
