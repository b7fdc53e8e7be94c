"""Whatever keeps Docker from answering is one sentence. Nothing listens at the addresses of these tests."""

import json

import docker.credentials.errors
import docker.errors
import pytest
import requests.exceptions
import urllib3.exceptions

from capvec.errors import SandboxBroken, SandboxUnavailable, UsageError
from capvec.sandbox.docker_host import check_cgroups, check_docker, connect, faults

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "variables",
    [
        {"DOCKER_HOST": "tcp://127.0.0.1:1"},
        {"DOCKER_HOST": "garbage://x"},
        {"DOCKER_HOST": "ssh://capvec.invalid"},
        {"DOCKER_HOST": "tcp://127.0.0.1:99999999"},
        {"DOCKER_HOST": "tcp://[::1"},
        {"DOCKER_HOST": "http://local host"},
        {"DOCKER_HOST": "tcp://127.0.0.1:1", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"},
    ],
)
def test_an_address_that_is_none_or_does_not_answer_is_one_sentence(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SandboxUnavailable) as caught:
        check_docker()
    assert str(caught.value).startswith(f"Docker does not answer at {variables['DOCKER_HOST']} (")
    assert "\n" not in str(caught.value)


def test_settings_that_are_no_settings_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(SandboxUnavailable, match=r"^Docker does not answer at the local socket "), connect():
        pass


def test_a_context_that_is_not_there_is_named_and_no_other_docker_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    with pytest.raises(SandboxUnavailable, match=r"^Docker does not answer at the address of the context gone "):
        check_docker()


@pytest.mark.parametrize(
    "error",
    [
        docker.errors.BuildError("no", ()),
        docker.errors.APIError("no"),
        docker.errors.TLSParameterError("no"),
        docker.errors.ImageLoadError("no"),
        docker.errors.InvalidVersion("no"),
        docker.errors.StreamParseError("no"),
        docker.credentials.errors.StoreError("no"),
        docker.credentials.errors.CredentialsNotFound("no"),
        requests.exceptions.ReadTimeout("no"),
        requests.exceptions.ChunkedEncodingError("no"),
        urllib3.exceptions.ProtocolError("no"),
        json.JSONDecodeError("no", "", 0),
        BrokenPipeError("no"),
        TimeoutError("no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_of_the_sdk_is_a_fault_of_the_sandbox(error):
    with pytest.raises(SandboxUnavailable, match=r"^Docker failed: [^\n]*no[^\n]*$"), faults():
        raise error


NAME, ID = "capvec-0a1b2c3d4e5f60718293", "0123456789ab" * 5 + "cdef"
TAKEN = [
    f"No such container: {NAME}",
    f"Container {ID} is paused, unpause the container before exec",
    f"Container {ID} is already paused",
    f"Container {ID} is not paused",
    f'no container with name or ID "{NAME}" found: no such container',  # Podman
]
REFUSED = [
    "unable to find user agent: no matching entries in passwd file",
    f"Container {ID} is not running",
    f"No such container:path: {NAME}:/app/out",
    # An agent chooses the names of its files and folders.
    'OCI runtime exec failed: chdir to cwd ("/app/Container 0a is paused") set in config.json failed: no such file',
    "lstat /var/lib/docker/overlay2/merged/app/No such container: 0a: not a directory",
]


@pytest.mark.parametrize("said", TAKEN)
def test_a_container_that_was_taken_away_or_paused_is_a_fault_of_the_instrument(said):
    with pytest.raises(SandboxUnavailable) as caught, faults():
        raise docker.errors.APIError("409 Client Error: Conflict", explanation=said)
    assert not isinstance(caught.value, SandboxBroken)


@pytest.mark.parametrize("said", REFUSED)
def test_another_refusal_may_come_of_what_the_agent_broke(said):
    with pytest.raises(SandboxBroken), faults():
        raise docker.errors.APIError("409 Client Error: Conflict", explanation=said)


def test_an_error_of_the_user_stays_one():
    with pytest.raises(UsageError, match=r"^mine$"), faults():
        raise UsageError("mine")


def test_a_docker_that_can_limit_nothing_is_refused_in_one_sentence():
    """What Docker 20.10 says of itself when it runs rootless and as root, on a machine with cgroup v1."""
    check_cgroups(
        {"CgroupDriver": "cgroupfs", "CgroupVersion": "1", "SecurityOptions": ["name=seccomp,profile=default"]}
    )
    with pytest.raises(UsageError, match=r"^Docker runs without cgroups, .* Boot the machine with cgroup v2"):
        check_cgroups({"CgroupDriver": "none", "CgroupVersion": "1", "SecurityOptions": ["name=rootless"]})
