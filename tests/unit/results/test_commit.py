"""The commit of the working directory, and that no program of a hostile repository runs for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from capvec.results.commit import commit

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(shutil.which("git") is None, reason="there is no git"),
]


def git(folder: Path, *arguments: str) -> str:
    about = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a"}
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments], cwd=folder, env=os.environ | about, check=True,
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """One with a file in a commit, which is the working directory."""
    folder = write_repository(tmp_path / "repository")
    monkeypatch.chdir(folder)
    return folder


def write_repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "file.txt").write_text("one\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def test_the_commit_of_a_clean_repository_and_of_a_changed_one(repository):
    name = git(repository, "rev-parse", "HEAD")
    assert commit() == name
    for change in ((repository / "new.txt").touch, lambda: (repository / "file.txt").write_text("two\n")):
        change()
        assert commit() == f"{name}+changes"
        git(repository, "clean", "--force", "--quiet")
        git(repository, "checkout", "--quiet", ".")
    assert commit() == name


def test_there_is_none_without_a_repository_a_commit_or_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert commit() is None
    git(tmp_path, "init", "--quiet")
    assert commit() is None
    monkeypatch.setenv("PATH", "")
    assert commit() is None


def test_files_that_a_filter_rewrites_are_no_reason_to_doubt_a_clean_repository(repository):
    """As those of Git LFS: what the index knows of a file decides, as long as nobody touched it."""
    (repository / ".gitattributes").write_text("*.bin filter=large\n")
    git(repository, "config", "filter.large.clean", "sha256sum")
    git(repository, "config", "filter.large.required", "true")
    (repository / "weights.bin").write_bytes(bytes(1000))
    time.sleep(1.1)  # or git could not tell the time of the file from that of its index
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "two")
    assert commit() == git(repository, "rev-parse", "HEAD")


def monitor(repository: Path, program: str) -> None:
    git(repository, "config", "core.fsmonitor", program)


def hook(repository: Path, program: str) -> None:
    """Runs where git writes its index, which knows another time of the file."""
    (repository / ".git" / "hooks").mkdir(exist_ok=True)
    shutil.copy(program, repository / ".git" / "hooks" / "post-index-change")
    os.utime(repository / "file.txt", (1, 1))


def hook_elsewhere(repository: Path, program: str) -> None:
    hook(repository, program)
    (repository / ".git" / "hooks").rename(repository / ".git" / "others")
    git(repository, "config", "core.hooksPath", ".git/others")


def filtered(repository: Path, program: str, kind: str = "clean", name: str = "x") -> None:
    (repository / ".git" / "info").mkdir(exist_ok=True)
    (repository / ".git" / "info" / "attributes").write_text(f"* filter={name}\n")
    (repository / ".git" / "more").write_text(f'[filter "{name}"]\n\t{kind} = {program}\n\trequired = true\n')
    git(repository, "config", "include.path", "more")
    os.utime(repository / "file.txt", (1, 1))


def submodule(repository: Path, program: str) -> None:
    inner = write_repository(repository.parent / "inner")
    git(repository, "submodule", "--quiet", "add", str(inner), "inner")
    git(repository, "commit", "--quiet", "--message", "two")
    monitor(repository / "inner", program)


def missing_objects(repository: Path, **settings: str) -> None:
    """Its tree is not there, and is fetched from where the configuration says."""
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    git(repository, "config", "core.repositoryFormatVersion", "1")
    config = {
        "extensions.partialClone": "origin", "remote.origin.promisor": "true", "protocol.allow": "always",
        "remote.origin.fetch": "+refs/heads/*:refs/remotes/origin/*",
    }  # fmt: skip
    with (repository / ".git" / "config").open("a") as file:
        for key, value in {**config, **settings}.items():
            section, _, name = key.rpartition(".")
            first, _, second = section.partition(".")
            file.write(f'[{first}{second and f" {chr(34)}{second}{chr(34)}"}]\n\t{name} = "{value}"\n')


WAYS = {
    "a monitor": monitor,
    "a hook": hook,
    "a hook elsewhere": hook_elsewhere,
    "a filter": filtered,
    "a filter that lives on": lambda folder, program: filtered(folder, program, "process"),
    "a filter with a dot in its name": lambda folder, program: filtered(folder, program, name="a.b"),
    "a filter that no option can name": lambda folder, program: filtered(folder, program, name="a=b"),
    "a monitor of a submodule": submodule,
    "a remote that is a program": lambda folder, program: missing_objects(
        folder, **{"remote.origin.url": f"ext::{program}"}
    ),
    "what connects by SSH": lambda folder, program: missing_objects(
        folder, **{"remote.origin.url": "ssh://x/y", "core.sshCommand": program}
    ),
    "the other end of a fetch": lambda folder, program: missing_objects(
        folder, **{"remote.origin.url": str(folder), "remote.origin.uploadpack": program}
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_program_of_a_hostile_repository_runs(repository, tmp_path, way):
    ran, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    program.chmod(0o755)
    WAYS[way](repository, str(program))
    name = git(repository, "rev-parse", "HEAD")
    ran.unlink(missing_ok=True)
    found = commit()
    assert not ran.exists()
    assert found in (name, f"{name}+changes")
    subprocess.run(["git", "status", "--porcelain"], cwd=repository, check=False, capture_output=True, timeout=30)
    assert ran.exists(), "git itself did not run it, so this shows nothing"
