"""Positive controls are the difference that a line of the prompt makes."""

from __future__ import annotations

import numpy as np
import pytest
from support.recorded_calibration import SETTINGS, task

from capvec.directions.activations import Activations
from capvec.studies.calibration.positive_controls import FORMAT, SKILL, build_positive_control

pytestmark = pytest.mark.unit


def test_a_planted_direction_is_the_mean_difference_that_the_line_makes(tmp_path):
    seen = []

    def capture(openings):
        """Residuals of one layer: (1 if the line is the positive one, the instruction's length)."""
        seen.append(openings)
        rows = [[float(SKILL.positive in o[0]["content"]), len(o[-1]["content"])] for o in openings]
        return Activations(np.array(rows, np.float32)[:, None, :], "last", (9,) * len(openings), (0,) * len(openings))

    tasks = [task("a", "f"), task("bbb", "f")]
    planted = build_positive_control(SKILL, tasks, SETTINGS, identity="m", capture=capture, cache=tmp_path)
    # Both lines are asked about the same instructions: all that is left of the difference is the line.
    np.testing.assert_array_equal(planted.vectors, [[1.0, 0.0]])
    assert [opening[-1]["role"] for opening in seen[0]] == ["user"] * 4
    assert seen[0][0][0]["content"].endswith(" Operator: expert.")
    # "Do a." and "Do bbb." are 5 and 7 long: the mean of √(1 + 25), √(1 + 49), 5 and 7.
    assert planted.ambient_norm == pytest.approx((26**0.5 + 50**0.5 + 5 + 7) / 4)
    build_positive_control(SKILL, tasks, SETTINGS, identity="m", capture=capture, cache=tmp_path)
    assert len(seen) == 1
    build_positive_control(FORMAT, tasks, SETTINGS, identity="m", capture=capture, cache=tmp_path)
    assert len(seen) == 2
