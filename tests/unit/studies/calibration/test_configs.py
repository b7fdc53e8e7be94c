"""The configs steer as their names say."""

from __future__ import annotations

import numpy as np
import pytest
from support.recorded_calibration import a_selection

from capvec.directions.direction import Direction, random_control
from capvec.studies.calibration.configs import arms_of, configs_of

pytestmark = pytest.mark.unit


def test_the_arms_steer_as_their_names_say():
    skill = Direction(np.array([[0, 0], [3, 4], [1, 0]], np.float32), np.full(3, 10.0))
    form = Direction(np.array([[0, 0], [0, 0], [0, 2]], np.float32), np.full(3, 10.0))
    controls = [random_control(skill, 0), random_control(skill, 1)]
    configs = {config.name: config for config in configs_of(a_selection(), skill, form, controls)}
    arms = arms_of(a_selection(), 2)
    assert tuple(configs) == arms.names
    # ‖v_1‖ = 5 at α = 1; the format's ‖v_2‖ = 2 at α = 0.5.
    targets = {name: config.targets for name, config in configs.items()}
    assert targets == {
        "baseline": (), arms.positive: (5.0,), arms.negated: (-5.0,), arms.zero: (0.0,),
        arms.randoms[0]: pytest.approx((5.0,)), arms.randoms[1]: pytest.approx((5.0,)),
        arms.format: (1.0,), arms.format_negated: (-1.0,),
    }  # fmt: skip
    directions = {name: config.steers[0].direction for name, config in configs.items() if config.steers}
    assert directions[arms.zero] == directions[arms.positive] == directions[arms.negated] == skill.hash
    assert len({directions[name] for name in (arms.positive, *arms.randoms, arms.format)}) == 4
