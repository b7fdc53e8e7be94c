"""How a direction is built from traces.

`Recipe` holds the defaults and `RECIPE_PARSERS` reads the values. Help texts are in `capvec.plan.option_table`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from capvec.arguments import at_least, choice, number, split
from capvec.errors import UsageError
from capvec.pooling import parse_pooling
from capvec.serial import Record
from capvec.traces.fields import TRACE_FIELDS

ContrastName = Literal["same-model", "cross-model", "task-matched", "length-matched"]
CONTRASTS: Mapping[ContrastName, str] = {
    "same-model": "passes against long failures of one model",
    "cross-model": "passes of one model against traces of others",
    "task-matched": "as same-model, equally many of each on every task",
    "length-matched": "each pass against a failure of as many steps",
}
"""Name → what is compared, for the help text of `--contrast`."""
EstimatorName = Literal["mean-difference", "whitened", "logistic", "paired-pca", "ridge"]


@dataclass(frozen=True)
class Recipe(Record):
    """From traces to a direction."""

    contrast: ContrastName = "same-model"
    positive_reward: float = 1.0
    """Least reward of a trace that passed."""
    negative_min_steps: int = 15
    """`same-model` and `task-matched`: least number of steps of a failure, so that it did not fail by giving up. Not
    used by `length-matched`: passes are shorter, and the rule would leave no failure of their length."""
    negative_max_parse_fail: int = 0
    """All but `cross-model`: most replies of a failure that did not parse."""
    length_caliper: float = 0.2
    """`length-matched`: the steps of a pair differ by at most this share of the longer run, or by one step."""
    confound_auc: float = 0.9
    """The audit flags a confound that alone separates the classes with an AUC of at least this: "outstanding
    discrimination" (Hosmer, Lemeshow and Sturdivant, 2013, section 5.2.4). Between two normal distributions of equal
    variance it corresponds to means 1.8 standard deviations apart."""
    confound_p: float = 0.05
    """The audit also requires a p-value below this under permuted labels; an AUC of 1 is flagged at any p."""
    pooling: str = "last"
    """One of `capvec.pooling.POOLINGS`."""
    estimator: EstimatorName = "mean-difference"
    permutations: int | None = None
    """Label permutations for the null of the ranking; None stands for the estimator's default."""
    trace_fields: Mapping[str, str] = field(default_factory=dict)
    """Field of a trace → its name in the files, beside the names that are known."""

    @property
    def thresholds(self) -> dict[str, float]:
        """Option (without `--`) → value, for the numbers that select traces and flag confounds.

        All of them, also those that the contrast does not use.
        """
        return {name.replace("_", "-"): getattr(self, name) for name in _THRESHOLDS}


_THRESHOLDS = (
    *("positive_reward", "negative_min_steps", "negative_max_parse_fail"),
    *("length_caliper", "confound_auc", "confound_p"),
)


def parse_trace_fields(text: str) -> dict[str, str]:
    """`"reward=score,task=problem_id"` → `{"reward": "score", "task": "problem_id"}`.

    Raises:
        UsageError: an entry without `=` or with an empty side, or a field that traces do not have.
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


RECIPE_PARSERS: Mapping[str, Callable[[str], Any]] = {
    "contrast": partial(choice, "--contrast", choices=get_args(ContrastName)),
    "positive_reward": partial(number, "--positive-reward"),
    "negative_min_steps": partial(at_least, "--negative-min-steps", minimum=0),
    "negative_max_parse_fail": partial(at_least, "--negative-max-parse-fail", minimum=0),
    "length_caliper": partial(number, "--length-caliper", minimum=0, maximum=1),
    "confound_auc": partial(number, "--confound-auc", minimum=0.5, maximum=1),
    "confound_p": partial(number, "--confound-p", minimum=0, maximum=1),
    "pooling": parse_pooling,
    "estimator": partial(choice, "--estimator", choices=get_args(EstimatorName)),
    "permutations": partial(at_least, "--permutations", minimum=19, hint="(the smallest p-value of 19 is 1/20)"),
    "trace_fields": parse_trace_fields,
}
"""Field of `Recipe` → the parser of its option, which has the same name with `-` for `_`."""
