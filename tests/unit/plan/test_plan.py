import hashlib
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.directions.direction import Direction, orthogonal_controls
from capvec.engines.protocol import ChatTemplateInfo, GenerationDefaults
from capvec.errors import UsageError
from capvec.plan.configs import SteeringMode, control_configs, control_names, layers_label, steered_config
from capvec.plan.option_parsers import ControlKind, parse_controls
from capvec.plan.options import SweepOptions
from capvec.plan.plan import interleave, settings_for
from capvec.plan.seeds import drawn_order, trial_seed
from capvec.records import Config, ControlOf
from capvec.task_records import Task

pytestmark = pytest.mark.unit


def some_tasks(count: int) -> list[Task]:
    return [Task(f"task{i}", Path(f"task{i}"), "do it", "0" * 64) for i in range(count)]


def some_configs(count: int) -> list[Config]:
    return [Config(f"config{i}", "steered") for i in range(count)]


counts = st.integers(1, 6)


@given(counts, counts, counts)
def test_every_task_config_attempt_is_planned_exactly_once(n_tasks, n_configs, attempts):
    trials = interleave(some_tasks(n_tasks), some_configs(n_configs), attempts, seed=0)
    assert len({trial.id for trial in trials}) == len(trials) == n_tasks * n_configs * attempts


@given(counts, counts, counts)
def test_all_configs_of_a_task_and_attempt_share_one_seed_and_stand_side_by_side(n_tasks, n_configs, attempts):
    trials = interleave(some_tasks(n_tasks), some_configs(n_configs), attempts, seed=3)
    for start in range(0, len(trials), n_configs):
        block = trials[start : start + n_configs]
        assert len({(trial.task, trial.attempt, trial.seed) for trial in block}) == 1


def test_no_config_always_goes_first():
    trials = interleave(some_tasks(4), some_configs(2), attempts=1, seed=0)
    first = Counter(trial.config for trial in trials[::2])
    # Four blocks rotated over two configs: each leads two of them.
    assert first == {"config0": 2, "config1": 2}


def test_seeds_depend_on_base_task_and_attempt():
    assert len({trial_seed(0, "a", 1), trial_seed(1, "a", 1), trial_seed(0, "b", 1), trial_seed(0, "a", 2)}) == 4
    assert 0 <= trial_seed(0, "a", 1) < 2**31


def test_tasks_come_in_an_order_that_only_the_seed_decides():
    names = tuple(f"task{number:02d}" for number in range(12))
    assert drawn_order(names, 0) == drawn_order(names[::-1], 0)
    assert sorted(drawn_order(names, 0)) == list(names)
    assert drawn_order(names, 0) != names
    assert drawn_order(names, 0) != drawn_order(names, 1)


@pytest.fixture
def direction() -> Direction:
    vectors = np.zeros((3, 4), np.float32)
    vectors[:, 0] = [1.0, 2.0, 5.0]
    return Direction(vectors, ambient_norm=np.array([10.0, 10.0, 10.0]))


def test_alpha_keeps_the_users_unit_while_the_steer_is_in_stored_units(direction):
    # ‖v_2‖ = 5 and the ambient norm is 10: 4 units along d are 0.8 of v; a dose of 0.5 is 5 units, so one v.
    stored = steered_config(direction, 2, 4.0, "stored")
    norm = steered_config(direction, 2, 4.0, "norm")
    ambient = steered_config(direction, 2, 0.5, "ambient")
    assert [config.steers[0].alpha for config in (stored, norm, ambient)] == pytest.approx([4.0, 0.8, 1.0])
    assert [config.dose for config in (stored, norm, ambient)] == pytest.approx([2.0, 0.4, 0.5])
    assert [config.name for config in (stored, norm)] == ["steered-L2-a4", "steered-L2-a4-norm"]


def test_each_steered_config_gets_its_controls_and_the_prompt_comes_once(direction):
    steered = [steered_config(direction, 1, alpha, "stored") for alpha in (2.0, 4.0)]
    matched = {"random": [direction, direction]}
    names = [
        c.name for c in control_configs(parse_controls("zero,random:2,negated,prompt"), steered, direction, matched)
    ]
    assert names == [
        "zero-L1",
        "random1-L1-a2",
        "random2-L1-a2",
        "random1-L1-a4",
        "random2-L1-a4",
        "negated-L1-a2",
        "negated-L1-a4",
        "prompt",
    ]
    (constrained,) = control_configs(parse_controls("constrained"), steered, direction, {}, "DONE")
    assert (constrained.name, constrained.grammar, constrained.steers) == ("constrained", "DONE", ())
    assert constrained.control.configs == ("steered-L1-a2", "steered-L1-a4")


@pytest.mark.parametrize(
    ("layers", "alpha", "unit", "manner", "name"),
    [
        ((1,), 4.0, "stored", SteeringMode(), "steered-L1-a4"),
        ((1, 2), 4.0, "stored", SteeringMode(), "steered-L1+2-a4"),
        ((2,), 0.5, "ambient", SteeringMode("set"), "set-L2-a0.5-ambient"),
        ((2,), None, "norm", SteeringMode("ablate"), "ablate-L2"),
        ((1, 2), None, "stored", SteeringMode("ablate", "assistant"), "ablate-L1+2-assistant"),
        ((2,), 4.0, "stored", SteeringMode("add", "generated", True), "steered-L2-a4-generated-keepnorm"),
    ],
)
def test_a_name_says_what_the_config_does(direction, layers, alpha, unit, manner, name):
    config = steered_config(direction, layers, alpha, unit, manner)
    assert config.name == name
    assert [steer.layer for steer in config.steers] == list(layers)
    assert {(steer.op, steer.positions, steer.keep_norm) for steer in config.steers} == {
        (manner.op, manner.positions, manner.keep_norm)
    }


def test_a_config_of_several_layers_has_a_target_at_each_and_reports_the_largest_dose(direction):
    # ‖v_0‖ = 1, ‖v_1‖ = 2, ‖v_2‖ = 5; a dose of 0.5 of the ambient norm 10 is 5 units long at every layer.
    stored = steered_config(direction, (0, 2), 3.0)
    assert (stored.layer, stored.targets, stored.dose) == ("0+2", (3.0, 15.0), 1.5)
    ambient = steered_config(direction, (1, 2), 0.5, "ambient")
    assert [steer.alpha for steer in ambient.steers] == [2.5, 1.0]
    assert (ambient.targets, ambient.dose, ambient.alpha) == ((5.0, 5.0), 0.5, 0.5)


def test_a_config_tells_its_vectors_from_each_other_by_their_content(direction):
    def digest(layer):
        numbers = direction.vectors[layer].tolist()
        content = b"capvec-vector-v1" + struct.pack(f"<{len(numbers)}f", *numbers)
        return hashlib.sha256(content).hexdigest()[:16]

    assert steered_config(direction, (0, 2), 3.0).vectors == (digest(0), digest(2))


def test_an_ablation_has_no_alpha_and_no_dose_and_its_target_is_nothing(direction):
    config = steered_config(direction, 2, 4.0, "norm", SteeringMode("ablate"))
    assert (config.alpha, config.alpha_unit, config.dose, config.targets) == (None, "stored", None, (0.0,))
    assert config.steers[0].alpha == 1.0
    with pytest.raises(UsageError, match="needs an alpha"):
        steered_config(direction, 2, None)


def test_a_direction_that_is_zero_at_one_of_the_layers_is_refused_even_for_an_ablation(direction):
    vectors = direction.vectors.copy()
    vectors[1] = 0
    with pytest.raises(UsageError, match="--layer 1: the direction is zero there"):
        steered_config(Direction(vectors), (0, 1), None, "stored", SteeringMode("ablate"))


MANNERS = st.builds(
    SteeringMode,
    st.sampled_from(["add", "ablate", "set"]),
    st.sampled_from(["all", "prompt", "generated", "assistant"]),
    st.booleans(),
)


@given(MANNERS, st.sampled_from([(1,), (0, 2)]), st.sampled_from(["stored", "norm", "ambient"]))
def test_a_control_differs_from_what_it_controls_for_in_its_vector_alone(manner, layers, unit):
    vectors = np.zeros((3, 4), np.float32)
    vectors[:, 0] = [1.0, 2.0, 5.0]
    direction, control = Direction(vectors, np.full(3, 10.0)), Direction(vectors[:, ::-1], np.full(3, 10.0))
    base = steered_config(direction, layers, 4.0, unit, manner)
    (made,) = control_configs(parse_controls("random:1"), [base], direction, {"random": [control]})
    assert [replace(steer, direction=direction.hash) for steer in made.steers] == list(base.steers)
    assert {steer.direction for steer in made.steers} == {control.hash}
    assert made.control == ControlOf("random", (base.name,))
    assert set(made.vectors) & set(base.vectors) == set()
    same = replace(made, name=base.name, kind="steered", steers=base.steers, vectors=base.vectors, control=None)
    assert same == base
    (zero,) = control_configs(parse_controls("zero"), [base], direction, {})
    assert [(steer.alpha, steer.op, steer.positions, steer.keep_norm) for steer in zero.steers] == [
        (0.0, "add", manner.positions, manner.keep_norm)
    ] * len(layers)


def test_controls_of_other_operations_say_so_in_their_names(direction):
    set_at = steered_config(direction, (1, 2), 4.0, "stored", SteeringMode("set", "generated"))
    ablated = steered_config(direction, 1, None, "stored", SteeringMode("ablate"))
    matched = {"random": [direction]}
    names = [c.name for c in control_configs(parse_controls("zero,random:1,negated"), [set_at], direction, matched)]
    assert names == ["zero-L1+2-generated", "random1-set-L1+2-a4-generated", "negated-set-L1+2-a4-generated"]
    assert [c.name for c in control_configs(parse_controls("random:1"), [ablated], direction, matched)] == [
        "random1-ablate-L1"
    ]
    with pytest.raises(UsageError, match="--controls negated: ablate-L1 has no alpha"):
        control_configs(parse_controls("negated"), [ablated], direction, matched)


def test_a_negated_config_steers_the_other_way_as_far(direction):
    steered = steered_config(direction, 1, 4.0, "stored")
    (negated,) = control_configs(parse_controls("negated"), [steered], direction, {})
    assert negated.steers[0].alpha == -steered.steers[0].alpha
    assert negated.dose == steered.dose


def test_where_the_user_does_not_say_the_model_is_used_as_its_engine_tells():
    defaults = GenerationDefaults("brief", 20, 96)
    asked = settings_for(SweepOptions(), defaults, "pocket")
    assert (asked.prompt_style, asked.max_steps, asked.max_tokens) == ("brief", 20, 96)
    asked = settings_for(SweepOptions(max_steps=3, max_tokens=4), defaults, "pocket")
    assert (asked.prompt_style, asked.max_steps, asked.max_tokens) == ("brief", 3, 4)


@pytest.mark.parametrize(
    ("asked", "switch", "used"),
    [
        (None, "enable_thinking", "off"), ("on", "enable_thinking", "on"), ("default", "thinking", "default"),
        (None, "", None), ("default", "", None),
    ],
)  # fmt: skip
def test_thinking_is_off_unless_asked_for_where_the_template_has_a_switch(asked, switch, used):
    template = ChatTemplateInfo(switch=switch)
    made = settings_for(SweepOptions(thinking=asked), GenerationDefaults(), "m", template)
    assert made.thinking == used


@pytest.mark.parametrize("asked", ["on", "off"])
def test_thinking_cannot_be_switched_where_the_template_has_no_switch(asked):
    with pytest.raises(UsageError, match=f"^--thinking {asked}: the chat template of m has no switch"):
        settings_for(SweepOptions(thinking=asked), GenerationDefaults(), "m", ChatTemplateInfo())
    # Before an engine has looked at the template, nothing is known of it.
    assert settings_for(SweepOptions(thinking=asked), GenerationDefaults(), "m").thinking == asked


@pytest.mark.parametrize(
    ("asked", "thinks", "refused"),
    [
        ("on", False, True),
        ("default", True, True),
        ("off", True, False),
        (None, True, False),
        ("default", False, False),
    ],
)
def test_a_model_thinks_only_where_its_thoughts_can_be_told_from_its_answers(asked, thinks, refused):
    template = ChatTemplateInfo(switch="thinking", thinks=thinks, unknown_thoughts=True)
    options = SweepOptions(thinking=asked)
    if refused:
        with pytest.raises(
            UsageError, match=f"^--thinking {asked}: the chat template of m shows no tags around a thought"
        ):
            settings_for(options, GenerationDefaults(), "m", template)
    else:
        assert settings_for(options, GenerationDefaults(), "m", template).thinking == (asked or "off")


def test_the_assistants_tokens_are_steered_only_where_they_are_known():
    template = ChatTemplateInfo(unmarked="Slow has no character offsets")
    with pytest.raises(UsageError, match=r"^--positions assistant: Slow has no character offsets; steer at other"):
        settings_for(SweepOptions(positions="assistant"), GenerationDefaults(), "m", template)
    assert settings_for(SweepOptions(positions="prompt"), GenerationDefaults(), "m", template).model == "m"


def test_every_control_names_the_configs_that_it_is_there_for():
    direction = Direction(np.ones((3, 4), np.float32))
    steered = [steered_config(direction, layer, alpha, "stored") for layer, alpha in ((1, 2.0), (1, 4.0), (2, 2.0))]
    controls = parse_controls("zero,orthogonal:2,negated,prompt")
    made = control_configs(controls, steered, direction, {"orthogonal": orthogonal_controls(direction, 2, 0)})
    named = {config.name: (config.control.kind, config.control.configs) for config in made}
    assert named["zero-L1"] == ("zero", ("steered-L1-a2", "steered-L1-a4"))
    assert named["zero-L2"] == ("zero", ("steered-L2-a2",))
    assert named["orthogonal2-L1-a4"] == ("orthogonal", ("steered-L1-a4",))
    assert named["negated-L2-a2"] == ("negated", ("steered-L2-a2",))
    assert named["prompt"] == ("prompt", ("steered-L1-a2", "steered-L1-a4", "steered-L2-a2"))
    assert all(Config.from_json(config.to_json()) == config for config in made)


COUNTED = {"random", "shuffled", "orthogonal"}
KINDS = tuple(f"{kind}:2" if kind in COUNTED else kind for kind in get_args(ControlKind))


@given(
    kinds=st.sets(st.sampled_from(KINDS)),
    layers=st.lists(st.integers(0, 2), min_size=1, unique=True),
    mode=st.builds(SteeringMode, st.sampled_from(["add", "set"]), st.sampled_from(["all", "generated"]), st.booleans()),
    unit=st.sampled_from(["stored", "norm"]),
)
def test_the_names_of_controls_are_known_before_there_is_a_direction(kinds, layers, mode, unit):
    direction = Direction(np.ones((3, 4), np.float32))
    controls = parse_controls(",".join(sorted(kinds)))
    steered = steered_config(direction, layers, 4.0, unit, mode)
    matched = {one.kind: [direction] * one.count for one in controls}
    made = [config.name for config in control_configs(controls, [steered], direction, matched)]
    where = layers_label(layers)
    assert made == [name for one in controls for name in control_names(one, steered.name, where, mode)]
