"""The section on interpretation: every sentence where the numbers call for it, none where they do not."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
from support.labelled import labelled
from support.outcomes import outcome
from support.results import results_of
from support.sections import cells, sentences, tables, titles, words

from capvec.directions.audit import Audit, Confound
from capvec.directions.validate import validate
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, ControlOf
from capvec.report.interpretation import interpretation_section
from capvec.report.robustness import robustness_section
from capvec.results.direction import DirectionSummary
from capvec.stats.drift import DriftTest
from capvec.stats.sequential import InterimAnalysis, Sequential, SequentialTest
from capvec.stats.summary import summarise
from capvec.steering import Steer
from capvec.task_records import Task

pytestmark = pytest.mark.unit

PLAIN = DirectionSummary("abc", "From a file.")
BASELINE = (Config("baseline", "baseline"),)


def sweep(tasks, **solved):
    """One attempt a task: `name=n` solves the first n tasks."""
    return [
        outcome(name, f"task{index}", "solved" if index < count else "unsolved")
        for name, count in solved.items()
        for index in range(tasks)
    ]


def steered(name, alpha=1.0, op="add", layer=0):
    return Config(name, "steered", (Steer(layer, "abc", alpha, op),))


def said(outcomes, direction=PLAIN, controls=(), family=("s",), configs=()):
    """What the section says of the trials, sentence by sentence."""
    names = list(dict.fromkeys(one.config for one in outcomes))
    known = {config.name: config for config in configs}
    configs = [known.get(name, steered(name)) for name in names if name in family]
    configs += [Config("baseline", "baseline"), *controls]
    return said_of(summarise(outcomes, names, comparisons=list(family)), outcomes, direction, configs)


def said_of(summary, outcomes, direction=PLAIN, configs=BASELINE):
    names = dict.fromkeys(outcome.task for outcome in outcomes)
    tasks = tuple(Task(name, Path(name), "do", "0") for name in names)
    plan = Plan("r", Path("r"), tasks, tuple(configs), (), Settings("m", "bash-block", "brief", 1, 1, 0.7))
    known = {config.name for config in configs}
    trials = [one for one in outcomes if one.config in known]
    return sentences(interpretation_section(results_of(plan, trials, direction=direction, summary=summary)))


def looked_at(summary, decision):
    """As it would stand after one of two looks with that decision."""
    look = InterimAnalysis(1, 0.5, 0.01, 0.01, None, 6, 0.0, 1.0, None, None, decision)
    test = SequentialTest("s", 0.05, (look,), 2, "all flips")
    return replace(summary, sequential=Sequential(0.05, (), (), (test,), {}, {}))


def ranking(apart):
    """Layer 0 separates positives from negatives if `apart`; else only as well as any labels."""
    rng = np.random.default_rng(1)
    pos, neg = (rng.standard_normal((n, 1, 200)).astype(np.float32) for n in (8, 8))
    return validate(*labelled(pos + 3.0 * apart, neg), permutations=200)


# ------------------------------------------------------------------------------------------------ the verdicts


def test_each_verdict_becomes_a_sentence_and_alike_ones_share_it():
    # 20 tasks: 2 → 16 and 3 → 17 are p = 2/2^14 and more; 16 → 2 the same the other way.
    assert said(sweep(20, baseline=2, s=16, t=17), family=("s", "t"))[0].startswith("s and t raise")
    assert said(sweep(20, baseline=16, s=2))[0].startswith("s lowers")
    assert "too few trials" in said(sweep(12, baseline=4, s=4))[0]
    assert said(sweep(200, baseline=100, s=100))[0].startswith("s does not change")


def test_too_few_tasks_are_not_called_too_few_trials():
    # Six tasks give 2/2^6 = 0.031, which is below 0.05 and above 0.05/2: nothing that two configs could do is found.
    assert "too few tasks" in said(sweep(5, baseline=2, s=2))[0]
    assert "too few trials" in said(sweep(6, baseline=2, s=2))[0]
    both = said(sweep(6, baseline=2, s=2, t=2), family=("s", "t"))
    assert "s and t" in both[0]
    assert "too few tasks" in both[0]
    # Where the other of the two was found to help, 0.05 is all that is left to clear.
    outcomes = [one for one in sweep(20, baseline=2, s=2, t=16) if one.config != "s" or int(one.task[4:]) < 6]
    assert any("s is undecided" in line and "too few trials" in line for line in said(outcomes, family=("s", "t")))


def test_a_change_of_format_alone_is_not_said_to_leave_solving_as_it_was():
    outcomes = [replace(one, no_cmd=int(one.config == "s")) for one in sweep(200, baseline=100, s=100)]
    assert said(outcomes)[0].startswith("s changes the format of the replies, and")


@pytest.mark.parametrize(
    ("decision", "because"),
    [
        ("go on", "ended before its last interim analysis"),
        ("futility", "stopped for futility"),
        ("end", "too few trials"),
    ],
)
def test_a_config_is_undecided_for_the_reason_that_it_is(decision, because):
    outcomes = sweep(12, baseline=4, s=4)
    summary = summarise(outcomes, ["baseline", "s"], comparisons=["s"])
    assert because in said_of(looked_at(summary, decision), outcomes)[0]


def test_nothing_compared_means_nothing():
    assert said(sweep(3, baseline=1), family=()) == []


# ------------------------------------------------------------------------------------------------ the direction


def test_a_direction_that_tells_traces_apart_and_does_not_help_is_called_that():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = str.join("\n", said(sweep(200, baseline=100, s=100), direction))
    assert "AUC 1.000 at layer 0, beyond chance" in text
    assert "need not cause them" in text
    helped = str.join("\n", said(sweep(20, baseline=2, s=16), direction))
    assert "separates the traces" not in helped


def test_a_sweep_that_could_find_nothing_says_nothing_about_causes():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = str.join("\n", said(sweep(3, baseline=1, s=1), direction))
    assert "This sweep cannot tell" in text
    assert "need not cause them" not in text


@pytest.mark.parametrize(("alpha", "op", "spoken"), [(-1.0, "add", 0), (1.0, "ablate", 0), (1.0, "add", 1)])
def test_harm_by_steering_against_a_direction_speaks_for_it_as_a_cause(alpha, op, spoken):
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = str.join("\n", said(sweep(20, baseline=16, s=2), direction, configs=[steered("s", alpha, op)]))
    assert "s lowers" in text
    assert text.count("need not cause them") == spoken


def test_a_reversed_control_that_harms_speaks_for_the_direction_too():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    negated = Config("negated", "control", (Steer(0, "abc", -1.0),), control=ControlOf("negated", ("s",)))
    text = str.join("\n", said(sweep(200, baseline=100, s=100, negated=2), direction, controls=[negated]))
    assert "need not cause them" not in text


def test_an_auc_that_permuted_labels_reach_is_no_evidence():
    direction = replace(PLAIN, ranking=ranking(apart=False))
    assert direction.ranking.best.auc == 1.0  # 16 points in 200 dimensions
    text = str.join("\n", said(sweep(20, baseline=2, s=16), direction))
    assert "AUC of 1.000 at layer 0" in text


def test_a_flagged_confound_is_named():
    flagged = Confound("steps", 9, 0, 1.0, 0.66, 0.0001, "negatives")
    direction = replace(PLAIN, audit=Audit((flagged,)))
    text = str.join("\n", said(sweep(6, baseline=2, s=2), direction))
    assert "steps alone" in text
    assert "separate" not in str.join("\n", said(sweep(6, baseline=2, s=2)))


# ------------------------------------------------------------------------------------------------ the format


def test_a_trade_off_is_named_with_what_ran_through_it():
    spoiled = [replace(one, parse_fail=2) if one.config == "baseline" else replace(one, no_cmd=2)
               for one in sweep(20, baseline=8, s=8)]  # fmt: skip
    outcomes = [replace(one, parse_fail=0, no_cmd=0) if one.task == "task0" else one for one in spoiled]
    text = str.join("\n", said(outcomes))
    assert "parse_fail for no_cmd" in text
    assert "+0.00 = " in text
    assert "parse_fail" not in str.join("\n", said(sweep(20, baseline=8, s=8)))
    # Where neither side has a clean trial there is nothing to compare the spoiled ones with.
    text = str.join("\n", said(spoiled))
    assert "parse_fail for no_cmd" in text
    assert "+0.00 = " not in text


# ------------------------------------------------------------------------------------------------ matched controls


def randoms(count):
    return [Config(f"random{n}", "control", control=ControlOf("random", ("s",))) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "rates", "says"),
    [
        (19, 4, ("All 19 random", "less", "p = 0.05)", "too few")),
        (20, 4, ("All 20 random", "less", "p = 0.048)", "not explain")),
        (20, 16, ("20 of 20 random", "p = 1)", "not distinguishable")),
        (2, 4, ("All 2 random", "less", "p = 0.33)", "too few")),
    ],
)
def test_the_vectors_matched_controls_are_weighed(count, rates, says):
    outcomes = sweep(20, baseline=4, s=16, **{f"random{n}": rates for n in range(count)})
    text = str.join("\n", said(outcomes, controls=randoms(count)))
    assert [fragment for fragment in says if fragment not in text] == []


def test_a_config_that_harms_is_weighed_among_controls_that_solve_as_little():
    harmed = {"baseline": 16, "s": 2}
    lone = str.join("\n", said(sweep(20, **harmed, **{f"random{n}": 16 for n in range(20)}), controls=randoms(20)))
    # 1 of the 21 is as low.
    assert [fragment for fragment in ("All 20 random", "more", "p = 0.048)") if fragment not in lone] == []
    alike = str.join("\n", said(sweep(20, **harmed, **{f"random{n}": 1 for n in range(20)}), controls=randoms(20)))
    assert "20 of 20 random" in alike


def test_where_no_effect_is_called_matched_controls_have_nothing_to_explain():
    outcomes = sweep(20, baseline=8, s=8, **{f"random{n}": 2 for n in range(20)})
    assert "random" not in str.join("\n", said(outcomes, controls=randoms(20)))


# ------------------------------------------------------------------------------------------------ readings, drift


def test_an_effect_that_rests_on_repaired_replies_is_reported():
    outcomes = sweep(20, baseline=2, s=16)
    repaired = [replace(one, repaired=1) if one.config == "s" else one for one in outcomes]
    text = str.join("\n", said(repaired))
    # All of s's solved trials go: 2 of 20 tasks differ, two flips of four are as far, p = 0.5.
    assert "s depends" in text
    assert "strict parses only" in text
    assert "−0.10, p = 0.500" in text


def test_what_cannot_be_counted_in_two_ways_is_not_spoken_of():
    outcomes = sweep(20, baseline=2, s=16)
    assert "robust" not in str.join("\n", said(outcomes))
    failed = [replace(one, outcome="error") if (one.config, one.task) == ("s", "task19") else one for one in outcomes]
    robust = [line for line in said(failed) if "robust" in line]
    assert ["errors" in line and "repaired" not in line for line in robust] == [True]
    both = [replace(one, repaired=1) if one.config == "baseline" else one for one in failed]
    robust = [line for line in said(both) if "robust" in line]
    assert ["errors" in line and "repaired" in line for line in robust] == [True]


def test_a_harm_that_rests_on_errors_is_reported_and_both_readings_are_shown():
    # s errs on the ten tasks that the baseline fails, and solves two of the ten others: 8 of 10 fell, p = 2/2^8.
    outcomes = [
        replace(one, outcome="error") if one.config == "s" and int(one.task[4:]) >= 10 else one
        for one in sweep(20, baseline=10, s=2)
    ]
    text = str.join("\n", said(outcomes))
    assert "s lowers" in text
    # With errors solved 10 of 20 rose and 8 fell: a sum of 2 or more among 18 signs is that of 10 heads or more, or of
    # 8 or fewer: all but the middle, C(18, 9)/2^18.
    pvalue = 1 - comb(18, 9) / 2**18
    assert "errors count for the config" in text
    assert f"+0.10, p = {pvalue:.3f}" in text
    shown = cells(robustness_section(summarise(outcomes, ["baseline", "s"], comparisons=["s"])))
    assert [row[1:3] for row in shown if row[1].startswith("errors")] == [
        ["errors excluded", "−0.80"], ["errors count against the config", "−0.40"],
        ["errors count for the config", "+0.10"],
    ]  # fmt: skip


def test_a_config_that_only_erred_is_read_both_ways():
    outcomes = [replace(one, outcome="error") if one.config == "s" else one for one in sweep(20, baseline=5, s=0)]
    shown = robustness_section(summarise(outcomes, ["baseline", "s"], comparisons=["s"]))
    assert [row[:3] for row in cells(shown) if row[0] == "s"] == [
        ["s", "errors count against the config", "−0.25"], ["s", "errors count for the config", "+0.75"]
    ]  # fmt: skip
    assert "side by side" not in words(shown)


def test_a_reading_is_corrected_for_the_family_as_the_call_is():
    # s rises on 8 of 20 tasks: p = 2/2^8, three times that is 0.023. Two of its passes are repaired, which leaves 6:
    # p = 2/2^6 = 0.031 would do alone, and does not as one of three.
    outcomes = [
        replace(one, repaired=1) if one.config == "s" and one.task in ("task8", "task9") else one
        for one in sweep(20, baseline=2, s=10, t=2, u=2)
    ]
    alone = str.join("\n", said([one for one in outcomes if one.config in ("baseline", "s")]))
    assert "s is robust" in alone
    text = str.join("\n", said(outcomes, family=("s", "t", "u")))
    assert "s raises" in text
    assert "strict parses only" in text
    assert f"+0.30, p = {3 * 2 / 2**6:.3f}" in text


def test_readings_that_do_not_allow_for_looks_clear_no_call_and_a_drift_bears_on_who_ran_as_long():
    outcomes = [replace(one, repaired=int(one.task == "task15")) for one in sweep(20, baseline=2, s=16)]
    summary = summarise(outcomes, ["baseline", "s"], comparisons=["s"])
    drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, 0.01)))
    stopped = looked_at(drifted, "efficacy")
    text = str.join("\n", said_of(stopped, outcomes))
    assert "robust" not in text
    assert "until they stopped" in text
    assert "do not allow for interim analyses" in words(robustness_section(stopped))
    assert "interim" not in words(robustness_section(drifted))


def test_a_drift_of_the_baseline_is_reported_and_chance_is_not():
    outcomes = sweep(6, baseline=2, s=2)
    summary = summarise(outcomes, ["baseline", "s"], comparisons=["s"])
    for pvalue, expected in ((0.01, 1), (0.2, 0)):
        drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, pvalue)))
        text = str.join("\n", said_of(drifted, outcomes))
        assert text.count("the baseline drifted with time (p = 0.01") == expected


def test_only_configs_of_one_run_are_said_to_have_run_side_by_side():
    outcomes = sweep(6, baseline=2, s=2)
    shards = [replace(one, run="other") if one.task > "task2" else one for one in outcomes]
    for trials, alone in ((outcomes, True), (shards, False)):
        summary = summarise(trials, ["baseline", "s"], comparisons=["s"])
        drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, 0.01)))
        text = str.join("\n", said_of(drifted, outcomes))
        assert ("side by side, so" in text) == alone
        assert ("In merged runs" in text) != alone
        assert ("between the runs that were merged" in words(robustness_section(drifted))) != alone


# ------------------------------------------------------------------------------------------------ robustness


def test_the_tests_beside_the_verdict_are_shown_as_they_are_on_record():
    outcomes = [replace(one, no_cmd=1, repaired=1) if one.config == "s" else one for one in sweep(6, baseline=4, s=2)]
    summary = summarise(outcomes, ["baseline", "s"], comparisons=["s"])
    row = summary.configs[1]
    section = robustness_section(summary)
    found = cells(section)
    pooled = [f"{test.pvalue:.3f}" for test in (row.cmh, row.mcnemar, row.fisher)]
    low, high = (f"{end:+.2f}".replace("-", "−") for end in (row.effect.interval.low, row.effect.interval.high))
    # Two of six tasks fell: of the four ways to sign them two are as far from zero.
    assert ["s", "−0.33", f"{low} to {high}", "0.500", "0.500", *pooled] in found
    # The config has no clean trial, so nothing tells solving from form.
    assert ["s", "−0.33", "–", "–", "–"] in found
    assert any("s is not split: " in line and "the config has no trial" in line for line in sentences(section))
    clean = [replace(one, no_cmd=0) if one.task == "task0" else one for one in outcomes]
    # Shares of clean trials 1 → 1/6 and of no_cmd 0 → 5/6; clean ones pass at 4/6 and at 1, those with no_cmd at 1/5.
    # Composition 5/6·(1/5 − 5/6) = −0.53, within the clean (1 + 1/6)/2·(1 − 4/6) = +0.19.
    split = cells(robustness_section(summarise(clean, ["baseline", "s"], comparisons=["s"])))
    assert ["s", "−0.33", "+0.00", "−0.53", "+0.19"] in split
    # Six of six tasks rose by one: p = 2/64.
    assert ["s", "no_cmd", "0.00", "1.00", "+1.00", "0.031", f"{3 * 2 / 64:.3f}"] in found
    assert ["s", "strict parses only", "−0.67", "0.125", "0.125"] in found  # 4 of 6 tasks fell: 2/16
    assert any("= through parse_fail" in titles(table) for table in tables(section))
    assert robustness_section(summarise(sweep(2, baseline=1), ["baseline"], comparisons=[])) is None


def test_readings_that_all_agree_take_one_line():
    outcomes = [replace(one, repaired=1) if one.config == "t" else one for one in sweep(6, baseline=4, s=2, t=2)]
    section = robustness_section(summarise(outcomes, ["baseline", "s", "t"], comparisons=[]))
    assert any(line.startswith("The same however") and line.endswith(": s.") for line in sentences(section))
    assert [row[0] for row in cells(section) if row[1] == "strict parses only"] == ["t"]


# ------------------------------------------------------------------------------------------------ constrained replies

CONSTRAINED = Config("constrained", "control", control=ControlOf("constrained", ("s",)), grammar="DONE")


@pytest.mark.parametrize(
    ("solved", "says", "means"),
    [
        (16, "gained as much as s (+0.70 against +0.70", "The gain of the vector may be one of form alone."),
        (2, "gained less than s (+0.00 against +0.70", "The form of the replies does not explain"),
        (13, "gained not clearly less than s (+0.55 against +0.70", "The form of the replies may explain"),
    ],
)
def test_a_gain_is_weighed_against_that_of_the_grammar_alone(solved, says, means):
    lines = said(sweep(20, baseline=2, s=16, constrained=solved), controls=(CONSTRAINED,))
    (line,) = (line for line in lines if "constrained" in line)
    assert says in line
    assert means in line


def test_where_nothing_was_gained_the_change_by_the_grammar_alone_is_told():
    lines = said(sweep(20, baseline=2, s=2, constrained=3), controls=(CONSTRAINED,))
    (line,) = (line for line in lines if "constrained" in line)
    assert "without a vector, changed the pass rate by +0.05 (p = 1.0" in line
