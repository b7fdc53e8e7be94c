"""What RESULTS.md says that the numbers mean: every sentence where they call for it, none where they do not."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from support.outcomes import outcome

from capvec.directions.audit import Audit, Confound
from capvec.directions.validate import validate
from capvec.records import Config, ControlOf
from capvec.report.interpretation import meaning_section
from capvec.report.robustness import behind_section
from capvec.results.direction import DirectionSummary
from capvec.stats.drift import DriftTest
from capvec.stats.matched_controls import compare_with_matched_controls
from capvec.stats.sequential import InterimAnalysis, Sequential, SequentialTest
from capvec.stats.summary import summarise
from capvec.steering import Steer

pytestmark = pytest.mark.unit

PLAIN = DirectionSummary("abc", "From a file.")


def sweep(tasks, **solved):
    """One attempt a task: `name=n` solves the first n tasks."""
    return [
        outcome(name, f"task{index}", "solved" if index < count else "unsolved")
        for name, count in solved.items()
        for index in range(tasks)
    ]


def steered(name, alpha=1.0, op="add", layer=0):
    return Config(name, "steered", (Steer(layer, "abc", alpha, op),))


def told(outcomes, direction=PLAIN, controls=(), family=("s",), configs=()):
    names = list(dict.fromkeys(one.config for one in outcomes))
    known = {config.name: config for config in configs}
    configs = [known.get(name, steered(name)) for name in names if name in family]
    configs += [Config("baseline", "baseline"), *controls]
    summary = summarise(outcomes, names, family=list(family))
    tasks = len({outcome.task for outcome in outcomes})
    return list(meaning_section(summary, compare_with_matched_controls(outcomes, configs), direction, configs, tasks))


def looked_at(summary, decision):
    """As it would stand after one of two looks with that decision."""
    look = InterimAnalysis(1, 0.5, 0.01, 0.01, None, 6, 0.0, 1.0, None, None, decision)
    test = SequentialTest("s", 0.05, (look,), 2, "all flips")
    return replace(summary, sequential=Sequential(0.05, (), (), (test,), {}, {}))


def ranking(apart):
    """Layer 0 tells positives from negatives if `apart`; else only as well as any labels are told apart."""
    rng = np.random.default_rng(1)
    pos, neg = (rng.standard_normal((n, 1, 200)).astype(np.float32) for n in (8, 8))
    return validate(pos + 3.0 * apart, neg, permutations=200)


# ------------------------------------------------------------------------------------------------ the calls


def test_each_call_becomes_a_sentence_and_alike_ones_share_it():
    # 20 tasks: 2 → 16 and 3 → 17 are p = 2/2^14 and more; 16 → 2 the same the other way.
    lines = told(sweep(20, baseline=2, s=16, t=17), family=("s", "t"))
    assert lines[0] == "## What it means\n"
    assert lines[1] == "- `s` and `t` solve more, and the test that says so generalises to tasks like these."
    assert told(sweep(20, baseline=16, s=2))[1].startswith("- `s` solves less, ")
    assert told(sweep(12, baseline=4, s=4))[1].startswith("- `s` is left open: its trials on record are too few")
    assert told(sweep(200, baseline=100, s=100))[1].startswith("- `s` does not change what gets solved by as much")


def test_too_few_tasks_are_not_called_too_few_trials():
    # Six tasks give 2/2^6 = 0.031, which is below 0.05 and above 0.05/2: nothing that two configs could do is found.
    blind = "too few to find that it helps or harms, whatever the attempts."
    assert told(sweep(5, baseline=2, s=2))[1] == f"- `s` is left open: its tasks are {blind}"
    assert told(sweep(6, baseline=2, s=2))[1].startswith("- `s` is left open: its trials on record are too few")
    both = told(sweep(6, baseline=2, s=2, t=2), family=("s", "t"))
    assert both[1].startswith("- `s` and `t` are left open: their tasks are too few to find that they help or harm, ")
    # Where the other of the two was found to help, 0.05 is all that is left to clear.
    outcomes = [one for one in sweep(20, baseline=2, s=2, t=16) if one.config != "s" or int(one.task[4:]) < 6]
    assert "- `s` is left open: its trials on record are too few" in "\n".join(told(outcomes, family=("s", "t")))


def test_a_change_of_form_alone_is_not_said_to_leave_solving_as_it_was():
    outcomes = [replace(one, no_cmd=int(one.config == "s")) for one in sweep(200, baseline=100, s=100)]
    said = "- `s` changes how the model replies, and does not change what gets solved by as much as would matter."
    assert said in told(outcomes)


@pytest.mark.parametrize(
    ("decision", "because"),
    [
        ("go on", "the sweep ended before its last look"),
        ("futility", "it was stopped for futility"),
        ("end", "its trials on record are too few"),
    ],
)
def test_a_config_is_left_open_for_the_reason_that_it_is(decision, because):
    summary = summarise(sweep(12, baseline=4, s=4), ["baseline", "s"], family=["s"])
    looked = looked_at(summary, decision)
    assert f"- `s` is left open: {because}" in "\n".join(meaning_section(looked, (), PLAIN, [], 12))


def test_nothing_compared_means_nothing():
    assert told(sweep(3, baseline=1), family=()) == []


# ------------------------------------------------------------------------------------------------ the direction


def test_a_direction_that_tells_traces_apart_and_does_not_help_is_called_that():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = "\n".join(told(sweep(200, baseline=100, s=100), direction))
    assert "The direction tells the traces apart (AUC 1.000 in sample at layer 0, beyond chance), and no config" in text
    helped = "\n".join(told(sweep(20, baseline=2, s=16), direction))
    assert "tells the traces apart" not in helped


def test_a_sweep_that_could_find_nothing_says_nothing_about_causes():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = "\n".join(told(sweep(3, baseline=1, s=1), direction))
    assert "; whether it also makes the agent solve more or less, this sweep cannot tell." in text
    assert "need not be what makes them" not in text


@pytest.mark.parametrize(("alpha", "op", "spoken"), [(-1.0, "add", 0), (1.0, "ablate", 0), (1.0, "add", 1)])
def test_harm_by_steering_against_a_direction_speaks_for_it_as_a_cause(alpha, op, spoken):
    direction = replace(PLAIN, ranking=ranking(apart=True))
    text = "\n".join(told(sweep(20, baseline=16, s=2), direction, configs=[steered("s", alpha, op)]))
    assert "- `s` solves less" in text
    assert text.count("need not be what makes them") == spoken


def test_a_reversed_control_that_harms_speaks_for_the_direction_too():
    direction = replace(PLAIN, ranking=ranking(apart=True))
    negated = Config("negated", "control", (Steer(0, "abc", -1.0),), control=ControlOf("negated", ("s",)))
    text = "\n".join(told(sweep(200, baseline=100, s=100, negated=2), direction, controls=[negated]))
    assert "need not be what makes them" not in text


def test_an_auc_that_permuted_labels_reach_is_no_evidence():
    direction = replace(PLAIN, ranking=ranking(apart=False))
    assert direction.ranking.best.auc == 1.0  # 16 points in 200 dimensions
    text = "\n".join(told(sweep(20, baseline=2, s=16), direction))
    assert "The AUC of 1.000 in sample at layer 0 is one that permuted labels reach too" in text


def test_a_flagged_confound_is_named():
    flagged = Confound("steps", 9, 0, 1.0, 0.66, 0.0001, "negatives")
    direction = replace(PLAIN, audit=Audit((flagged,)))
    text = "\n".join(told(sweep(6, baseline=2, s=2), direction))
    assert "told apart by `steps` alone as well" in text
    assert "told apart" not in "\n".join(told(sweep(6, baseline=2, s=2)))


# ------------------------------------------------------------------------------------------------ the form


def test_a_trade_off_is_named_with_what_ran_through_it():
    spoiled = [replace(one, parse_fail=2) if one.config == "baseline" else replace(one, no_cmd=2)
               for one in sweep(20, baseline=8, s=8)]  # fmt: skip
    outcomes = [replace(one, parse_fail=0, no_cmd=0) if one.task == "task0" else one for one in spoiled]
    text = "\n".join(told(outcomes))
    assert (
        "- `s` changed the form of the replies (traded parse_fail for no_cmd); the change in pass rate is +0.00 = "
        in text
    )
    assert "traded" not in "\n".join(told(sweep(20, baseline=8, s=8)))
    # Where neither side has a clean trial there is nothing to compare the spoiled ones with.
    text = "\n".join(told(spoiled))
    assert "traded parse_fail for no_cmd); how much of the change in pass rate runs through the form cannot be" in text
    assert "through parse_fail" not in text


# ------------------------------------------------------------------------------------------------ twins


def twins(count):
    return [Config(f"random{n}", "control", control=ControlOf("random", ("s",))) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "rates", "says"),
    [
        (19, 4, "None of 19 random twins of `s` solved as much or more (one-sided p = 0.05)"),
        (
            20,
            4,
            "None of 20 random twins of `s` solved as much or more (one-sided p = 0.048): a push of that length",
        ),
        (20, 16, "20 of 20 random twins of `s` solved as much or more (one-sided p = 1): not distinguishable"),
        (2, 4, "None of 2 random twins of `s` solved as much or more (one-sided p = 0.33): too few twins"),
    ],
)
def test_the_vectors_twins_are_weighed(count, rates, says):
    outcomes = sweep(20, baseline=4, s=16, **{f"random{n}": rates for n in range(count)})
    assert says in "\n".join(told(outcomes, controls=twins(count)))


def test_a_config_that_harms_is_weighed_among_twins_that_solve_as_little():
    harmed = {"baseline": 16, "s": 2}
    lone = "\n".join(told(sweep(20, **harmed, **{f"random{n}": 16 for n in range(20)}), controls=twins(20)))
    # 1 of the 21 is as low.
    assert "None of 20 random twins of `s` solved as little or less (one-sided p = 0.048): a push of that" in lone
    alike = "\n".join(told(sweep(20, **harmed, **{f"random{n}": 1 for n in range(20)}), controls=twins(20)))
    assert "20 of 20 random twins of `s` solved as little or less (one-sided p = 1): not distinguishable" in alike


def test_where_no_effect_is_called_twins_have_nothing_to_explain():
    outcomes = sweep(20, baseline=8, s=8, **{f"random{n}": 2 for n in range(20)})
    assert "twins" not in "\n".join(told(outcomes, controls=twins(20)))


# ------------------------------------------------------------------------------------------------ readings, drift


def test_an_effect_that_rests_on_repaired_replies_is_told():
    outcomes = sweep(20, baseline=2, s=16)
    repaired = [replace(one, repaired=1) if one.config == "s" else one for one in outcomes]
    text = "\n".join(told(repaired))
    # All of s's solved trials go: 2 of 20 tasks differ, two flips of four are as far, p = 0.5.
    assert '`s` hangs on how trials are counted: under "strict parses only" it is −0.10, p = 0.500 after Holm.' in text


def test_what_cannot_be_counted_in_two_ways_is_not_spoken_of():
    outcomes = sweep(20, baseline=2, s=16)
    assert "counted" not in "\n".join(told(outcomes))
    failed = [replace(one, outcome="error") if (one.config, one.task) == ("s", "task19") else one for one in outcomes]
    assert "`s` does not hang on how its errors are counted." in "\n".join(told(failed))
    both = [replace(one, repaired=1) if one.config == "baseline" else one for one in failed]
    assert "`s` does not hang on how its errors and repaired replies are counted." in "\n".join(told(both))


def test_a_harm_that_rests_on_errors_is_told_and_both_readings_are_shown():
    # s errs on the ten tasks that the baseline fails, and solves two of the ten others: 8 of 10 fell, p = 2/2^8.
    outcomes = [
        replace(one, outcome="error") if one.config == "s" and int(one.task[4:]) >= 10 else one
        for one in sweep(20, baseline=10, s=2)
    ]
    text = "\n".join(told(outcomes))
    assert "- `s` solves less" in text
    # With errors solved 10 of 20 rose and 8 fell: a sum of 2 or more among 18 signs is that of 10 heads or more, or of
    # 8 or fewer: all but the middle, C(18, 9)/2^18.
    pvalue = 1 - comb(18, 9) / 2**18
    assert f'under "errors count for the config" it is +0.10, p = {pvalue:.3f} after Holm' in text
    shown = cells(behind_section(summarise(outcomes, ["baseline", "s"], family=["s"])))
    assert [row[1:3] for row in shown if row[1].startswith("errors")] == [
        ["errors excluded", "−0.80"], ["errors count against the config", "−0.40"],
        ["errors count for the config", "+0.10"],
    ]  # fmt: skip


def test_a_config_that_only_erred_is_read_both_ways():
    outcomes = [replace(one, outcome="error") if one.config == "s" else one for one in sweep(20, baseline=5, s=0)]
    shown = list(behind_section(summarise(outcomes, ["baseline", "s"], family=["s"])))
    assert [row[:3] for row in cells(shown) if row[0] == "s"] == [
        ["s", "errors count against the config", "−0.25"], ["s", "errors count for the config", "+0.75"]
    ]  # fmt: skip
    assert not any("side by side" in line for line in shown)


def test_a_reading_is_corrected_for_the_family_as_the_call_is():
    # s rises on 8 of 20 tasks: p = 2/2^8, three times that is 0.023. Two of its passes are repaired, which leaves 6:
    # p = 2/2^6 = 0.031 would do alone, and does not as one of three.
    outcomes = [
        replace(one, repaired=1) if one.config == "s" and one.task in ("task8", "task9") else one
        for one in sweep(20, baseline=2, s=10, t=2, u=2)
    ]
    alone = "\n".join(told([one for one in outcomes if one.config in ("baseline", "s")]))
    assert "`s` does not hang on how repaired replies are counted." in alone
    text = "\n".join(told(outcomes, family=("s", "t", "u")))
    assert "- `s` solves more" in text
    assert f'under "strict parses only" it is +0.30, p = {3 * 2 / 2**6:.3f} after Holm.' in text


def test_readings_that_do_not_allow_for_looks_clear_no_call_and_a_drift_bears_on_who_ran_as_long():
    outcomes = [replace(one, repaired=int(one.task == "task15")) for one in sweep(20, baseline=2, s=16)]
    summary = summarise(outcomes, ["baseline", "s"], family=["s"])
    drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, 0.01)))
    stopped = looked_at(drifted, "efficacy")
    text = "\n".join(meaning_section(stopped, (), PLAIN, [], 12))
    assert "does not hang" not in text
    assert "Configs ran side by side until they stopped" in text
    assert "as if nobody had looked before the end" in "\n".join(behind_section(stopped))
    assert "as if nobody had looked" not in "\n".join(behind_section(drifted))


def test_a_drift_of_the_baseline_is_told_and_chance_is_not():
    outcomes = sweep(6, baseline=2, s=2)
    summary = summarise(outcomes, ["baseline", "s"], family=["s"])
    for pvalue, expected in ((0.01, 1), (0.2, 0)):
        drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, pvalue)))
        text = "\n".join(meaning_section(drifted, (), PLAIN, [], 12))
        assert text.count("The baseline passed more or less often as time went on (p = 0.01") == expected


def test_only_configs_of_one_run_are_said_to_have_run_side_by_side():
    outcomes = sweep(6, baseline=2, s=2)
    shards = [replace(one, run="other") if one.task > "task2" else one for one in outcomes]
    for trials, said in ((outcomes, True), (shards, False)):
        summary = summarise(trials, ["baseline", "s"], family=["s"])
        drifted = replace(summary, drift=replace(summary.drift, pass_trend=DriftTest(0.5, 0.01)))
        text = "\n".join(meaning_section(drifted, (), PLAIN, [], 12))
        assert ("Configs ran side by side, so it bears on all of them alike." in text) == said
        assert ("These are merged runs" in text) != said
        assert ("but not between the runs that were merged" in "\n".join(behind_section(drifted))) != said


# ------------------------------------------------------------------------------------------------ behind it


def cells(lines):
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("|")]


def test_what_stands_behind_a_call_is_shown_as_it_is_on_record():
    outcomes = [replace(one, no_cmd=1, repaired=1) if one.config == "s" else one for one in sweep(6, baseline=4, s=2)]
    summary = summarise(outcomes, ["baseline", "s"], family=["s"])
    row = summary.configs[1]
    found = cells(behind_section(summary))
    pooled = [f"{test.pvalue:.3f}" for test in (row.cmh, row.mcnemar, row.boschloo, row.fisher)]
    low, high = (f"{end:+.2f}".replace("-", "−") for end in (row.effect.interval.low, row.effect.interval.high))
    # Two of six tasks fell: of the four ways to sign them two are as far from zero.
    assert ["s", "−0.33", f"{low} to {high}", "0.500", "0.500", *pooled] in found
    # The config has no clean trial, so nothing tells solving from form.
    assert ["s", "−0.33", "–", "–", "–"] in found
    assert any(
        "`s` is not split: how much" in line and "the config has no trial" in line for line in behind_section(summary)
    )
    clean = [replace(one, no_cmd=0) if one.task == "task0" else one for one in outcomes]
    # Shares of clean trials 1 → 1/6 and of no_cmd 0 → 5/6; clean ones pass at 4/6 and at 1, those with no_cmd at 1/5.
    # Composition 5/6·(1/5 − 5/6) = −0.53, within the clean (1 + 1/6)/2·(1 − 4/6) = +0.19.
    split = cells(behind_section(summarise(clean, ["baseline", "s"], family=["s"])))
    assert ["s", "−0.33", "+0.00", "−0.53", "+0.19"] in split
    # Six of six tasks rose by one: p = 2/64.
    assert ["s", "no_cmd", "0.00", "1.00", "+1.00", "0.031", f"{3 * 2 / 64:.3f}"] in found
    assert ["s", "strict parses only", "−0.67", "0.125", "0.125"] in found  # 4 of 6 tasks fell: 2/16
    assert "+ where every reply acted or said it was done" in "\n".join(behind_section(summary))
    assert list(behind_section(summarise(sweep(2, baseline=1), ["baseline"], family=[]))) == []


def test_readings_that_all_say_the_same_are_told_in_a_line():
    outcomes = [replace(one, repaired=1) if one.config == "t" else one for one in sweep(6, baseline=4, s=2, t=2)]
    lines = list(behind_section(summarise(outcomes, ["baseline", "s", "t"], family=[])))
    assert "The same however errors and repaired replies are counted: `s`.\n" in lines
    assert [row[0] for row in cells(lines) if row[1] == "strict parses only"] == ["t"]
