"""The configs of a calibration, by what each is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capvec.directions.direction import Direction
from capvec.plan.configs import make_config
from capvec.records import Config
from capvec.studies.calibration.selection import Selection


@dataclass(frozen=True)
class Arms:
    """The names of the configs; the baseline is `Config.BASELINE`."""

    positive: str
    """The positive control: the skill direction at +α."""
    negated: str
    """The skill direction at −α."""
    randoms: tuple[str, ...]
    """Directions as long as the skill direction, at its layer and α."""
    zero: str
    """The hook installed, α = 0."""
    format: str
    """The format direction at +α′."""
    format_negated: str
    """The format direction at −α′."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the baseline first."""
        return (
            *(Config.BASELINE, self.positive, self.negated, *self.randoms),
            *(self.zero, self.format, self.format_negated),
        )


def arms_of(selection: Selection, randoms: int) -> Arms:
    """The names at the selected layers and strengths."""
    layer, alpha = selection.skill.place
    form_layer, form_alpha = selection.format.place
    where, form_where = f"L{layer}-a{alpha:g}", f"L{form_layer}-a{form_alpha:g}"
    return Arms(
        positive=f"planted-{where}",
        negated=f"planted-reversed-{where}",
        randoms=tuple(f"random{number}-{where}" for number in range(1, randoms + 1)),
        zero=f"zero-L{layer}",
        format=f"format-{form_where}",
        format_negated=f"format-reversed-{form_where}",
    )


def configs_of(
    selection: Selection, skill: Direction, form: Direction, matched: Sequence[Direction]
) -> tuple[Config, ...]:
    """The configs that `arms_of` names, in its order.

    Raises:
        UsageError: the model has no such layer.
    """
    arms = arms_of(selection, len(matched))
    layer, alpha = selection.skill.place
    form_layer, form_alpha = selection.format.place
    return (
        Config(Config.BASELINE, "baseline"),
        make_config(arms.positive, "steered", skill, layer, alpha),
        make_config(arms.negated, "control", skill, layer, -alpha),
        *(make_config(name, "control", one, layer, alpha) for name, one in zip(arms.randoms, matched, strict=True)),
        make_config(arms.zero, "control", skill, layer, 0.0),
        make_config(arms.format, "steered", form, form_layer, form_alpha),
        make_config(arms.format_negated, "control", form, form_layer, -form_alpha),
    )
