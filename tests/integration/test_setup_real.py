"""Set-up on the real machine: the engine, registries that answer or not, the bundled model, a standing engine."""

import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import httpx
import pytest
from support import REPOSITORY
from support.registry import registry
from support.tiny_models import save_tiny

from capvec.errors import SandboxUnavailable, UsageError
from capvec.sandbox.base_image import TAG, has_base_image, import_base_image, pull_base_image
from capvec.setup import debian
from capvec.setup.doctor import examine
from capvec.setup.plugins import ensure_plugins, missing_plugins
from capvec.setup.steps import set_up

pytestmark = pytest.mark.integration


# ------------------------------------------------------------------------------------------------------------ set-up


def test_set_up_again_does_nothing_and_says_nothing():
    set_up()
    said = []
    start = time.monotonic()
    set_up(said.append)
    assert said == []
    # Three questions to the engine and the file system; a pull, a conversion or an import takes longer.
    assert time.monotonic() - start < 5


def test_after_set_up_the_doctor_finds_what_a_sweep_needs():
    set_up()
    findings = {finding.name: finding for finding in examine()}
    for name in ("Python", "packages", "Docker", "base image", "bundled model"):
        assert findings[name].ok, findings[name]


@pytest.mark.skipif(not debian.KEYRING.is_file(), reason="needs apt and Debian's keys")
def test_a_package_of_debians_next_release_is_unpacked_and_apt_stays_as_it_was(tmp_path):
    def apts_state():
        return {path: path.stat().st_mtime_ns for path in Path("/var/lib/apt/lists").iterdir() if path.is_file()}

    before = apts_state()
    debian.unpack("trixie", ["hello"], tmp_path)
    assert (tmp_path / "usr" / "bin" / "hello").stat().st_mode & 0o100
    assert apts_state() == before
    with pytest.raises(UsageError, match="Unable to locate package no-package-of-this-name"):
        debian.unpack("trixie", ["no-package-of-this-name"], tmp_path)


@pytest.mark.skipif(not debian.KEYRING.is_file(), reason="elsewhere than on Debian, set-up only names what is missing")
def test_after_set_up_docker_has_its_plugins():
    ensure_plugins(print)
    assert missing_plugins() == ()


# -------------------------------------------------------------------------------------------------------- base image


@pytest.fixture
def repository():
    """A name for an image of this test, which is removed after it."""
    name = f"capvec-test-{uuid.uuid4().hex[:8]}"
    yield name
    client = docker.from_env()
    for image in client.images.list(name):
        client.images.remove(image.id, force=True)
    client.close()


def write_root(path):
    """An archive with one file in it."""
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("etc/motd")
        member.size = len(b"hello")
        archive.addfile(member, io.BytesIO(b"hello"))
    return path


def test_an_imported_archive_becomes_an_image_that_starts_a_shell(repository, tmp_path):
    import_base_image(write_root(tmp_path / "root.tar"), repository)
    client = docker.from_env()
    image = client.images.get(f"{repository}:{TAG}")
    client.close()
    # Debian's own image says the same in its Dockerfile: CMD ["bash"].
    assert image.attrs["Config"]["Cmd"] == ["bash"]


@pytest.mark.parametrize("keep", [100, 514])
def test_an_archive_that_is_broken_is_refused(keep, repository, tmp_path):
    """A tar's header takes 512 bytes: 100 end in the header, 514 after two of the file's five bytes."""
    whole = write_root(tmp_path / "root.tar").read_bytes()
    broken = tmp_path / "broken.tar"
    broken.write_bytes(whole[:keep])
    with pytest.raises(SandboxUnavailable):
        import_base_image(broken, repository)


def test_a_registry_that_does_not_answer_holds_up_set_up_only_so_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        start = time.monotonic()
        assert not pull_base_image(f"127.0.0.1:{silent.getsockname()[1]}/debian", limit_s=2)
        assert 2 <= time.monotonic() - start < 4


def test_the_base_image_is_pulled_without_a_credential_helper(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"credsStore": "not-installed"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with registry() as name:
        repository = name.removesuffix(":1")
        assert pull_base_image(repository, limit_s=30)
    client = docker.from_env()
    client.images.remove(f"{repository}:{TAG}")
    client.close()


def test_a_registry_that_is_not_there_is_noticed_at_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not pull_base_image(f"127.0.0.1:{port}/debian", limit_s=30)
    assert has_base_image()


# ----------------------------------------------------------------------------------------------------- bundled model


def test_two_processes_that_need_the_bundled_model_convert_it_once(tmp_path):
    program = "from capvec.models import ensure_pocket; print(ensure_pocket())"

    def ensure():
        return subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"CAPVEC_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with ThreadPoolExecutor(2) as pool:
        said = [future.result() for future in [pool.submit(ensure), pool.submit(ensure)]]
    assert "".join(said).count("converting") == 1
    (folder,) = {text.splitlines()[-1] for text in said}
    assert "".join(said).count("merging") == 1
    # The base model, the agent that it becomes with the adapter, and the lock.
    made = {path.name for path in tmp_path.joinpath("pocket").iterdir()} - {".lock"}
    assert os.path.basename(folder) in made
    assert len(made) == 2
    # SmolLM2-135M: 134.5 million parameters (embeddings tied), two bytes each in bfloat16.
    # A safetensors file starts with its header's length in eight bytes, then the header, then the numbers.
    with open(f"{folder}/model.safetensors", "rb") as file:
        (header,) = struct.unpack("<Q", file.read(8))
        assert file.read(header).count(b'"BF16"') >= 30 * 9 + 2  # 30 layers of 7 matrices and 2 norms, embedding, norm
    assert os.path.getsize(f"{folder}/model.safetensors") - header == pytest.approx(2 * 134.5e6, rel=0.01)


# -------------------------------------------------------------------------------------------------- a standing engine


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), "llama")


@pytest.fixture
def served(tiny_model, tmp_path):
    """`capvec serve`, and its URL and token as it printed them."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "capvec.commands.main",
            "serve",
            "--model",
            str(tiny_model),
            "--log",
            str(tmp_path / "log"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("serving ")
        words = process.stdout.readline().split()
        yield process, words[-1], words[0].partition("=")[2]
    finally:
        process.kill()
        process.communicate()


def health(url, token):
    return httpx.get(f"{url}/health", headers={"Authorization": f"Bearer {token}"})


def test_serve_prints_what_base_url_needs_and_ends_with_ctrl_c(served):
    process, url, token = served
    assert health(url, token).status_code == 200
    assert health(url, "another token").status_code == 401
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    assert process.stderr.read() == ""
    with pytest.raises(httpx.ConnectError):
        health(url, token)


def test_serve_ends_when_its_engine_does(served):
    import psutil

    process, _, _ = served
    (engine,) = psutil.Process(process.pid).children()
    engine.kill()
    assert process.wait(timeout=20) == 2
    assert process.stderr.read().startswith("capvec: the engine ended by itself")


# ------------------------------------------------------------------------------------------------------- installation


def test_an_installation_that_broke_off_is_not_taken_for_a_finished_one(tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements-torch.lock"):
        (tmp_path / name).write_bytes((REPOSITORY / name).read_bytes())
    (tmp_path / "requirements.lock").write_text(f"no-package-of-this-name==1 --hash=sha256:{'0' * 64}\n")
    make = ("make", f"PYTHON={sys.executable}")
    done = subprocess.run(
        (*make, "setup"), cwd=tmp_path, env=os.environ | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no-package-of-this-name" in done.stderr
    assert (tmp_path / ".venv" / "bin" / "pip").exists()
    # `make --question` exits with 1 for what is still to be made.
    assert subprocess.run((*make, "--question", ".venv/.installed"), cwd=tmp_path, check=False).returncode == 1
