"""Which `docker` is taken, and what is kept of the user's settings. The programs are scripts on `PATH`."""

import json

import pytest

from capvec.sandbox import docker_cli

pytestmark = pytest.mark.unit


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """The user's settings, as given."""
    folder = tmp_path / "settings"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)

    def write(content):
        (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return folder

    return write


@pytest.fixture
def path(tmp_path, monkeypatch):
    """Makes folders with a `docker`, which stand on `PATH` in the order in which they are made."""
    folders = []

    def add(name, version, *plugins):
        folder = tmp_path / name
        folder.mkdir()
        cases = "".join(f"{plugin}' version') echo {plugin} v1;; " for plugin in plugins)
        script = f"#!/bin/sh\ncase \"$*\" in --version) echo '{version}';; {cases}*) exit 1;; esac\n"
        (folder / "docker").write_text(script)
        (folder / "docker").chmod(0o755)
        folders.append(str(folder))
        monkeypatch.setenv("PATH", ":".join(folders))
        return str(folder / "docker")

    monkeypatch.setenv("PATH", str(tmp_path))
    return add


def test_the_first_docker_that_has_the_plugin_is_taken(path):
    first = path("first", "Docker version 28.2.2, build 1", "compose")
    second = path("second", "Docker version 20.10.24+dfsg1, build 2", "buildx", "compose")
    assert docker_cli.commands() == (first, second)
    assert docker_cli.command_with("buildx") == second
    assert docker_cli.command_with("compose") == first
    assert docker_cli.command_with("scan") is None
    assert docker_cli.version_of(second, "buildx") == "buildx v1"


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ("Docker version 20.10.24+dfsg1, build 297e128", True),
        ("Docker version 28.2.2, build e6534b4", False),
        ("podman version 4.3.1", False),
    ],
)
def test_buildkit_is_built_into_the_command_lines_before_23(version, has_it, path):
    program = path("only", version)
    assert docker_cli.command_with_buildkit() == (program if has_it else None)


def test_the_same_docker_under_two_names_is_one(path, tmp_path, monkeypatch):
    program = path("first", "Docker version 28.2.2")
    (tmp_path / "link").symlink_to(tmp_path / "first")
    monkeypatch.setenv("PATH", f"{tmp_path}/first:{tmp_path}/link:{tmp_path}/gone::")
    assert docker_cli.commands() == (program,)


def test_the_context_is_the_one_that_the_command_line_takes(settings, monkeypatch):
    settings({})
    assert docker_cli.context_name() == "default"
    settings({"currentContext": "desktop"})
    assert docker_cli.context_name() == "desktop"
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert docker_cli.context_name() == "other"
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert docker_cli.context_name() == "default"


@pytest.mark.parametrize("broken", ["{", "[]", ""])
def test_broken_settings_are_none(broken, settings):
    settings(broken)
    assert docker_cli.context_name() == "default"


def test_settings_without_helpers_keep_everything_else(settings, tmp_path):
    own = settings(
        {
            "credsStore": "desktop",
            "credHelpers": {"gcr.io": "gcloud"},
            "auths": {"registry.example": {"auth": "dTpw"}},
            "proxies": {"default": {"httpProxy": "http://proxy.example"}},
            "currentContext": "mine",
        }
    )
    (own / "contexts").mkdir()
    (own / "contexts" / "meta.json").write_text("{}")
    written = docker_cli.without_helpers(tmp_path / "scratch")
    assert json.loads(written.read_text()) == {
        "auths": {"registry.example": {"auth": "dTpw"}},
        "proxies": {"default": {"httpProxy": "http://proxy.example"}},
        "currentContext": "mine",
    }
    assert (written.parent / "contexts" / "meta.json").read_text() == "{}"
    assert json.loads((own / "config.json").read_text())["credsStore"] == "desktop"


@pytest.mark.parametrize(
    "error",
    [
        "docker-credential-desktop not installed or not available in PATH",
        "Credentials store error: StoreError('Credentials store docker-credential-gcloud exited with \"\".')",
        'error getting credentials - err: exec: "docker-credential-x": executable file not found in $PATH, out: ``',
    ],
)
def test_an_error_of_a_helper_is_known_by_its_words(error):
    assert docker_cli.names_a_helper(error)
    assert not docker_cli.names_a_helper("pull access denied for x, repository does not exist")
