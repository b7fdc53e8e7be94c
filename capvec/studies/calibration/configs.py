"""The configs of a calibration, by what each is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capvec.directions.direction import Direction
from capvec.plan.plan import make_config
from capvec.records import Config
from capvec.studies.calibration.selection import Selection


@dataclass(frozen=True)
class Arms:
    """Config names. The baseline is `Config.BASELINE`."""

    planted: str
    """The skill direction at +α."""
    reversed: str
    """At −α."""
    randoms: tuple[str, ...]
    """Directions as long as the skill direction, at its layer and α."""
    zero: str
    """The hook installed, α = 0."""
    format: str
    """The format direction at +α′."""
    format_reversed: str
    """At −α′."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, the baseline first."""
        return (
            *(Config.BASELINE, self.planted, self.reversed, *self.randoms),
            *(self.zero, self.format, self.format_reversed),
        )


def arms_of(chosen: Selection, randoms: int) -> Arms:
    """The names at the chosen layers and strengths."""
    layer, alpha = chosen.skill.place
    form_layer, form_alpha = chosen.format.place
    where, form_where = f"L{layer}-a{alpha:g}", f"L{form_layer}-a{form_alpha:g}"
    return Arms(
        planted=f"planted-{where}",
        reversed=f"planted-reversed-{where}",
        randoms=tuple(f"random{number}-{where}" for number in range(1, randoms + 1)),
        zero=f"zero-L{layer}",
        format=f"format-{form_where}",
        format_reversed=f"format-reversed-{form_where}",
    )


def configs_of(
    chosen: Selection, skill: Direction, form: Direction, matched: Sequence[Direction]
) -> tuple[Config, ...]:
    """The configs that `arms_of` names, in its order.

    Args:
        chosen: layers and strengths.
        skill: the planted skill direction.
        form: the planted format direction.
        matched: random controls, each as long as `skill`.

    Raises:
        UsageError: the model has no such layer.
    """
    arms = arms_of(chosen, len(matched))
    layer, alpha = chosen.skill.place
    form_layer, form_alpha = chosen.format.place
    return (
        Config(Config.BASELINE, "baseline"),
        make_config(arms.planted, "steered", skill, layer, alpha),
        make_config(arms.reversed, "control", skill, layer, -alpha),
        *(make_config(name, "control", one, layer, alpha) for name, one in zip(arms.randoms, matched, strict=True)),
        make_config(arms.zero, "control", skill, layer, 0.0),
        make_config(arms.format, "steered", form, form_layer, form_alpha),
        make_config(arms.format_reversed, "control", form, form_layer, -form_alpha),
    )
