"""Single trials in real containers, within the process of a test."""

from __future__ import annotations

from pathlib import Path

from capvec.agent.model import ChatModel
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, TrialSpec
from capvec.run.instrument import Instrument, Notice, Patience
from capvec.run.trial import TrialRunner
from capvec.run.tries import TrialRepeater
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Task


def repeater(task: Task, model: ChatModel, run: str, folder: Path) -> TrialRepeater:
    """Runs the one trial of a run, `plan.specs[0]`, which has one further try where the instrument fails.

    Args:
        task: of which images are there.
        model: that acts.
        run: name of the run.
        folder: its folder.
    """
    spec, config = TrialSpec(task.name, "baseline", 1, 7), Config("baseline", "baseline")
    settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)
    plan, provider = Plan(run, folder, (task,), (config,), (spec,), settings), DockerProvider()
    instrument = Instrument({"Docker": provider.check}, Patience(), Notice(None))
    return TrialRepeater(TrialRunner(plan, model, provider, {}), instrument, 1)
