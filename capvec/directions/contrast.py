"""Contrasts: the traces that a direction is built from, chosen by rules and, for some policies, by matching.

`same-model` and `cross-model` are the contrasts of the original study (its v2 and v1). `task-matched` and
`length-matched` remove two confounds that these leave: the task, and the length of the run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from capvec.decimals import as_written, reaches
from capvec.directions.matching import Matched, by_length, by_task
from capvec.directions.recipe import Recipe
from capvec.errors import UsageError
from capvec.records import Config, Trace
from capvec.serial import Record
from capvec.text import counted


@dataclass(frozen=True)
class RuleCount(Record):
    """How many traces one rule of a contrast kept and dropped."""

    rule: str
    """What a trace must be."""
    kept: int
    dropped: Mapping[str, int]
    """Reason → number of traces."""


@dataclass(frozen=True)
class ContrastRecord(Record):
    """A contrast as `provenance.json` holds it: ids, not conversations."""

    hash: str
    name: str
    model: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    paired: bool
    rules: tuple[RuleCount, ...]
    dropped: Mapping[str, int]
    uncounted: Mapping[str, int]
    tasks_overlap: int
    """Number of tasks with traces in both classes."""

    def unknown_in_words(self) -> str:
        """A sentence on the traces whose parse_fail is not known, with the reasons; empty if there are none."""
        reasons = "; ".join(f"{why} ({count})" for why, count in self.uncounted.items())
        traces = counted(sum(self.uncounted.values()), "trace")
        return f"parse_fail is not known for {traces}: {reasons}." if reasons else ""


@dataclass(frozen=True)
class Contrast:
    """Positive against negative traces, and what was left out."""

    name: str
    model: str
    """The model whose passing traces are the positives."""
    positives: tuple[Trace, ...]
    negatives: tuple[Trace, ...]
    rules: tuple[RuleCount, ...] = ()
    """In the order in which they were applied."""
    paired: bool = False
    """Whether the contrast is matched: the i-th positive and the i-th negative are then a pair."""
    uncounted: Mapping[str, int] = field(default_factory=dict)
    """Reason why parse_fail is not known → number of traces, of all that were read."""

    @property
    def traces(self) -> tuple[Trace, ...]:
        """Positives, then negatives."""
        return (*self.positives, *self.negatives)

    @property
    def dropped(self) -> dict[str, int]:
        """Reason → number of traces, over all rules."""
        return {reason: count for rule in self.rules for reason, count in rule.dropped.items()}

    @cached_property
    def hash(self) -> str:
        """Content hash: the first 16 hex digits of a SHA-256 over the policy and the conversations of both classes."""
        content = [self.name, *([list(trace.messages) for trace in side] for side in (self.positives, self.negatives))]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def record(self) -> ContrastRecord:
        """The contrast as `provenance.json` holds it."""
        return ContrastRecord(
            hash=self.hash,
            name=self.name,
            model=self.model,
            positives=tuple(trace.id for trace in self.positives),
            negatives=tuple(trace.id for trace in self.negatives),
            paired=self.paired,
            rules=self.rules,
            dropped=self.dropped,
            uncounted=self.uncounted,
            tasks_overlap=len({trace.task for trace in self.positives} & {trace.task for trace in self.negatives}),
        )


@dataclass(frozen=True)
class Rule:
    """A condition on single traces."""

    demand: str
    """What a trace must be."""
    reason: str
    """Describes a trace that the rule drops."""
    holds: Callable[[Trace], bool]


@dataclass(frozen=True)
class Policy:
    """How a contrast is made: the rules in their order, which of the traces left are positives, and the matching."""

    rules: Callable[[Recipe, str], tuple[Rule, ...]]
    """Makes the rules from the thresholds and the name of the model whose capability the direction should carry."""
    positive: Callable[[Recipe, str, Trace], bool]
    needs: str
    """What the traces must include, for the error message if they do not."""
    match: Callable[[Recipe, Sequence[Trace], Sequence[Trace]], Matched] | None = None


def select_contrast(recipe: Recipe, traces: Sequence[Trace], model: str) -> Contrast:
    """Select the positive and negative traces of a contrast.

    A matched contrast does not depend on the order of the traces. In the other contrasts each class keeps that order.

    Args:
        recipe: the policy by name, and its thresholds.
        traces: to select from.
        model: whose capability the direction should carry. If no trace is of that model, the model with the most passes
            takes its place.

    Raises:
        UsageError: a class is empty; the message counts the dropped traces by reason.
    """
    policy = POLICIES[recipe.contrast]
    if all(trace.model != model for trace in traces):
        passes = Counter(trace.model for trace in traces if passed(recipe, trace))
        # A tie goes to the first name, so that the order of the traces does not matter.
        model = min(passes, key=lambda name: (-passes[name], name), default=model)
    left, counts = sift(policy.rules(recipe, model), traces)
    positives = [trace for trace in left if policy.positive(recipe, model, trace)]
    negatives = [trace for trace in left if not policy.positive(recipe, model, trace)]
    if policy.match is not None and positives and negatives:
        matched = policy.match(recipe, positives, negatives)
        kept = len(matched.positives) + len(matched.negatives)
        counts.append(RuleCount(matched.rule, kept, matched.dropped))
        positives, negatives = list(matched.positives), list(matched.negatives)
    uncounted = Counter(trace.uncounted or "the source did not count" for trace in traces if trace.parse_fail is None)
    contrast = Contrast(
        recipe.contrast,
        model,
        tuple(positives),
        tuple(negatives),
        tuple(counts),
        paired=policy.match is not None,
        uncounted=dict(uncounted),
    )
    if not positives or not negatives:
        dropped = sorted(contrast.dropped.items(), key=lambda reason: -reason[1])
        raise UsageError(
            f"--contrast {recipe.contrast}: {len(positives)} positive and {len(negatives)} negative traces of "
            f"{len(traces)} (dropped: {', '.join(f'{count} {reason}' for reason, count in dropped) or 'none'}); "
            f"expected at least one of each: {policy.needs}"
        )
    return contrast


def verdict(recipe: Recipe, trace: Trace, model: str) -> str:
    """`"positive"`, `"negative"`, or the reason why a rule drops the trace; matching is not considered."""
    policy = POLICIES[recipe.contrast]
    for rule in policy.rules(recipe, model):
        if not rule.holds(trace):
            return rule.reason
    return "positive" if policy.positive(recipe, model, trace) else "negative"


def sift(rules: Sequence[Rule], traces: Sequence[Trace]) -> tuple[list[Trace], list[RuleCount]]:
    """The traces that keep every rule, and what each rule kept and dropped."""
    left, counts = list(traces), []
    for rule in rules:
        kept = [trace for trace in left if rule.holds(trace)]
        counts.append(RuleCount(rule.demand, len(kept), {rule.reason: n} if (n := len(left) - len(kept)) else {}))
        left = kept
    return left, counts


# ------------------------------------------------------------------------------------------------ the policies


def passed(recipe: Recipe, trace: Trace) -> bool:
    """Whether the trace's reward reaches the threshold."""
    return trace.reward is not None and reaches(trace.reward, recipe.positive_reward)


def usable(recipe: Recipe, model: str) -> tuple[Rule, ...]:  # noqa: ARG001 - all groups of rules share one signature
    """Rules of every contrast."""
    return (
        Rule("has a reward", "without a reward", lambda trace: trace.reward is not None),
        Rule("was not steered", "from a steered config", lambda trace: trace.config == Config.BASELINE),
    )


def clear_outcome(recipe: Recipe, model: str) -> tuple[Rule, ...]:
    """Passes of one model, and its failures whose replies parsed."""
    limit = recipe.negative_max_parse_fail

    def unless_passed(holds: Callable[[Trace], bool]) -> Callable[[Trace], bool]:
        return lambda trace: passed(recipe, trace) or holds(trace)

    return (
        *usable(recipe, model),
        Rule(f"is of the model `{model}`", "from another model", lambda trace: trace.model == model),
        Rule(
            f"reward of at least {as_written(recipe.positive_reward)}, or of 0",
            "with a partial reward",
            unless_passed(lambda trace: (trace.reward or 0) <= 0),
        ),
        Rule(
            "if it failed: parse_fail is known",
            "failed with unknown parse_fail",
            unless_passed(lambda trace: trace.parse_fail is not None),
        ),
        Rule(
            f"if it failed: parse_fail of at most {limit}",
            f"failed with parse_fail > {limit}",
            unless_passed(lambda trace: (trace.parse_fail or 0) <= limit),
        ),
    )


def same_model(recipe: Recipe, model: str) -> tuple[Rule, ...]:
    """Pass against reward = 0, parse_fail = 0 and at least 15 steps, all from one model."""
    steps = recipe.negative_min_steps
    return (
        *clear_outcome(recipe, model),
        Rule(
            f"if it failed: at least {steps} steps",
            f"failed in fewer than {steps} steps",
            lambda trace: passed(recipe, trace) or trace.steps >= steps,
        ),
    )


def cross_model(recipe: Recipe, model: str) -> tuple[Rule, ...]:
    """Passes of the model against all traces of other models, passed or failed."""
    return (
        *usable(recipe, model),
        Rule(
            f"if it is of the model `{model}`: reward of at least {as_written(recipe.positive_reward)}",
            "not solved by the model itself",
            lambda trace: trace.model != model or passed(recipe, trace),
        ),
    )


def _passed(recipe: Recipe, model: str, trace: Trace) -> bool:  # noqa: ARG001 - as every `Policy.positive`
    return passed(recipe, trace)


_FAILURES = "passes, and failures of the same model with reward 0, few parse_fail (--negative-max-parse-fail)"
POLICIES: Mapping[str, Policy] = {
    "same-model": Policy(same_model, _passed, f"{_FAILURES} and enough steps (--negative-min-steps)"),
    "cross-model": Policy(
        cross_model, lambda _, model, trace: trace.model == model, "passes of the model, and traces of other models"
    ),
    "task-matched": Policy(
        same_model,
        _passed,
        f"{_FAILURES} and enough steps (--negative-min-steps), on one task",
        lambda _, positives, negatives: by_task(positives, negatives),
    ),
    # Without the rule of at least 15 steps: passes are shorter than that, and no failure of their length would stay.
    "length-matched": Policy(
        clear_outcome,
        _passed,
        f"{_FAILURES} and about as many steps as the passes (--length-caliper)",
        lambda recipe, positives, negatives: by_length(positives, negatives, recipe.length_caliper),
    ),
}
