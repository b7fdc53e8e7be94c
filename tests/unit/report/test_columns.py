"""`docs/reference/columns.md` names every column and key that a run writes, and none that it does not."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import fields

import pandas as pd
import pytest
from support import REPOSITORY
from support.recorded_run import write_recorded

from capvec.commands.main import main
from capvec.directions.audit import Audit, Confound
from capvec.directions.contrast import ContrastRecord, RuleCount
from capvec.directions.metadata import Metadata
from capvec.directions.recipe import Recipe
from capvec.engines.protocol import ChatTemplateInfo, EngineInfo, GenerationDefaults
from capvec.plan.dealing import Dealing
from capvec.plan.option_parsers import Control, Shard
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Settings
from capvec.records import Config, ControlOf, Interval, LostTry, Measured, Outcome
from capvec.report.files import MASTER_COLUMNS
from capvec.results.battery import Answer, CostRow
from capvec.results.departures import Departure
from capvec.results.gates import GateResult
from capvec.results.zero_control import Comparison
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.drift import Drift, DriftTest
from capvec.stats.effects import Effect
from capvec.stats.format_change import FormatChange
from capvec.stats.matched_controls import MatchedComparison, RankTest
from capvec.stats.mediation import Category, Mediation
from capvec.stats.pairing import McNemarResult, SignFlipResult
from capvec.stats.pass_at_k import ConfigPassAtK, PassAtK
from capvec.stats.pooled import FisherResult
from capvec.stats.rewards import ConfigRewards, NamedMean, RewardSummary
from capvec.stats.sensitivity import Sensitivity
from capvec.stats.sequential import InterimAnalysis, Sequential, SequentialTest
from capvec.stats.stratified import CmhResult
from capvec.stats.verdict import Detectable, Verdict
from capvec.steering import Steer
from capvec.studies.calibration.configs import Arms
from capvec.studies.calibration.selection import GridPoint, Selection
from capvec.studies.calibration.selection_study import Grid
from capvec.studies.calibration.verdicts import Criterion
from dev.original_study.comparison import LayerRow

pytestmark = pytest.mark.unit

REPORTS = REPOSITORY / "reports"
RECORDS = {
    "trials.jsonl": {"": Outcome, "lost[]": LostTry, "measured[]": Measured},
    "battery.jsonl": {"": Answer},
    "summary.json": {
        "configs[]": ConfigSummary, "wilson": Interval,
        "fisher": FisherResult, "sign_flip": SignFlipResult, "mcnemar": McNemarResult,
        "cmh": CmhResult, "effect": Effect, "mediation": Mediation, "mediation.categories[]": Category,
        "format_change": FormatChange, "sensitivity[]": Sensitivity, "verdict": Verdict,
        "verdict.detectable": Detectable, "drift": Drift,
        "drift.pass_trend": DriftTest, "matched_controls[]": MatchedComparison,
        "battery[]": CostRow, "matched_controls[].rank": RankTest, "gates[]": GateResult,
        "pass_at_k[]": ConfigPassAtK, "pass_at_k[].by_k[]": PassAtK,
        "rewards": RewardSummary, "rewards.configs[]": ConfigRewards, "rewards.configs[].named": NamedMean,
        "sequential": Sequential, "sequential.tests[]": SequentialTest,
        "sequential.tests[].analyses[]": InterimAnalysis, "preregistration.departures[]": Departure,
    },
    "provenance.json": {
        "options": SweepOptions, "options.recipe": Recipe, "options.controls[]": Control, "options.grids": Grid,
        "options.shard": Shard, "dealing": Dealing,
        "settings": Settings, "model": EngineInfo, "model.defaults": GenerationDefaults,
        "model.template": ChatTemplateInfo, "direction.metadata": Metadata,
        "direction.contrast": ContrastRecord, "direction.contrast.rules[]": RuleCount, "direction.audit": Audit,
        "direction.audit.confounds[]": Confound, "configs[]": Config, "configs[].steers[]": Steer,
        "configs[].control": ControlOf,
    },
    "calibration.json": {
        "verdicts[]": Criterion, "arms": Arms, "zero[]": Comparison, "selection": Selection,
        "selection.grid[]": GridPoint,
    },
    "seed_layers.csv": {"": LayerRow},
}  # fmt: skip
"""File, and the first name in a heading (empty for the file's own table) → what is written there."""
OTHERS = {
    "master_summary.csv": [""],
    "summary.json": ["", "preregistration"],
    "stopped.json": [""],
    "results.jsonl": [""],
    "Results made elsewhere": ["", "sources[]"],
    "vectors/ranking.csv": [""],
    "provenance.json": ["", "direction", "direction.ranking", "direction.format", "tasks"],
    "calibration.json": [""],
    "Earlier names": [""],
}
"""Tables of what no record stands for."""
OF_OTHER_STUDIES = {
    ("provenance.json", "options"): ["grids", "selected"],
    ("provenance.json", "direction"): ["contrast_tasks", "format"],
    ("provenance.json", "direction.contrast"): ["skill", "format"],
}
OPTIONAL = ["rewards", "sequential", "bases", "skipped_trials", "stopped", "preregistration"]
"""Keys of `summary.json` that only some runs have."""
POINTS = ("selection.baseline", "selection.skill", "selection.format")
KEYED = {"tasks", "options.grids"}
"""Places of `provenance.json` where the keys are names, and each value is an object that the table is of."""
TOLD_ELSEWHERE = {
    "provenance.json": {
        *(
            "seeds",
            "versions",
            "earlier_sessions[]",
            "options.selected",
            "options.choice",
            "options.recipe.trace_fields",
            "direction.controls",
            "direction.twins",
        ),
        *("direction.contrast.dropped", "direction.contrast.uncounted", "direction.contrast.rules[].dropped"),
    },
    "calibration.json": {"splits", "verdicts[].effects[]", "verdicts[].held_out[]", "selection.settings", *POINTS},
}
"""Places where the keys are names or reasons, or are those of another table."""


@pytest.fixture(scope="module")
def documented():
    """File → first name in a table's heading, empty for the file's own → the names that the table explains."""
    text = (REPOSITORY / "docs" / "reference" / "columns.md").read_text(encoding="utf-8")
    found = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        file, *tables = re.split(r"^### ", part, flags=re.MULTILINE)
        found[_name(file)] = {"": _rows(file)} | {_name(table): _rows(table) for table in tables}
    return found


def _name(table):
    return re.match(r"`[^`]+`|.+", table)[0].strip("`")


def _rows(table):
    """The names of each row's first cell."""
    first = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", table, re.MULTILINE)
    return [name for cell in first for name in re.findall(r"`(\w+)`", cell)]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run folder as the code of today writes it."""
    return write_recorded(tmp_path_factory.mktemp("reports") / "r").folder


def objects(value, file, place=""):
    """Every object inside a JSON value, as its place and its keys."""
    if isinstance(value, list):
        for item in value:
            yield from objects(item, file, f"{place}[]")
    elif isinstance(value, dict) and place in KEYED:
        yield from ((place, list(item)) for item in value.values())
    elif isinstance(value, dict) and place not in TOLD_ELSEWHERE[file]:
        yield place, list(value)
        for key, item in value.items():
            yield from objects(item, file, f"{place}.{key}".lstrip("."))


RENAMED = {"model.habits": "model.defaults"}
"""Objects by the name that earlier runs wrote."""


def undocumented(path, documented):
    """Keys of a JSON file that its tables do not name."""
    tables = documented[path.name]
    found = objects(json.loads(path.read_text()), path.name)
    return {key for place, keys in found for key in keys if key not in tables.get(RENAMED.get(place, place), ())}


def header(path):
    with path.open(newline="") as file:
        return next(csv.reader(file))


def test_every_table_of_the_document_is_of_something_that_is_written(documented):
    named = {(file, name) for known in (RECORDS, OTHERS) for file, names in known.items() for name in names}
    assert {(file, name) for file, names in documented.items() for name in names} == named


@pytest.mark.parametrize(("file", "name"), [(file, name) for file, names in RECORDS.items() for name in names])
def test_a_record_is_documented_field_by_field_in_its_order(documented, file, name):
    of_record = [field.name for field in fields(RECORDS[file][name]) if field.name != "command_line"]
    assert documented[file][name] == [*of_record, *OF_OTHER_STUDIES.get((file, name), ())], (
        f"explain the fields of {RECORDS[file][name].__name__} in docs/reference/columns.md, in their order"
    )


def test_the_table_of_trials_is_documented_column_by_column(documented):
    assert documented["master_summary.csv"][""] == list(MASTER_COLUMNS), (
        "explain the names of MASTER_COLUMNS in docs/reference/columns.md, in their order"
    )


def test_the_ranking_is_documented_column_by_column(documented, written):
    assert documented["vectors/ranking.csv"][""] == header(written / "vectors" / "ranking.csv")


def test_the_summary_is_documented_key_by_key(documented, written):
    keys = json.loads((written / "summary.json").read_text())
    assert not set(OPTIONAL) & set(keys)
    assert documented["summary.json"][""] == [*keys, *OPTIONAL]


def test_what_was_read_elsewhere_is_documented_key_by_key(documented, tmp_path):
    pd.DataFrame([{"task": "a", "config": name, "reward": 1} for name in ("baseline", "b")]).to_csv(tmp_path / "t.csv")
    assert main(["judge", str(tmp_path / "t.csv"), "--out", str(tmp_path / "r")]) == 0
    record = json.loads((tmp_path / "r" / "provenance.json").read_text())
    line = json.loads((tmp_path / "r" / "results.jsonl").read_text().splitlines()[0])
    assert sorted(documented["Results made elsewhere"][""]) == sorted(record)
    assert documented["Results made elsewhere"]["sources[]"] == list(record["sources"][0])
    assert sorted(documented["results.jsonl"][""]) == sorted(line)


def test_what_a_session_says_of_itself_is_documented_key_by_key(documented, written):
    provenance, tables = json.loads((written / "provenance.json").read_text()), documented["provenance.json"]
    assert tables[""] == list(provenance)
    assert tables["direction"] == [*provenance["direction"], *OF_OTHER_STUDIES["provenance.json", "direction"]]
    assert tables["direction.ranking"] == list(provenance["direction"]["ranking"])
    assert all(tables["tasks"] == list(task) for task in provenance["tasks"].values())
    assert undocumented(written / "provenance.json", documented) == set()


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*/provenance.json")), ids=lambda path: path.parent.name)
def test_a_committed_run_says_nothing_of_itself_that_is_not_documented(documented, path):
    assert undocumented(path, documented) <= set(documented["Earlier names"][""])


@pytest.mark.parametrize("path", sorted(REPORTS.glob("*/trials.jsonl")), ids=lambda path: path.parent.name)
def test_the_trials_of_a_committed_run_are_documented(documented, path):
    named = {*documented["trials.jsonl"][""], *documented["Earlier names"][""]}
    assert all(set(json.loads(line)) <= named for line in path.read_text().splitlines())


def test_a_committed_calibration_is_documented_key_by_key(documented):
    path = REPORTS / "calibration" / "calibration.json"
    assert documented["calibration.json"][""] == list(json.loads(path.read_text()))
    assert undocumented(path, documented) == set()


def test_a_committed_comparison_with_the_seed_is_documented_column_by_column(documented):
    assert documented["seed_layers.csv"][""] == header(REPORTS / "seed" / "seed_layers.csv")
