"""A session that is prepared: what it says before it starts an engine."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from support.tasks import make_task

from capvec.errors import UsageError
from capvec.plan.options import parse_options
from capvec.records import TrialSpec
from capvec.run import session
from capvec.sandbox.hosts import ALONE
from capvec.studies.sweep import SweepStudy

pytestmark = pytest.mark.unit


def test_unsupported_keys_of_a_task_are_listed_before_an_engine_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = '[environment]\nnetwork_mode = "no-network"\nspeed = "high"\n"colour\\u001b[2J" = "blue"\n'
    folder = make_task(tmp_path, toml=toml)
    said: list[str] = []
    study = SweepStudy(parse_options({"tasks": str(folder), "model": "no such model"}))
    monkeypatch.setattr(session, "reach", lambda _hosts: nullcontext(ALONE))
    monkeypatch.setattr(session, "reap_and_say", lambda *_, **__: None)
    with closing(session.StudySession(study, tmp_path, said.append)) as asked, pytest.raises(UsageError, match="model"):
        asked.prepare()
    # The control sequence, which a terminal would act on, is shown by its escape.
    assert [line.split()[:3] for line in said] == [
        ["task", "greet:", "environment.speed"],
        ["task", "greet:", "environment.colour\\x1b[2J"],
    ]
    assert all(line.isprintable() for line in said)


def test_the_trials_that_shards_collect_are_those_of_the_whole_plan_each_once(tmp_path: Path) -> None:
    def collected(**asked: str) -> list[TrialSpec]:
        study = SweepStudy(parse_options({"tasks": "multi", "attempts": "2", "alpha": "2,4", **asked}))
        return list(session.config_names(study, tmp_path).plan.trials)

    parts = [trial for number in range(1, 6) for trial in collected(shard=f"{number}/5")]
    whole = collected()
    assert len(parts) == len(whole) == 36
    assert sorted(parts, key=str) == sorted(whole, key=str)  # with their seeds


def test_more_shards_than_pairs_are_refused_before_anything_starts(tmp_path: Path) -> None:
    study = SweepStudy(parse_options({"tasks": "multi", "shard": "1/7"}))
    with pytest.raises(UsageError, match="at most 6 shards"):
        session.StudySession(study, tmp_path, print)


def test_interim_analyses_and_shards_are_refused_together() -> None:
    with pytest.raises(UsageError, match="--sequential and --shard"):
        parse_options({"sequential": True, "shard": "1/2"})
