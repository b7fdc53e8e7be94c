"""Calibration without trials: splits, the selection, criteria, positive controls, the written report.

Every verdict is shown to fail where it should: an instrument that cannot say no calibrates nothing.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.outcomes import outcome
from support.recorded_calibration import SETTINGS, a_selection, point, task, write_calibration_run

from capvec.directions.activations import Activations
from capvec.directions.direction import Direction, random_control
from capvec.errors import UsageError
from capvec.plan.plan import Plan, interleave
from capvec.records import Task
from capvec.results.zero_control import Comparison, Turn, compare
from capvec.studies.calibration.configs import Arms, arms_of, configs_of
from capvec.studies.calibration.judge import SELECTED, CalibrationJudgement
from capvec.studies.calibration.positive_controls import FORMAT, SKILL, build_positive_control
from capvec.studies.calibration.report import write_calibration
from capvec.studies.calibration.selection import Selection, select_format, select_skill
from capvec.studies.calibration.splits import dev_families, family, split_tasks, spread
from capvec.studies.calibration.study import CalibrationStudy, parse_calibration_options
from capvec.studies.calibration.verdicts import (
    Measured,
    controls_are_not_detected,
    format_is_no_skill,
    judge,
    negated_lowers,
    positive_control_raises,
    zero_says_the_same,
)
from capvec.studies.regenerate import report

pytestmark = pytest.mark.unit


# ------------------------------------------------------------------------------------------------ splits

TASKS = [
    task(f"{name}-{number}", name, "held-out" if name in "xy" else "trained") for name in "dbacxy" for number in (1, 2)
]


def test_every_other_trained_family_by_name_is_dev_and_the_rest_are_test():
    dev = dev_families(TASKS)
    assert dev == ("a", "c")
    splits = split_tasks(TASKS, dev)
    assert [task.name for task in splits.dev] == ["a-1", "a-2", "c-1", "c-2"]
    assert [task.name for task in splits.test] == ["d-1", "d-2", "b-1", "b-2"]
    assert {family(task) for task in splits.held_out} == {"x", "y"}


@given(st.lists(st.sampled_from(TASKS), unique_by=lambda task: task.name))
def test_whatever_tasks_are_run_none_of_a_dev_family_is_tested_on(tasks):
    # The families are those of the selection, and not computed again from a subset of the tasks.
    splits = split_tasks(tasks, ("a", "c"))
    assert not {family(task) for task in (*splits.test, *splits.held_out)} & {"a", "c"}
    assert len(splits.dev) + len(splits.test) + len(splits.held_out) == len(tasks)


def test_a_dev_family_cannot_be_held_out():
    with pytest.raises(UsageError, match="families x are held out"):
        split_tasks(TASKS, ("a", "x"))


def test_a_task_of_no_known_split_is_in_no_half():
    splits = split_tasks([task("t", "a", "bundled"), Task("u", Path("u"), "Do.", "0")], ())
    assert splits.dev == splits.test == splits.held_out == ()


def test_a_spread_takes_the_families_in_turn():
    assert [t.name for t in spread(TASKS[:6], 4)] == ["a-1", "b-1", "d-1", "a-2"]


# ------------------------------------------------------------------------------------------------ the selection


def test_the_smallest_dose_within_a_standard_error_of_the_best_is_selected():
    # Standard errors with (s + 1)/(n + 2) at n = 20: 20/20 → 21/22, √(.955·.045/20) = .047; 19/20 → 20/22, .064.
    # Their hypotenuse is .079: 19/20 is .05 below the best and will do. 17/20 → 18/22, .086, hypotenuse .098, is not.
    best, near, far = point(dose=0.5, solved=20), point(dose=0.3, solved=19), point(dose=0.1, solved=17)
    assert select_skill([far, best, near]) == near
    assert select_skill([far, best]) == best


def test_a_certainty_of_few_trials_does_not_rule_out_a_smaller_dose():
    # 4/4 would have a standard error of 0, and 3/4 be out; with (s + 1)/(n + 2) = 5/6 and 4/6 it is .186 and .236.
    assert select_skill([point(dose=0.5, n=4, solved=4), point(dose=0.2, n=4, solved=3)]).solved == 3


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0.01, 2)), min_size=1, max_size=10))
def test_nothing_that_does_as_well_has_a_smaller_dose(drawn):
    points = [point(solved=solved, dose=dose) for solved, dose in drawn]
    selected = select_skill(points)
    assert not any(other.solved >= max(p.solved for p in points) and other.dose < selected.dose for other in points)


def test_the_format_steer_fails_to_parse_most_and_costs_at_most_the_margin():
    baseline = replace(point(solved=10), mode="baseline")
    costly, good, weak = (
        point(solved=7, parse_fail=2.0),  # 0.15 below the baseline
        point(solved=8, parse_fail=1.0),  # exactly the margin of 0.10
        point(solved=12, parse_fail=0.5),
    )
    assert select_format([costly, good, weak], baseline) == good
    assert select_format([costly, replace(costly, solved=6)], baseline) == costly


def test_without_a_valid_trial_there_is_nothing_to_choose():
    with pytest.raises(ValueError, match="none with a valid trial"):
        select_skill([point(n=0, solved=0)])


def test_a_choice_comes_back_from_its_file(tmp_path):
    a_selection().save(tmp_path / "selection.json")
    assert Selection.load(tmp_path / "selection.json") == a_selection()
    data = a_selection().to_json()
    data["tune_families"] = data.pop("dev_families")  # the key of an earlier capvec
    assert Selection.from_json(data) == a_selection()


def test_a_missing_or_broken_choice_is_named_with_what_makes_one(tmp_path):
    with pytest.raises(UsageError, match=r"capvec\.studies\.calibration\.select"):
        Selection.load(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"model": 3}')
    with pytest.raises(UsageError, match=r"broken\.json is not what capvec\.studies\.calibration\.select writes"):
        Selection.load(tmp_path / "broken.json")


# ------------------------------------------------------------------------------------------------ planted directions


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


# ------------------------------------------------------------------------------------------------ replies


def turns(*said):
    return [Turn(reply, (10, len(reply)), observation) for reply, observation in said]


def test_replies_are_compared_as_long_as_the_conversations_are_identical():
    base = turns(("ls", "a"), ("cat a", "1"), ("done", ""))
    assert compare("t", 1, base, base) == Comparison("t", 1, 3, None, False)
    other_reply = turns(("ls", "a"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_reply, base) == Comparison("t", 1, 2, 1, False)
    # Another clock: the replies so far were compared, and what was said to the other conversation is not.
    other_clock = turns(("ls", "b"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_clock, base) == Comparison("t", 1, 1, None, True)
    assert compare("t", 1, base[:2], base) == Comparison("t", 1, 2, None, True)
    assert compare("t", 1, [], base) == Comparison("t", 1, 0, None, True)


def test_the_same_text_from_other_tokens_differs():
    base = turns(("ls", "a"), ("done", ""))
    assert compare("t", 1, [base[0], replace(base[1], tokens=(10, 5))], base).differing == 1


# ------------------------------------------------------------------------------------------------ verdicts


def trials(config, solved, n=20, **changes):
    """One trial of each of `n` tasks, the first ones solved."""
    return [outcome(config, f"t{k:02}", "solved" if k < solved else "unsolved", **changes) for k in range(n)]


def measured(*groups, held_out=()):
    return Measured([o for group in groups for o in group], [o for group in held_out for o in group])


def test_a_rise_on_eight_tasks_or_more_is_detected():
    # d tasks rise and none falls: two of 2^d patterns of their signs. 2/2^8 = .0078 is under .01, 2/2^7 = .0156 not.
    assert positive_control_raises(measured(trials("baseline", 4), trials("p", 12)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 4), trials("p", 11)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 12), trials("p", 4)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 4)), "p").met


def test_a_rise_is_not_met_when_it_harms_the_families_never_trained_on():
    rise = (trials("baseline", 4), trials("p", 16))
    # Six tasks fall: 2/2^6 = .031 is harm at .05; five: .0625 is not.
    assert not positive_control_raises(measured(*rise, held_out=(trials("baseline", 10), trials("p", 4))), "p").met
    mild = positive_control_raises(measured(*rise, held_out=(trials("baseline", 10), trials("p", 5))), "p")
    assert mild.met
    assert "p = 0.062" in mild.reason


def test_a_verdict_says_when_there_are_too_few_tasks_to_detect_anything():
    verdict = positive_control_raises(measured(trials("baseline", 0, 7), trials("p", 7, 7)), "p")
    assert not verdict.met
    assert "too few: the least p is 0.016" in verdict.reason


def test_the_reverse_must_lower():
    assert negated_lowers(measured(trials("baseline", 12), trials("r", 4)), "r").met
    assert not negated_lowers(measured(trials("baseline", 12), trials("r", 5)), "r").met
    assert not negated_lowers(measured(trials("baseline", 4), trials("r", 12)), "r").met


@pytest.mark.parametrize("count", [1, 4, 10])
def test_as_many_controls_may_be_detected_as_chance_explains_and_no_more(count):
    names = [f"random{k}" for k in range(count)]
    allowed = next(k for k in range(count + 1) if stats.binom.cdf(k, count, 0.05) >= 0.99)
    for detected in (allowed, allowed + 1):
        if detected > count:
            continue
        # 2/2^6 = .031: detected, whichever way. The others are the baseline itself.
        arms = [trials(name, (4 if k % 2 else 16) if k < detected else 10) for k, name in enumerate(names)]
        verdict = controls_are_not_detected(measured(trials("baseline", 10), *arms), names)
        assert verdict.met == (detected == allowed)
        assert f"{detected} of {count} detected" in verdict.reason


def test_a_control_that_was_not_measured_is_not_taken_for_one_that_was_not_detected():
    arms = (trials("baseline", 10), trials("random1", 10))
    assert controls_are_not_detected(measured(*arms), ["random1"]).met
    verdict = controls_are_not_detected(measured(*arms), ["random1", "random2"])
    assert not verdict.met
    assert "1 not measured" in verdict.reason
    assert not controls_are_not_detected(measured(*arms), []).met


def test_one_differing_reply_fails_and_so_does_having_compared_nothing():
    same, moved = Comparison("t", 1, 3, None, False), Comparison("t", 2, 1, None, True)
    verdict = zero_says_the_same([same, moved])
    assert verdict.met
    assert "4 replies to identical conversations compared in 2 trials, 0 differ; 1 trials diverged" in verdict.reason
    assert not zero_says_the_same([same, Comparison("u", 1, 2, 1, False)]).met
    assert not zero_says_the_same([]).met


@pytest.mark.parametrize("metric", ["parse_fail", "no_cmd"])
def test_a_format_that_moves_on_nine_tasks_is_met_and_on_eight_is_not(metric):
    # Two metrics are looked at: 2·2/2^9 = .0078, and 2·2/2^8 = .0156.
    base = trials("baseline", 10)
    for moved in (9, 8):
        moves = [replace(o, config="f", **{metric: int(k < moved)}) for k, o in enumerate(base)]
        assert format_is_no_skill(measured(base, moves), "f").met == (moved == 9)


def test_a_format_that_makes_the_agent_better_is_a_capability_and_fails():
    base = trials("baseline", 4)
    better = trials("f", 10, parse_fail=1)  # six tasks rise: p = 2/2^6 = .031
    worse = trials("f", 0, parse_fail=1)
    verdict = format_is_no_skill(measured(base, better), "f")
    assert not verdict.met
    assert "which would be reported as a capability" in verdict.reason
    assert format_is_no_skill(measured(base, worse), "f").met


ARMS = Arms("p", "r", ("random1",), "z", "f", "g")


def ideal():
    """Everything as it should be, on 20 tasks."""
    return measured(
        trials("baseline", 10), trials("p", 20), trials("r", 0), trials("random1", 11), trials("z", 10),
        trials("f", 10, parse_fail=2), trials("g", 10),
    )  # fmt: skip


def test_an_ideal_instrument_meets_all_five_and_a_dead_one_fails_what_it_should():
    zero = [Comparison("t00", 1, 3, None, False)]
    assert [(v.key, v.met) for v in judge(ideal(), ARMS, zero)] == [(key, True) for key in "abcde"]
    # Hooks that never fire: every config is the baseline.
    dead = measured(*(trials(name, 10) for name in ARMS.names))
    assert [v.key for v in judge(dead, ARMS, zero) if not v.met] == ["a", "b", "e"]


# ------------------------------------------------------------------------------------------------ the report


def test_the_report_holds_the_numbers_of_the_verdicts(tmp_path):
    tasks = tuple(task(f"t{k:02}", f"fam{k % 4}") for k in range(20))
    skill = Direction(np.ones((3, 2), np.float32), np.full(3, 10.0))
    configs = configs_of(a_selection(), skill, skill, [random_control(skill, 0)])
    named = dict(zip(ARMS.names, arms_of(a_selection(), 1).names, strict=True))
    outcomes = Measured([replace(o, config=named[o.config]) for o in ideal().test], [])
    arms = arms_of(a_selection(), 1)
    plan = Plan("r", tmp_path, tasks, configs, interleave(tasks, configs, 1, 0), SETTINGS, "calibration")
    zero = [Comparison("t00", 1, 3, None, False)]
    verdicts = judge(outcomes, arms, zero)
    write_calibration(
        plan,
        CalibrationJudgement(
            selection=a_selection(), arms=arms, measured=outcomes, verdicts=verdicts, zero=tuple(zero)
        ),
    )
    data = json.loads((tmp_path / "calibration.json").read_text())
    assert data["met"] is True
    assert [verdict["met"] for verdict in data["verdicts"]] == [True] * 5
    assert data["verdicts"][0]["effects"][0]["difference"] == 0.5
    text = (tmp_path / "CALIBRATION.md").read_text()
    assert "**Status:** every verdict is met." in text
    assert "20 tasks are of trained families" in text
    # Five tasks of each of four families; the baseline solves t00 to t09: of fam0 t00, t04 and t08.
    assert "| fam0 | test split | 3/5 | 5/5 | 0/5 | 3/5 |" in text


@pytest.fixture
def recorded(tmp_path):
    write_calibration_run(tmp_path / "r")
    return tmp_path / "r"


CALIBRATED = ("CALIBRATION.md", "calibration.json", "summary.json", "RESULTS.md")


def test_a_calibrations_reports_are_made_again_the_same_from_what_it_left_behind(recorded):
    before = {name: (recorded / name).read_text() for name in CALIBRATED}
    assert "9 tasks are of trained families" in before["CALIBRATION.md"]
    for name in ("CALIBRATION.md", "RESULTS.md"):
        (recorded / name).unlink()
    said = report([recorded], None)
    assert {name: (recorded / name).read_text() for name in CALIBRATED} == before
    assert "families never trained on" in said
    assert f"calibration: {recorded / 'CALIBRATION.md'}" in said
    assert any(line.startswith("gate met: (d) α = 0") for line in said)


def test_a_calibration_of_an_earlier_capvec_has_its_selection_in_its_report_alone(recorded):
    before, path = (recorded / "CALIBRATION.md").read_text(), recorded / "provenance.json"
    record = json.loads(path.read_text())
    record["options"]["choice"] = record["options"].pop(SELECTED)  # the key of an earlier capvec
    path.write_text(json.dumps(record))
    report([recorded], None)
    assert (recorded / "CALIBRATION.md").read_text() == before
    del record["options"]["choice"]
    path.write_text(json.dumps(record))
    report([recorded], None)
    assert (recorded / "CALIBRATION.md").read_text() == before
    (recorded / "calibration.json").unlink()
    gates = json.loads((recorded / "summary.json").read_text())["gates"]
    (recorded / "CALIBRATION.md").write_text("as it was")
    said = report([recorded], None)
    assert any(line.startswith("CALIBRATION.md was not made again: neither provenance.json nor") for line in said)
    assert (recorded / "CALIBRATION.md").read_text() == "as it was"
    assert json.loads((recorded / "summary.json").read_text())["gates"] == gates


def test_trials_that_have_changed_are_not_judged_by_the_comparison_of_the_old_ones(recorded):
    lines = (recorded / "trials.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])
    other = "unsolved" if first["outcome"] == "solved" else "solved"
    (recorded / "trials.jsonl").write_text("".join([json.dumps(first | {"outcome": other}) + "\n", *lines[1:]]))
    said = report([recorded], None)
    assert any(".json is missing, so α = 0" in line for line in said)
    assert json.loads((recorded / "summary.json").read_text())["gates"] == []


# ------------------------------------------------------------------------------------------------ options


def test_a_calibration_has_its_own_defaults(tmp_path):
    a_selection(tasks="sprint").save(tmp_path / "selection.json")
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "alpha": None}
    options = parse_calibration_options(raw | {"selection": str(tmp_path / "selection.json")})
    assert (options.attempts, options.tasks) == (2, "sprint")
    assert [(control.kind, control.count) for control in options.controls] == [("random", 3)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": "4"}, "--alpha is for -m sweep"),
        ({"alpha_unit": "norm"}, "--alpha-unit is for -m sweep"),
        ({"direction": "d.pt"}, "--direction is for -m sweep"),
        ({"controls": "zero"}, "--controls 'zero'"),
        ({"controls": ""}, "--controls ''"),
    ],
)
def test_what_is_a_sweeps_alone_is_refused(given, said):
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "tasks": "full"}
    with pytest.raises(UsageError, match=said):
        parse_calibration_options(raw | given)


def test_tasks_of_dev_families_or_of_no_split_leave_nothing_to_test_on(tmp_path):
    write = Path(tmp_path / "selection.json")
    a_selection(tasks="multi", contrast_tasks=()).save(write)
    raw = {"model": "pocket", "seed": "0", "temperature": "0.7", "protocol": "bash-block", "selection": str(write)}
    folder = tmp_path / "tasks" / "t"
    (folder / "environment").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "instruction.md").write_text("Do.\n")
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    (folder / "tests" / "test.sh").write_text("true\n")
    (folder / "task.toml").write_text('[metadata]\nfamily = "a"\nsplit = "trained"\n')
    with pytest.raises(UsageError, match="layer and strength were not selected on"):
        CalibrationStudy(parse_calibration_options(raw | {"tasks": str(tmp_path / "tasks")}))
