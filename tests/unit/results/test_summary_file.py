"""Summaries of earlier versions are read in the names of today."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from support import REPOSITORY
from support.recorded_run import write_recorded

from capvec.results.summary_file import current_names, read_summary
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.verdict import Verdict

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("path", sorted((REPOSITORY / "reports").glob("*/summary.json")), ids=lambda p: p.parent.name)
def test_a_committed_summary_has_the_names_of_today(path):
    summary = read_summary(path)
    assert {"comparisons", "secondary_comparisons"} <= set(summary)
    assert not {"family", "secondary_family", "twins"} & set(summary)
    for row in summary["configs"]:
        assert {field.name for field in fields(ConfigSummary)} <= set(row)
        assert row["verdict"] is None or set(row["verdict"]) == {field.name for field in fields(Verdict)}


def test_every_earlier_key_is_renamed_where_it_stands():
    row = {"config": "s", "form": {"passed": "up"}, "call": {"margin": 0.15}}
    old = {
        "family": ["s"],
        "secondary_family": ["s: steps"],
        "spared_trials": 2,
        "configs": [row, {"config": "baseline", "form": None, "call": None}],
        "twins": [{"config": "s", "twins": {"r1": 0.5}}],
        "bases": {"s": row},
        "sequential": {"level": 0.05, "tests": [{"config": "s", "looks": [{"number": 1}]}]},
    }
    now = {"config": "s", "format_change": {"pass_rate": "up"}, "verdict": {"equivalence_margin": 0.15}}
    assert current_names(old) == {
        "comparisons": ["s"],
        "secondary_comparisons": ["s: steps"],
        "skipped_trials": 2,
        "configs": [now, {"config": "baseline", "format_change": None, "verdict": None}],
        "matched_controls": [{"config": "s", "controls": {"r1": 0.5}}],
        "bases": {"s": now},
        "sequential": {"level": 0.05, "tests": [{"config": "s", "analyses": [{"number": 1}]}]},
    }


def test_a_summary_of_today_is_read_as_it_is(tmp_path):
    path = write_recorded(tmp_path / "r").folder / "summary.json"
    assert read_summary(path) == json.loads(path.read_text())
