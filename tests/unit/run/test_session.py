"""A session that is prepared: what it says before it starts an engine."""

from __future__ import annotations

from contextlib import closing, nullcontext
from pathlib import Path

import pytest
from support.tasks import make_task

from capvec.errors import UsageError
from capvec.plan.options import parse_options
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
