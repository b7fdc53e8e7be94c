"""The comparison with the original study: rows by arithmetic, findings that can go either way."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.labelled import estimate, labelled
from support.recorded_run import write_recorded

from capvec.directions.activations import Activations
from capvec.directions.audit import Audit
from capvec.directions.build import BuiltDirection
from capvec.directions.contrast import Contrast
from capvec.directions.direction import Direction
from capvec.directions.estimate import ambient_norms
from capvec.directions.validate import validate
from capvec.stats.config_summary import summarise_config
from capvec.stats.effects import Effect
from capvec.stats.pooled import FisherResult
from capvec.stats.verdict import Detectable, Verdict
from dev.original_study.comparison import ALPHAS, Sweep, findings, layer_rows, main, report
from dev.original_study.published import change_of

pytestmark = pytest.mark.unit


def built(positives, negatives):
    residuals = np.concatenate([positives, negatives])
    direction = Direction(estimate(positives, negatives), ambient_norms(residuals))
    return BuiltDirection(
        direction,
        validate(*labelled(positives, negatives), permutations=50),
        Contrast("same-model", "m", (), ()),
        Audit(()),
        Activations(residuals, "last", (9,) * len(residuals), (0,) * len(residuals)),
    )


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(12, 2, 8)).astype(np.float32) * 0.01
    base = np.zeros((2, 8), dtype=np.float32)
    base[:, 0] = 10
    first, second = base.copy(), base.copy()
    first[:, 1] = 1  # v1 points along axis 1
    second[:, 1:3] = 3 / math.sqrt(2)  # v2 lies half way between axes 1 and 2, three times as long
    return layer_rows(built(first + noise[:5], base + noise[5:]), built(second + noise[:5], base + noise[5:]))


def row(rate=0.5, parse_fail=1.0, no_cmd=1.0, steps=5.0, p=0.8, ends="done"):
    return replace(
        summarise_config("", [], []),
        solved=round(rate * 10),
        n=10,
        pass_rate=rate,
        parse_fail_per_run=parse_fail,
        no_cmd_per_run=no_cmd,
        mean_steps=steps,
        fisher=FisherResult(1.0, p),
        end_reasons={ends: 10},
    )


def verdict(name, words):
    return Verdict(name, words, 1.0, None, Detectable(None, None, 0.05), 0.15)


def sweep(four=None, eight=None):
    rows = {f"steered-L1-a{alpha:g}": row() for alpha in (0.5, *ALPHAS)}
    rows |= {"baseline": row(), "steered-L1-a4": four or row(), "steered-L1-a8": eight or row()}
    return Sweep(1, {name: replace(one, config=name) for name, one in rows.items()})


def test_each_layer_has_both_ratios_and_their_cosine(rows):
    assert [one.layer for one in rows] == [0, 1]
    for one in rows:
        # By arithmetic: the margins are 1 and 3 on a residual of length about 10; 45 degrees lie between them.
        assert one.margin_ratio_v1 == pytest.approx(0.1, rel=0.05)
        assert one.margin_ratio_v2 == pytest.approx(0.3, rel=0.05)
        assert one.margin_ratio_noise_v1 < one.margin_ratio_v1
        assert one.margin_ratio_null_p95_v2 <= one.margin_ratio_v2
        assert one.cosine == pytest.approx(math.cos(math.pi / 4), abs=0.02)
        assert one.auc_v1 == one.auc_v2 == 1


def test_a_replication_agrees_in_every_finding(rows):
    found = findings(rows, sweep(row(parse_fail=0.5, no_cmd=2), row(rate=0.1, steps=1.4)))
    assert [finding.agrees for finding in found] == [True] * 8


def test_an_agent_that_a_limit_stops_has_not_bailed_out(rows):
    found = findings(rows, sweep(eight=row(rate=0.1, steps=1.4, ends="no_cmd_limit")))
    assert [finding.agrees for finding in found[-2:]] == [True, False]
    assert found[-1].here == "0 of 10 trials end so; it bails out at no strength"


def test_findings_that_do_not_hold_are_said_not_to(rows):
    other = sweep(row(rate=0.9, p=0.01), row(rate=0.6, steps=9))
    verdicts = [finding.agrees for finding in findings(rows, other)]
    assert verdicts == [True, True, True, False, False, False, False, False]
    text = "\n".join(report(rows, other, {"v1": "…"}))
    assert "3 of 8 findings" in text
    assert "0.90 at α = 4, " in text
    assert text.count("**no**") == 5
    assert "| steered-L1-a0.5 | 5/10 | 0.50 | 1.00 | 1.00 | 5.00 | 0.15 | 0.8 | done 10 |" in text


def test_the_trade_off_is_named_from_the_original_studys_counts_and_the_sweeps_in_the_same_words(rows):
    traded = report(
        rows,
        sweep(replace(row(parse_fail=0.5, no_cmd=2), verdict=verdict("underpowered", "underpowered: x"))),
        {},
    )
    text = "\n".join(traded)
    name = "traded parse_fail for no_cmd: format changed, solving did not"
    assert f"vector {name}; here, at α = 4: {name} (verdict: underpowered)." in text
    assert f"- six tasks, steered-L22-α4: {name} (parse_fail 2.2 → 1.3 and no_cmd 1.2 → 2.7 per run; pass 2/6" in text
    assert "- six tasks, steered-L30-α4: less parse_fail and less no_cmd: format changed, solving did not" in text
    assert "- sprint, α = 2: solving did not change (pass 1/5 → 0/5, Fisher p = 1); 5 runs cannot detect a" in text
    assert f"- steered-L1-a4: {name} (parse_fail 1 → 0.5 and no_cmd 1 → 2 per run; pass 5/10 → 5/10" in text
    assert text.count("Verdict: underpowered: x.") == 1
    assert "- steered-L1-a8: neither format nor solving changed (parse_fail 1 → 1" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("underpowered", "solving fell on these 6 tasks; nothing is known about others (verdict: underpowered)"),
        ("harms", "solving fell (verdict: harms)"),
    ],
)
def test_what_fell_on_a_few_tasks_is_not_said_to_fall_on_others(rows, name, said):
    # 5 of 10 → 0 of 10: Fisher's p is 2·C(10, 5)/C(20, 5) = 0.033.
    effect = Effect("", "pass_rate", 6, 10, 0.5, 0.0, -0.5, 0.03)
    fell = replace(row(rate=0.0), verdict=verdict(name, name), effect=effect)
    text = "\n".join(report(rows, sweep(fell), {}))
    assert f"here, at α = 4: format did not change, {said}.\n" in text


def test_a_strength_of_which_every_trial_was_an_error_has_nothing_to_be_told():
    assert change_of(summarise_config("", [], []), row()) is None


@pytest.mark.parametrize("write", [Path.mkdir, write_recorded], ids=["no run", "other strengths"])
def test_a_folder_that_is_no_such_sweep_is_refused(tmp_path, capsys, write):
    write(tmp_path / "r")
    assert main([str(tmp_path / "r")]) == 2
    assert str(tmp_path / "r") in capsys.readouterr().err
