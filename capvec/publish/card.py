"""The model card of a published direction: what it is, what was measured, and how to use it.

Every sentence about the direction or its effect is made from the run's own numbers, and says no more than they do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from capvec.directions.audit import Audit
from capvec.directions.metadata import LAYER_CONVENTION
from capvec.directions.ranking import LEVEL
from capvec.publish.usage import Usage, usage_of
from capvec.report.markdown import block_lines
from capvec.report.section import Row, Table, left, right
from capvec.text import counted, number, p_in_words, p_value, signed

_HUB_NAMES = dict.fromkeys(("pocket", "pocket-base"), "HuggingFaceTB/SmolLM2-135M-Instruct")
"""Of the bundled models, which are on no hub: what they were made from."""
_RANKS = 5


def model_card(
    summary: Mapping[str, Any],
    provenance: Mapping[str, Any],
    ranking: Sequence[Mapping[str, str]],
    license_id: str,
    pages: Collection[str] = (),
) -> str:
    """The whole `README.md`.

    Args:
        summary: `summary.json` of the run.
        provenance: its `provenance.json`.
        ranking: the rows of `ranking.csv`, best first; empty for a direction that was loaded.
        license_id: as the Hugging Face hub names licenses.
        pages: which of `report.html` and `plots` the folder has.
    """
    usage = usage_of(provenance)
    sections = (
        _front_matter(provenance, license_id),
        _in_short(summary, provenance, ranking),
        _measured(summary, provenance),
        _layers(ranking),
        _use(usage, summary),
        _caveats(summary, provenance),
        _files(summary, ranking, pages),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _front_matter(provenance: Mapping[str, Any], license_id: str) -> Iterator[str]:
    model = str(provenance["model"]["model"])
    yield from ("---", f"license: {license_id}", f"base_model: {_HUB_NAMES.get(model, model)}", "tags:")
    yield from ("- activation-steering", "- steering-vector", "- capvec", "---\n")


def _in_short(
    summary: Mapping[str, Any], provenance: Mapping[str, Any], ranking: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    """The summary: what else the direction may encode, where it was tried, and the verdict."""
    model, direction = provenance["model"], provenance["direction"]
    yield f"# {summary['run']}: a steering vector for {model['model']}\n"
    yield f"{_confounds(direction)} {_tried(provenance)} **Verdict on solving tasks:** {summary['verdict']}\n"
    if ranking:
        steered = {str(steer["layer"]) for steer in _steers(provenance)}
        yield from (f"- {_rank(row, ranking)}" for row in ranking if row is ranking[0] or row["layer"] in steered)
        yield "\nSuch a p is about the traces that the direction was built from, not about what it does.\n"
    yield (
        f"{direction['description']} Row L of `directions` in `vectors/dir.pt`, float32 "
        f"`[{model['n_layers']}, {model['d_model']}]`, is for the {LAYER_CONVENTION}. Hash `{direction['hash']}`.\n"
    )


def _confounds(direction: Mapping[str, Any]) -> str:
    """What else tells the classes of the contrast apart; where no audit was made, that."""
    if not direction.get("audit"):
        why = (
            "The run is of an earlier capvec, which did not audit it"
            if direction["contrast"]
            else "It came from a file"
        )
        return f"**Confounds: not known.** {why}, so the direction may encode something else than the skill."
    audit = Audit.from_json(direction["audit"])
    if not audit.flags:
        names = ", ".join(confound.name for confound in audit.confounds)
        return (
            f"**Confounds: none flagged.** Of {names} none alone tells the positives from the negatives that it was "
            f"built from with an AUC of {audit.confound_auc:g} or more at p < {audit.confound_p:g}."
        )
    found = "; ".join(confound.finding() for confound in audit.flagged)
    return (
        f"**Confounded:** in the traces that it was built from, {found}. The direction may encode "
        "these confounds instead of the skill."
    )


def _tried(provenance: Mapping[str, Any]) -> str:
    """Where it was steered with."""
    steered = [config for config in provenance["configs"] if config["kind"] == "steered"]
    if not steered:
        return "No config of this run steered with it."
    where = list(dict.fromkeys("+".join(str(steer["layer"]) for steer in config["steers"]) for config in steered))
    layers = f"layer{'s' if len(where) > 1 or '+' in where[0] else ''} {', '.join(where)}"
    tasks = len(provenance["tasks"])
    return (
        f"It was tried at {layers} of {provenance['model']['model']} (decoder blocks, counted from 0), on {tasks} "
        f"task{'s' if tasks > 1 else ''}, against the same model unsteered."
    )


def _steers(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (steer for config in provenance["configs"] if config["kind"] == "steered" for steer in config["steers"])


def _rank(row: Mapping[str, str], ranking: Sequence[Mapping[str, str]]) -> str:
    """What the permutation test of a layer says, corrected for all layers that were looked at."""
    p = _corrected(row, len(ranking))
    word = "distinguishable" if p <= LEVEL else "not distinguishable"
    best = f", the best of {len(ranking)} by its ranking," if row is ranking[0] else ""
    return (
        f"At layer {row['layer']}{best} the direction is {word} from chance: label-permutation {p_in_words(p)}, "
        "corrected over layers."
    )


def _corrected(row: Mapping[str, str], layers: int) -> float:
    """The p-value of a layer, corrected for the number of layers; by Bonferroni where the ranking has no other."""
    if row.get("p_corrected"):
        return float(row["p_corrected"])
    return min(1.0, float(row["p_value"]) * layers)


def _measured(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[str]:
    configs = {config["name"]: config for config in provenance["configs"]}
    settings = provenance["settings"]
    yield "## What was measured\n"
    tasks, attempts = len(provenance["tasks"]), max(int(trial.rpartition("-t")[2]) for trial in provenance["seeds"])
    yield (
        f"{tasks} task{'s' if tasks > 1 else ''} in containers, {attempts} attempt{'s' if attempts > 1 else ''} each, "
        f"protocol `{settings['protocol']}`, prompt style `{settings['prompt_style']}`, at most "
        f"{settings['max_steps']} replies of {settings['max_tokens']} tokens, temperature {settings['temperature']:g}; "
        "every config of one (task, attempt) from the same seed. Errors are trials in which the "
        "infrastructure failed; they are excluded from rates.\n"
    )
    numbers = ("solved", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd", "dose", "Fisher p")
    rows = tuple(_row(row, configs[row["config"]]) for row in summary["configs"])
    yield from block_lines(Table((*left("config"), *right(*numbers)), rows))
    yield (
        '\nparse_fail (replies that the protocol could not parse) and no_cmd (replies that parsed, were not "done" and '
        "held no command) are per run; dose is |α|·‖v‖ over the mean norm of the residual. Fisher's p is against the "
        "baseline, on counts pooled over the tasks that both have valid trials of, and not corrected for the number of "
        "configs. The calls are by the sign-flip test over tasks, corrected:\n"
    )
    yield from (f"- {row['config']} {row['verdict']['words']}." for row in _called(summary))
    yield ""
    if checks := list(_checks(summary)):
        yield "Matched controls have the length of the vector and steer at its layer with its α. Checks:\n"
        yield from (f"- {check}" for check in checks)
        yield ""


def _checks(summary: Mapping[str, Any]) -> Iterator[str]:
    yield from (_ranked(one) for one in summary["matched_controls"] if one["metric"] == "pass_rate")
    for gate in summary["gates"]:
        yield f"{gate['condition']}: {'met' if gate['met'] else '**not met**'} ({gate['reason']})"


def _called(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows of `summary.json` whose calls are the verdict."""
    return [row for row in summary["configs"] if row["config"] in summary.get("comparisons", ()) and row.get("verdict")]


def _row(row: Mapping[str, Any], config: Mapping[str, Any]) -> Row:
    wilson, fisher = row["wilson"], row["fisher"]
    return (
        row["config"],
        f"{row['solved']}/{row['n']}",
        f"{wilson['low']:.2f}–{wilson['high']:.2f}" if wilson else "–",
        str(row["errors"]),
        number(row["mean_steps"], 1),
        number(row["parse_fail_per_run"], 1),
        number(row["no_cmd_per_run"], 1),
        number(config["dose"]),
        p_value(fisher["pvalue"] if fisher else None),
    )


def _ranked(one: Mapping[str, Any]) -> str:
    effects, place = list(one["controls"].values()), one["rank"]
    return (
        f"{one['config']} against {counted(len(effects), one['kind'] + ' control')}: pass rate "
        f"{signed(one['effect'])} from the baseline, theirs {signed(min(effects))} to {signed(max(effects))}; "
        f"{place['as_high']} of {len(effects)} solve as much or more, p = {number(place['p_higher'], 3)} (with so many "
        f"controls it cannot be below {1 / (1 + len(effects)):.3g})"
    )


def _layers(ranking: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """The best layers, each in-sample AUC beside its null: left out where there is none to show it with."""
    if not ranking:
        return
    columns = {
        "layer": "layer",
        "auc": "AUC in sample",
        "auc_null_p95": "95 % of its null",
        "cv_auc": "AUC on tasks left out",
        "p_value": "p",
        "p_corrected": "p, all layers",
        "margin_ratio": "margin / ambient",
    }
    if not ranking[0].get("auc_null_p95"):
        del columns["auc"]
    shown = {name: title for name, title in columns.items() if ranking[0].get(name)}
    yield "## Its layers\n"
    rows = tuple(tuple(_cell(name, row[name]) for name in shown) for row in ranking[:_RANKS])
    yield from block_lines(Table(right(*shown.values()), rows))
    if "auc" in shown:
        yield "\nAn in-sample AUC is no evidence by itself: directions refitted under permuted labels reach the null."
    yield "\nAll layers, best first, are in `vectors/ranking.csv`.\n"


def _cell(name: str, text: str) -> str:
    if name == "layer" or not text:
        return text or "–"
    return p_value(float(text)) if name.startswith("p_") else number(float(text), 3)


def _use(usage: Usage | None, summary: Mapping[str, Any]) -> Iterator[str]:
    yield "## How to use it\n"
    if usage is None:
        yield "No config of this run steered, so there is no strength to recommend.\n"
        return
    called = next((row["verdict"]["name"] for row in _called(summary) if row["config"] == usage.config), None)
    yield (
        f"What the config `{usage.config}` did, with transformers{usage.difference}"
        f"{f' (its verdict: {called})' if called else ''}:\n"
    )
    yield f"```python\n{usage.snippet}```\n"
    if usage.llama_cpp:
        yield f"The same with llama.cpp, which takes no vector for layer 0:\n\n```sh\n{usage.llama_cpp}\n```\n"


def _caveats(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[str]:
    """But for what the card begins with."""
    audit = provenance["direction"].get("audit")
    markers = tuple(confound.marker for confound in Audit.from_json(audit).flagged) if audit else ()
    yield "## Caveats\n"
    yield from (f"- {caveat}" for caveat in summary["caveats"] if not caveat.startswith(markers))
    yield ""


def _files(summary: Mapping[str, Any], ranking: Sequence[Mapping[str, str]], pages: Collection[str]) -> Iterator[str]:
    yield "## Files\n"
    yield "- `vectors/dir.pt`, `vectors/dir.safetensors`: the direction; both load without running code"
    yield (
        "- `vectors/dir.gguf`: a control vector for llama.cpp and repeng; llama.cpp takes none for layer 0, so v_0 is "
        "kept beside the others, under the key `capvec.direction_0`"
    )
    if ranking:
        yield "- `vectors/ranking.csv`: every layer with its validation"
    yield "- `RESULTS.md`: the whole write-up"
    if "report.html" in pages:
        yield "- `report.html`: the same with charts, and trajectories side by side; one file, for a browser"
    if "plots" in pages:
        yield "- `plots/`: its charts, as SVG"
    yield f"- `results/{summary['run']}/master_summary.csv`: one row per trial"
