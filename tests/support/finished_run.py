"""A finished sweep's run folder, written by the functions that a sweep writes it with, without having run it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from capvec.directions.direction import Direction, orthogonal_controls, save_all
from capvec.directions.metadata import LAYER_CONVENTION, Metadata
from capvec.directions.study_direction import StudyDirection
from capvec.engines.protocol import EngineInfo
from capvec.plan.configs import control_configs, steered_config
from capvec.plan.option_parsers import parse_controls
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config, Outcome
from capvec.results import provenance
from capvec.results.ledger import Ledger
from capvec.studies.regenerate import regenerate
from capvec.task_records import Task

RANKING = """\
layer,auc,margin,ambient_norm,margin_ratio,n_pos,n_neg,auc_null_p95,cv_auc,cv_auc_low,cv_auc_high,cv_auc_null_p95,\
cv_p_value,p_value,p_corrected,stability_min,stability_mean,reference_cosine
2,1.0,3.5,10.0,0.35,6,20,1.0,,,,,,0.4,0.8,,,
1,0.9,3.0,10.0,0.3,6,20,1.0,,,,,,0.5,0.9,,,
"""
"""Four layers would be two more rows; what matters is that the best p, 0.4, is no evidence."""


def write_run(
    folder: Path,
    *,
    health: EngineInfo,
    source: str = "dir.pt",
    ranking: str = "",
    solved: tuple[int, int, int] = (2, 3, 2),
    missing: tuple[str, ...] = (),
    error: str = "",
) -> Direction:
    """Write the folder; returns the direction that its config `steered-L2-a1.5` steers with.

    Args:
        folder: to make.
        health: of the engine.
        source: where the direction came from.
        ranking: of the layers; empty for a direction that was loaded.
        solved: by the baseline, the steered config and each of its controls, of four tasks.
        missing: trials that were not run.
        error: what the last control's last trial ended with; empty for none.
    """
    vectors = np.random.default_rng(0).standard_normal((health.n_layers, health.d_model)).astype(np.float32)
    metadata = Metadata(health.model, layer_convention=LAYER_CONVENTION, layer=2)
    direction = Direction(vectors, np.full(health.n_layers, 10.0), metadata)
    matched = {"orthogonal": orthogonal_controls(direction, 2, 0)}
    steered = steered_config(direction, 2, 1.5, "stored")
    controls = control_configs(parse_controls("orthogonal:2"), [steered], direction, matched)
    configs = (Config("baseline", "baseline"), steered, *controls)
    tasks = tuple(Task(f"task{number}", Path(f"task{number}"), "do it", "0" * 64) for number in range(4))
    settings = Settings(health.model, "bash-block", "brief", 20, 96, 0.7)
    plan = Plan(folder.name, folder, tasks, configs, interleave(tasks, configs, 1, 0), settings)
    (folder / "vectors").mkdir(parents=True)
    ledger = Ledger(folder / "trials.jsonl")
    for config, count in zip(configs, (*solved, solved[-1]), strict=True):
        for number, task in enumerate(tasks):
            outcome = _outcome(config, task.name, "solved" if number < count else "unsolved")
            if error and (config, task) == (configs[-1], tasks[-1]):
                outcome = _outcome(config, task.name, "error", error)
            if outcome.trial not in missing:
                ledger.append(outcome)
    save_all(direction, folder / "vectors")
    found = StudyDirection(direction, source, controls=matched, steered=health)
    options = SweepOptions(direction=source, tasks="multi", gate="no_harm(0.5)")
    images = {task.name: "sha256:0" for task in tasks}
    asked = {"command_line": (), "options": options.to_json()}
    provenance.write(folder, **asked, plan=plan, health=health.to_json(), direction=found, images=images)
    if ranking:
        (folder / "vectors" / "ranking.csv").write_text(ranking)
        path = folder / "provenance.json"
        data = json.loads(path.read_text())
        data["direction"]["ranking"] = {"estimator": "mean-difference", "null": "labels permuted", "folds": "no folds"}
        path.write_text(json.dumps(data))
    regenerate(folder)
    return direction


def _outcome(config: Config, task: str, status: str, error: str = "") -> Outcome:
    return Outcome("r", task, config.name, config.layer, config.alpha, 1, 0, status, error=error)
