"""The demonstrations that the bundled agent learned from: who shows what, on which tasks."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from capvec.agent.protocols import get_protocol
from capvec.tasks.loader import load_tasks
from dev.agent.demonstrations import plan
from dev.agent.demonstrators import EXPERT, FENCED, JSON, MODES, NOVICE, demonstrate
from dev.tasks.families import FAMILIES
from dev.tasks.generate import make_instance

pytestmark = pytest.mark.unit


def test_no_demonstration_is_of_a_held_out_family_or_of_a_bundled_instance() -> None:
    jobs = plan(1500, seed=0)
    bundled = {task.instruction for task in load_tasks("full").tasks}
    assert len(jobs) == 1500
    assert all(FAMILIES[job.family].split == "trained" for job in jobs)
    assert not {job.instance.instruction for job in jobs} & bundled


def test_most_demonstrations_carry_no_mode_line_and_the_demonstrator_follows_it() -> None:
    kinds: Counter[tuple[str, bool]] = Counter()
    stumbles: Counter[str] = Counter()
    instance = make_instance(FAMILIES["count-lines"], "x", 0)
    count = 4000
    parse = get_protocol("bash-block").parse
    for number in range(count):
        made = demonstrate(instance, Random(number))
        kinds[made.mode, made.kind == "careful"] += 1
        if made.kind == "careful":
            stumbles[made.mode] += any(parse(reply).status == "failed" for reply in made.replies)
    assert kinds["", True] + kinds["", False] > count / 2
    assert kinds[EXPERT, False] == 0
    assert kinds[NOVICE, True] == 0
    # A share's standard error at n = 4000 is under 0.008: five of them.
    for mode, share in MODES.items():
        assert abs((kinds[mode, True] + kinds[mode, False]) / count - share) < 0.04
    assert stumbles[FENCED] == 0
    assert stumbles[JSON] > 0.7 * kinds[JSON, True]


def test_the_careful_demonstrator_uses_the_oracle_and_says_done() -> None:
    parse = get_protocol("bash-block").parse
    for number in range(200):
        instance = make_instance(FAMILIES["find-file"], "x", number)
        made = demonstrate(instance, Random(number))
        if made.kind != "careful":
            continue
        commands = [command for reply in made.replies for command in parse(reply).commands]
        assert [command for command in commands if command in instance.solution] == list(instance.solution)
        assert parse(made.replies[-1]).done
