"""The model card of a published direction: what it is, what was measured, and how to use it.

The card is made of the sections of the report, from the same `Results`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from capvec.directions.metadata import LAYER_CONVENTION
from capvec.engines.protocol import EngineInfo
from capvec.plan.configs import layers_label
from capvec.plan.plan import Plan
from capvec.publish.usage import Usage, usage_of
from capvec.report.caveats import caveats
from capvec.report.completion import gates_section
from capvec.report.config_table import config_table
from capvec.report.controls import controls_section
from capvec.report.direction import ranking_blocks, steered_layers
from capvec.report.markdown import block_lines, escape, section_lines
from capvec.report.method import method_section
from capvec.report.section import Block, Bullets, Code, Inline, Markdown, Paragraph, Program, Section, Strong, Text
from capvec.report.verdict import findings, verdict
from capvec.results.direction import DirectionSummary
from capvec.results.results import Results
from capvec.stats.summary import Summary
from capvec.text import counted

_HUB_NAMES = dict.fromkeys(("pocket", "pocket-base"), "HuggingFaceTB/SmolLM2-135M-Instruct")
"""Of the bundled models, which are on no hub: what they were made from."""


def model_card(results: Results, engine: EngineInfo, license_id: str) -> str:
    """The whole `README.md`.

    Args:
        results: of the run.
        engine: the engine and its model.
        license_id: as the Hugging Face hub names licenses.
    """
    plan, ranking = results.plan, results.direction.ranking
    head = [
        *("---", f"license: {_yaml(license_id)}", f"base_model: {_yaml(_HUB_NAMES.get(engine.model, engine.model))}"),
        "tags:",
        *("- activation-steering", "- steering-vector", "- capvec", "---", ""),
        *(f"# {escape(f'{plan.run}: a steering vector for {engine.model}')}", ""),
    ]
    summary = [line for block in _in_short(results, engine) for line in (*block_lines(block), "")]
    sections = [_measured(results)]
    if ranking is not None:
        note = "These p-values are about the traces that the direction was built from, not about what it does."
        blocks = (*ranking_blocks(ranking, steered_layers(plan)), Paragraph(note))
        sections.append(Section("layers", "Its layers", blocks))
    sections += [_use(usage_of(plan.configs, engine), results.summary), _caveats(results)]
    sections.append(_files(plan, ranked=ranking is not None))
    return "\n".join([*head, *summary, *section_lines(sections)]).rstrip("\n") + "\n"


def _yaml(text: str) -> str:
    """A text in YAML, in quotes where it may be more than one."""
    return text if re.fullmatch(r"[A-Za-z][\w./-]*", text, re.ASCII) else json.dumps(text)


def _in_short(results: Results, engine: EngineInfo) -> Iterator[Block]:
    """What else the direction may encode, where it was tried, and the verdict."""
    direction = results.direction
    answer: tuple[Inline, ...] = (Strong("Verdict on solving tasks:"), f" {verdict(results.summary)}")
    yield Paragraph((*_confounds(direction), f" {_tried(results.plan, engine)} ", *answer))
    yield Paragraph(
        (
            Markdown(direction.description),
            " Row L of ",
            Code("directions"),
            " in ",
            Code("vectors/dir.pt"),
            ", float32 ",
            Code(f"[{engine.n_layers}, {engine.d_model}]"),
            f", is for the {LAYER_CONVENTION}. Hash ",
            Code(direction.hash),
            ".",
        )
    )


def _confounds(direction: DirectionSummary) -> tuple[Inline, ...]:
    """What else separates the classes of the contrast; if there was no audit, that."""
    audit = direction.audit
    if audit is None:
        why = " There is no audit of the traces that the direction was built from, so it may encode something else."
        return Strong("Confounds: not known."), why
    if not audit.flags:
        names = ", ".join(confound.name for confound in audit.confounds)
        limits = f"with an AUC of {audit.confound_auc:g} or more at p < {audit.confound_p:g}"
        return Strong("Confounds: none flagged."), f" None of {names} alone tells positives from negatives {limits}."
    found = "; ".join(confound.finding() for confound in audit.flagged)
    these = "this confound" if len(audit.flagged) == 1 else "these confounds"
    why = f" in the traces that it was built from, {found}. The direction may encode {these} instead."
    return Strong("Confounded:"), why


def _tried(plan: Plan, engine: EngineInfo) -> str:
    """The layers, the model and the number of tasks."""
    steered = [config for config in plan.configs if config.kind == "steered"]
    if not steered:
        return "No config of this run steered with it."
    where = list(dict.fromkeys(layers_label([steer.layer for steer in config.steers]) for config in steered))
    layers = f"layer{'s' if len(where) > 1 or '+' in where[0] else ''} {', '.join(where)}"
    return (
        f"It was tried at {layers} of {engine.model} (decoder blocks, counted from 0), on "
        f"{counted(len(plan.tasks), 'task')}, against the same model unsteered."
    )


def _measured(results: Results) -> Section:
    plan, summary = results.plan, results.summary
    controls, gates = controls_section(results), gates_section(results)
    note = (
        "parse_fail (replies that could not be parsed) and no_cmd (replies without a command) are per run. Dose is "
        "|α|·‖v‖ over the mean norm of the residual. Fisher's p is pooled over tasks and not corrected. The verdicts "
        "are from the sign-flip test over tasks, corrected for the number of configs:"
    )
    blocks: list[Block] = [*method_section(results).blocks, config_table(summary.configs, plan), Paragraph(note)]
    blocks += [findings(summary), *(controls.brief if controls else ())]
    if gates is not None:
        blocks += [Paragraph("Gates:"), *gates.blocks]
    return Section("measured", "What was measured", tuple(blocks))


def _use(usage: Usage | None, summary: Summary) -> Section:
    if usage is None:
        blocks: list[Block] = [Paragraph("No config of this run steered, so there is no strength to recommend.")]
        return Section("use", "How to use it", tuple(blocks))
    name = next((one.name for one in findings(summary).items if one.config == usage.config), None)
    result = f" (its verdict: {name})" if name else ""
    what: Text = ("What the config ", Code(usage.config), f" did, with transformers{usage.difference}{result}:")
    blocks = [Paragraph(what), Program("python", usage.snippet)]
    if usage.llama_cpp:
        blocks += [
            Paragraph("The same with llama.cpp, which takes no vector for layer 0:"),
            Program("sh", f"{usage.llama_cpp}\n"),
        ]
    return Section("use", "How to use it", tuple(blocks))


def _caveats(results: Results) -> Section:
    """Without those of the confounds, with which the card begins."""
    audit = results.direction.audit
    markers = tuple(confound.marker for confound in audit.flagged) if audit else ()
    items = [one for one in caveats(results) if not (isinstance(one, Markdown) and one.source.startswith(markers))]
    return Section("caveats", "Caveats", (Bullets(tuple(items)),))


def _files(plan: Plan, *, ranked: bool) -> Section:
    vectors: Text = (
        Code("vectors/dir.pt"),
        ", ",
        Code("vectors/dir.safetensors"),
        ": the direction; both load without running code",
    )
    llama: Text = (
        Code("vectors/dir.gguf"),
        ": a control vector for llama.cpp and repeng; v_0 is under the key ",
        Code("capvec.direction_0"),
        ", because llama.cpp takes no vector for layer 0",
    )
    items: list[Text] = [vectors, llama]
    if ranked:
        items.append((Code("vectors/ranking.csv"), ": every layer with its validation"))
    items.append((Code("RESULTS.md"), ": the whole report"))
    items.append((Code("report.html"), ": the same with charts, and trajectories side by side, for a browser"))
    items.append((Code("plots/"), ": its charts, as SVG"))
    items.append((Code(f"results/{plan.run}/master_summary.csv"), ": one row per trial"))
    return Section("files", "Files", (Bullets(tuple(items)),))
