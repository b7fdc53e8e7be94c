"""What a battery found: its ledger, and the cost of a config."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest

from capvec.errors import UsageError
from capvec.plan.plan import Plan, Settings
from capvec.records import Config
from capvec.results.battery import BATTERY, Answer, BatteryLedger, battery_of, costs_of

pytestmark = pytest.mark.unit
CONFIGS = (Config("baseline", "baseline"), Config("s", "steered"), Config("t", "steered"), Config("zero-L1", "control"))


def answers(config, right, of, errors=0):
    made = [Answer(f"i{number}", "d", config, right=number < right) for number in range(of)]
    return [*made, *(Answer(f"i{of + number}", "d", config, error="EngineUnavailable: x") for number in range(errors))]


def plan_of(folder: Path, items: int):
    settings = Settings("m", "bash-block", "brief", 1, 1, 0.7)
    constrained = Config("constrained", "control", grammar="DONE")
    known = {f"i{number}": "d" for number in range(items)}
    return Plan("r", folder, (), (*CONFIGS, constrained), (), settings, battery=known)


def test_a_cost_is_paired_by_item_tested_exactly_and_corrected_over_the_steered_configs():
    base, s, t, zero = costs_of([*answers("baseline", 30, 40), *answers("s", 20, 40, 2), *answers("t", 30, 40),
                                 *answers("zero-L1", 20, 40)], CONFIGS)  # fmt: skip
    assert (base.right, base.answered, base.effect, base.is_significant) == (30, 40, None, False)
    assert (s.right, s.answered, s.errors) == (20, 40, 2)
    assert s.effect.difference == pytest.approx(-0.25)
    # Of the ten items that differ, all fell: McNemar's exact test.
    assert s.effect.pvalue == pytest.approx(binomtest(0, 10).pvalue)
    assert s.effect.holm == pytest.approx(2 * s.effect.pvalue)
    assert s.effect.interval.low < -0.25 < s.effect.interval.high < 0
    assert (s.is_significant, t.is_significant) == (True, False)
    assert zero.effect.holm is None


def test_a_gain_is_no_cost():
    _, s = costs_of([*answers("baseline", 10, 40), *answers("s", 40, 40)], CONFIGS[:2])
    assert not s.is_significant


def test_the_ledger_keeps_the_latest_answer_and_drops_a_torn_line(tmp_path):
    ledger = BatteryLedger(tmp_path)
    assert ledger.read() == ()
    failed, whole = Answer("a", "d", "s", error="x: y"), Answer("a", "d", "s", right=True, reply="B\n\u2028")
    ledger.append(failed)
    ledger.append(whole)
    with (tmp_path / BATTERY).open("ab") as file:
        file.write(b'{"item": "b", "dig')
    assert ledger.read() == (whole,)
    ledger.mend()
    ledger.append(Answer("b", "d", "s"))
    assert [one.item for one in ledger.read()] == ["a", "b"]
    (tmp_path / BATTERY).write_text("[]\n")
    with pytest.raises(UsageError, match=r"battery\.jsonl, line 1: not an answer"):
        ledger.read()


def test_only_answers_to_the_plans_own_items_count_and_the_rest_is_missing(tmp_path):
    plan, ledger = plan_of(tmp_path, 2), BatteryLedger(tmp_path)
    for config in CONFIGS:
        ledger.append(Answer("i0", "d", config.name, right=True))
    ledger.append(Answer("i1", "of another question", "s"))
    ledger.append(Answer("i1", "d", "constrained"))
    found = battery_of(plan)
    # `constrained` is not asked: its grammar is that of the protocol.
    assert (found.items, found.missing, found.is_whole, len(found.costs)) == (2, 4, False, 4)
    for config in CONFIGS:
        ledger.append(Answer("i1", "d", config.name))
    assert battery_of(plan).is_whole
    ledger.append(Answer("i1", "d", "s", error="EngineUnavailable: gone"))
    assert not battery_of(plan).is_whole
    assert battery_of(plan_of(tmp_path, 0)) is None
