"""`COLUMNS.md` names every column and key that a run writes, and none that it does not."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from importlib import resources

import pytest
from recorded_run import write_recorded

from capvec.records import Measured, Outcome
from capvec.report.files import MASTER_COLUMNS
from capvec.stats.drift import Drift, DriftTest
from capvec.stats.effects import Effect
from capvec.stats.form import FormChange
from capvec.stats.intervals import Interval
from capvec.stats.mediation import Category, Mediation
from capvec.stats.pairing import McNemarResult, SignFlipResult
from capvec.stats.pooled import BoschlooResult, FisherResult
from capvec.stats.sensitivity import Sensitivity
from capvec.stats.sequential import Look, Sequential, SequentialTest
from capvec.stats.stratified import CmhResult
from capvec.stats.summary import ConfigSummary
from capvec.stats.twins import Rank, TwinComparison
from capvec.stats.verdict import Call, Detectable
from capvec.sweep.gate import GateResult

pytestmark = pytest.mark.unit

RECORDS = {
    "trials.jsonl": Outcome, "measured[]": Measured, "configs[]": ConfigSummary, "wilson": Interval,
    "fisher": FisherResult, "boschloo": BoschlooResult, "sign_flip": SignFlipResult, "mcnemar": McNemarResult,
    "cmh": CmhResult, "effect": Effect, "mediation": Mediation, "mediation.categories[]": Category, "form": FormChange,
    "sensitivity[]": Sensitivity, "call": Call, "call.detectable": Detectable, "drift": Drift,
    "drift.pass_trend": DriftTest, "twins[]": TwinComparison, "twins[].rank": Rank, "gates[]": GateResult,
    "sequential": Sequential, "sequential.tests[]": SequentialTest, "sequential.tests[].looks[]": Look,
}  # fmt: skip
"""The first name in a heading → what is written there."""
OF_SEQUENTIAL = {"sequential", "bases", "spared_trials"}


@pytest.fixture(scope="module")
def documented():
    text = resources.files("capvec.report").joinpath("COLUMNS.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^##+ `([^`]+)`.*$", text, flags=re.MULTILINE)
    return {
        name: re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) for name, part in zip(*[iter(parts)] * 2, strict=True)
    }


def test_every_table_of_the_document_is_of_something_that_is_written(documented):
    assert set(documented) == {*RECORDS, "master_summary.csv", "summary.json"}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_documented_field_by_field_in_its_order(documented, name):
    assert documented[name] == [field.name for field in fields(RECORDS[name])]


def test_the_table_of_trials_is_documented_column_by_column(documented):
    assert documented["master_summary.csv"] == list(MASTER_COLUMNS)


def test_the_summary_is_documented_key_by_key(documented, tmp_path):
    write_recorded(tmp_path / "r")
    written = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert not OF_SEQUENTIAL & set(written)
    assert documented["summary.json"] == [*written, "sequential", "bases", "spared_trials"]
