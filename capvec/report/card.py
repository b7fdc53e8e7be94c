"""The model card of a published direction: what it is, what was measured, and how to use it.

Every sentence about the direction or its effect is made from the run's own numbers, and says no more than they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.directions.metadata import LAYER_CONVENTION
from capvec.report.table import markdown_table, number, p_value
from capvec.report.usage import Usage, usage_of

_HUB_NAMES = dict.fromkeys(("pocket", "pocket-base"), "HuggingFaceTB/SmolLM2-135M-Instruct")
"""Of the bundled models, which are on no hub: what they were made from."""
_LEVEL = 0.05
_RANKS = 5


def model_card(
    summary: Mapping[str, Any], provenance: Mapping[str, Any], ranking: Sequence[Mapping[str, str]], license_id: str
) -> str:
    """The whole `README.md`.

    Args:
        summary: `summary.json` of the run.
        provenance: its `provenance.json`.
        ranking: the rows of `ranking.csv`, best first; empty for a direction that was loaded.
        license_id: as the Hugging Face hub names licenses.
    """
    usage = usage_of(provenance)
    sections = (
        _front_matter(provenance, license_id),
        _in_short(summary, provenance, ranking),
        _measured(summary, provenance),
        _layers(ranking),
        _use(usage),
        _caveats(summary),
        _files(summary, ranking),
    )
    return "\n".join(line for section in sections for line in section) + "\n"


def _front_matter(provenance: Mapping[str, Any], license_id: str) -> Iterator[str]:
    model = str(provenance["model"]["model"])
    yield from ("---", f"license: {license_id}", f"base_model: {_HUB_NAMES.get(model, model)}", "tags:")
    yield from ("- activation-steering", "- steering-vector", "- capvec", "---\n")


def _in_short(
    summary: Mapping[str, Any], provenance: Mapping[str, Any], ranking: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    model, direction = provenance["model"], provenance["direction"]
    yield f"# {summary['run']}: a steering vector for {model['model']}\n"
    yield f"**Behaviour:** {summary['verdict']}\n"
    if ranking:
        yield f"**The direction itself:** {_direction_verdict(ranking)}\n"
    else:
        yield "**The direction itself:** it was loaded from a file, so this run says nothing about how it was built.\n"
    yield (
        f"{direction['description']} Row L of `directions` in `vectors/dir.pt`, float32 "
        f"`[{model['n_layers']}, {model['d_model']}]`, is for the {LAYER_CONVENTION}. Hash `{direction['hash']}`.\n"
    )


def _direction_verdict(ranking: Sequence[Mapping[str, str]]) -> str:
    """What the permutation test of the best layer says, over all layers that it was picked from."""
    best = ranking[0]
    p = _corrected(ranking)
    word = "distinguishable" if p <= _LEVEL else "not distinguishable"
    return (
        f"at layer {best['layer']}, the best of {len(ranking)}, it is {word} from chance: label-permutation p = "
        f"{p_value(p)}, corrected over layers. That is about the traces it was built from, not about what it does."
    )


def _corrected(ranking: Sequence[Mapping[str, str]]) -> float:
    """The p-value of the best layer, corrected for having been picked; by Bonferroni where the ranking has no other."""
    best = ranking[0]
    if best.get("p_corrected"):
        return float(best["p_corrected"])
    return min(1.0, float(best["p_value"]) * len(ranking))


def _measured(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> Iterator[str]:
    configs = {config["name"]: config for config in provenance["configs"]}
    settings = provenance["settings"]
    yield "## What was measured\n"
    yield (
        f"{len(provenance['tasks'])} tasks in containers, protocol `{settings['protocol']}`, temperature "
        f"{settings['temperature']:g}; every config of one (task, attempt) from the same seed. Errors are trials in "
        "which the instrument failed; they are in no rate.\n"
    )
    head = ("config", "solved", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd", "dose", "Fisher p")
    yield from markdown_table([head, *(_row(row, configs[row["config"]]) for row in summary["configs"])])
    yield "\nparse_fail and no_cmd are per run; dose is |α|·‖v‖ over the mean norm of the residual.\n"
    for twin in summary["twins"]:
        if twin["metric"] == "pass_rate":
            yield f"- {_twin(twin)}"
    for gate in summary["gates"]:
        yield f"- {gate['condition']}: {'met' if gate['met'] else '**not met**'} ({gate['reason']})"
    yield ""


def _row(row: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, ...]:
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


def _twin(twin: Mapping[str, Any]) -> str:
    effects, place = list(twin["twins"].values()), twin["rank"]
    return (
        f"{twin['config']} against {len(effects)} {twin['kind']} twin{'s' if len(effects) > 1 else ''}: pass rate "
        f"{twin['effect']:+.2f} on baseline, theirs {min(effects):+.2f} to {max(effects):+.2f}; "
        f"{place['as_high']} of {len(effects)} solve as much or more, p = {number(place['p_higher'], 3)} (with so many "
        f"twins it cannot be below {1 / (1 + len(effects)):.3g})"
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
    rows = [tuple(_cell(name, row[name]) for name in shown) for row in ranking[:_RANKS]]
    yield from markdown_table([tuple(shown.values()), *rows])
    if "auc" in shown:
        yield "\nAn AUC in sample means nothing by itself: directions refitted under permuted labels reach the null."
    yield "\nAll layers, best first, are in `vectors/ranking.csv`.\n"


def _cell(name: str, text: str) -> str:
    if name == "layer" or not text:
        return text or "–"
    return p_value(float(text)) if name.startswith("p_") else number(float(text), 3)


def _use(usage: Usage | None) -> Iterator[str]:
    yield "## How to use it\n"
    if usage is None:
        yield "No config of this run steered, so there is no strength to recommend.\n"
        return
    yield f"As in the config `{usage.config}`, with transformers{usage.difference}:\n"
    yield f"```python\n{usage.snippet}```\n"
    if usage.llama_cpp:
        yield f"The same with llama.cpp, which takes no vector for layer 0:\n\n```sh\n{usage.llama_cpp}\n```\n"


def _caveats(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "## Caveats\n"
    yield from (f"- {caveat}" for caveat in summary["caveats"])
    yield ""


def _files(summary: Mapping[str, Any], ranking: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield "## Files\n"
    yield "- `vectors/dir.pt`, `vectors/dir.safetensors`: the direction; both load without running code"
    yield (
        "- `vectors/dir.gguf`: a control vector for llama.cpp and repeng; llama.cpp takes none for layer 0, so v_0 is "
        "kept beside the others, under the key `capvec.direction_0`"
    )
    if ranking:
        yield "- `vectors/ranking.csv`: every layer with its validation"
    yield "- `RESULTS.md`: the whole write-up"
    yield f"- `results/{summary['run']}/master_summary.csv`: one row per trial"
