"""What the report says of what was done."""

from dataclasses import replace

import pytest
from support.recorded_run import write_recorded

from capvec.records import TrialSpec
from capvec.report.method import attempts

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("kept", "said"), [(3, "3 attempts"), (1, "1 to 3 attempts"), (0, "0 to 3 attempts")])
def test_attempts_that_differ_between_tasks_and_configs_are_said_to(tmp_path, kept, said):
    plan = write_recorded(tmp_path / "r")
    task, config = plan.tasks[0].name, plan.configs[-1].name
    trials = [
        TrialSpec(each.name, other.name, attempt, 7)
        for each in plan.tasks
        for other in plan.configs
        for attempt in range(1, (kept if (each.name, other.name) == (task, config) else 3) + 1)
    ]
    assert attempts(replace(plan, trials=tuple(trials))) == said
