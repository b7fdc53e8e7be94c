"""How a direction is built from traces: the options that the sweep and the `capvec` commands share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from capvec.arguments import at_least, choice, number, split
from capvec.errors import UsageError
from capvec.pooling import parse_pooling
from capvec.serial import Record
from capvec.traces.fields import TRACE_FIELDS

ContrastName = Literal["same-model", "cross-model", "task-matched", "length-matched"]
EstimatorName = Literal["mean-difference", "whitened", "logistic", "paired-pca", "ridge"]


@dataclass(frozen=True)
class Recipe(Record):
    """From traces to a direction."""

    contrast: ContrastName = "same-model"
    positive_reward: float = 1.0
    """A trace passed when its reward reaches this."""
    negative_min_steps: int = 15
    """`same-model` and `task-matched`: a failure tried at least this long, and so did not fail by giving up. Not
    `length-matched`: passes are shorter, so the rule would leave no failure as long as they are."""
    negative_max_parse_fail: int = 0
    """All but `cross-model`: and had at most so many replies that did not parse."""
    length_caliper: float = 0.2
    """`length-matched`: the steps of a pair differ by at most this share of the longer run, or by one step."""
    confound_auc: float = 0.9
    """The audit flags a confound that alone separates the classes with an AUC of at least this: "outstanding
    discrimination" (Hosmer, Lemeshow and Sturdivant, 2013, section 5.2.4); between two normal distributions, means 1.8
    standard deviations apart."""
    confound_p: float = 0.05
    """And below this p under permuted labels; at any p where the AUC is 1."""
    pooling: str = "last"
    """One of `capvec.pooling.POOLINGS`."""
    estimator: EstimatorName = "mean-difference"
    permutations: int | None = None
    """Of the labels, for the null; None stands for what suits the estimator."""
    trace_fields: Mapping[str, str] = field(default_factory=dict)
    """Field of a trace → the name that the files have for it, beside the names that are known."""

    @property
    def thresholds(self) -> dict[str, float]:
        """Option (without `--`) → value, for the numbers that decide which traces are taken and what is flagged.

        All of them, also those that the contrast does not go by.
        """
        return {name.replace("_", "-"): getattr(self, name) for name in _THRESHOLDS}


_THRESHOLDS = (
    *("positive_reward", "negative_min_steps", "negative_max_parse_fail"),
    *("length_caliper", "confound_auc", "confound_p"),
)

RECIPE_OPTIONS: Mapping[str, str] = {
    "contrast": "which traces are set against which: `same-model` (passes against long failures of one model), "
    "`cross-model` (its passes against other models' traces), `task-matched` (as same-model, as many of each on every "
    "task) or `length-matched` (each pass against a failure of as many steps) (default: same-model)",
    "positive_reward": "a trace passed when its reward reaches this (default: 1)",
    "negative_min_steps": "a failure counts when it tried at least so many steps; not for length-matched (default: 15)",
    "negative_max_parse_fail": "and had at most so many replies that did not parse (default: 0)",
    "length_caliper": "length-matched: the steps of a pass and its failure differ by at most this share of the longer "
    "run, or by one step (default: 0.2)",
    "confound_auc": "a contrast is flagged for the task, the model or the length when that alone separates its classes "
    "with an AUC of at least this (default: 0.9)",
    "confound_p": "and below this p under permuted labels; at any p where the AUC is 1 (default: 0.05)",
    "pooling": "where the residual of a trace is taken: `last` token, `last-assistant` token, `mean-assistant` tokens, "
    "or `mean-last:K` tokens (default: last)",
    "estimator": "`mean-difference`, `whitened`, `logistic`, `paired-pca` or `ridge` (default: mean-difference)",
    "permutations": "of the labels, for the null of the ranking (default: what suits the estimator)",
    "trace_fields": "FIELD=NAME[,…]: what the traces' files call reward, task, model, messages, parse_fail, no_cmd, …",
}
"""Option (with `_` for `-`) → help text; the command line of a sweep and of `capvec compute` are made from this."""


def parse_recipe(raw: Mapping[str, Any]) -> Recipe:
    """Check raw option strings, keyed as `RECIPE_OPTIONS`; what is None or absent gets its default.

    Raises:
        UsageError: naming the option, what was received and what was expected.
    """
    given = {name: raw[name] for name in RECIPE_OPTIONS if raw.get(name) is not None}
    checks: dict[str, Any] = {
        "contrast": lambda value: choice("--contrast", value, get_args(ContrastName)),
        "positive_reward": lambda value: number("--positive-reward", value),
        "negative_min_steps": lambda value: at_least("--negative-min-steps", value, 0),
        "negative_max_parse_fail": lambda value: at_least("--negative-max-parse-fail", value, 0),
        "length_caliper": lambda value: number("--length-caliper", value, 0, 1),
        "confound_auc": lambda value: number("--confound-auc", value, 0.5, 1),
        "confound_p": lambda value: number("--confound-p", value, 0, 1),
        "pooling": parse_pooling,
        "estimator": lambda value: choice("--estimator", value, get_args(EstimatorName)),
        "permutations": lambda value: at_least("--permutations", value, 19, "(1/20 is the smallest p of 19)"),
        "trace_fields": parse_trace_fields,
    }
    return Recipe(**{name: checks[name](value) for name, value in given.items()})


def parse_trace_fields(text: str) -> dict[str, str]:
    """`"reward=score,task=problem_id"` → `{"reward": "score", "task": "problem_id"}`.

    Raises:
        UsageError: an entry without `=`, with nothing on one side of it, or for a field that traces do not have.
    """
    fields = {}
    for part in split("--trace-fields", text):
        name, _, theirs = (piece.strip() for piece in part.partition("="))
        if not name or not theirs:
            raise UsageError(f"--trace-fields {part!r}: expected FIELD=NAME, as in reward=score")
        if name not in TRACE_FIELDS:
            raise UsageError(f"--trace-fields {part!r}: no field {name!r}; expected one of {', '.join(TRACE_FIELDS)}")
        fields[name] = theirs
    return fields
