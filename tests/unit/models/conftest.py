"""A cache of its own for each test."""

import pytest

from capvec.models import pocket_folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def converted(cache):  # noqa: ARG001 (the folder lies in it)
    folder = pocket_folder()
    folder.mkdir(parents=True)
    (folder / "capvec.json").write_text("{}")
    return folder
