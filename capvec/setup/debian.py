"""Debian's packages: installing them as root on Debian and Ubuntu, and the mirrors that apt uses."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from capvec.errors import UsageError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_APT_S = 1800
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"


def can_install() -> bool:
    """Whether this is Debian or a derivative, and the user is root."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    systems = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    return bool(systems & {"debian", "ubuntu"}) and os.geteuid() == 0


def install(*packages: str) -> None:
    """Install packages with apt, and those they recommend, without which Docker does not start everywhere.

    Raises:
        UsageError: apt failed. The message has the end of its output.
    """
    # One broken source makes an update fail, but the package may come from another: only the installation counts.
    _apt("update")
    # A fresh Ubuntu updates itself in the background and holds the lock meanwhile.
    failure = _apt("-o", "DPkg::Lock::Timeout=300", "install", "--yes", *packages)
    if failure is not None:
        raise UsageError(
            f"`apt-get install {' '.join(packages)}` failed:\n{failure}\n"
            f"Install {' '.join(packages)} by hand and try again."
        )


def offers(package: str, oldest: int) -> bool:
    """Whether a source of apt's has the package, in the major version `oldest` or a later one."""
    candidate = re.search(r"^  Candidate: (?:\d+:)?(\d+)", _ask("apt-cache", "policy", package), re.MULTILINE)
    return candidate is not None and int(candidate[1]) >= oldest


def unpack(suite: str, packages: Sequence[str], folder: Path) -> None:
    """Download packages of another release of Debian and unpack them into a folder, without installing them.

    The sources and the state of this machine's apt stay as they are, and root is not needed.

    Raises:
        UsageError: there is no apt here, it knows no mirror of Debian, or it failed. The message has the end of its
            output.
    """
    if not KEYRING.is_file():
        raise UsageError(f"packages of Debian {suite} cannot be verified here: no {KEYRING}")
    if not (known := mirrors(suite)):
        raise UsageError(
            f"packages of Debian {suite} come from the mirror that apt uses, and apt has read none of Debian's here; "
            "expected one in its sources, read by `apt-get update` as root"
        )
    source = known[0]
    with tempfile.TemporaryDirectory() as state:
        settings = _settings_of_its_own(Path(state), source.replace("deb ", f"deb [signed-by={KEYRING}] ", 1))
        for arguments in (("update",), ("download", *packages)):
            if (failure := _apt("-c", str(settings), *arguments, folder=state)) is not None:
                raise UsageError(f"`apt-get {' '.join(arguments)}` for Debian {suite} failed:\n{failure}")
        for archive in Path(state).glob("*.deb"):
            done = subprocess.run(
                ("dpkg-deb", "--extract", archive, folder), check=False, capture_output=True, text=True
            )
            if done.returncode != 0:
                raise UsageError(f"cannot unpack {archive.name}: {done.stderr.strip()}")


def _settings_of_its_own(state: Path, source: str) -> Path:
    """A configuration with which apt reads one source and keeps everything it writes in a folder."""
    (state / "lists" / "partial").mkdir(parents=True)
    (state / "cache" / "archives" / "partial").mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"{source}\n")
    settings = state / "apt.conf"
    settings.write_text(
        f'Dir::Etc::SourceList "{state}/sources.list"; Dir::Etc::SourceParts "/dev/null";\n'
        f'Dir::State "{state}"; Dir::State::Status "{state}/status"; Dir::Cache "{state}/cache";\n'
        'APT::Sandbox::User "root";\n'
        # Programs that the machine runs after an update would act on its own state.
        "#clear APT::Update::Pre-Invoke;\n#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
    )
    return settings


def find_program(name: str) -> str | None:
    """The path of a system program or None; also searches root's folders, which `PATH` lacks after `su`."""
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}")


def mirrors(suite: str) -> tuple[str, ...]:
    """Lines of `sources.list` for `suite`, on the mirrors of Debian that apt uses here; empty where it uses none."""
    listed = _ask(
        "apt-get", "indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"
    ).split("\n")
    fields = [line.split(" ") for line in listed if line.startswith("Debian ") and line.count(" ") == 2]
    main = [uri for _, codename, uri in fields if "-" not in codename]
    security = [uri for _, codename, uri in fields if codename.endswith("-security")]
    lines = [f"deb {uri} {suite} main" for uri in main[:1]]
    return tuple(lines + [f"deb {uri} {suite}-security main" for uri in security[:1] if lines])


def proxies() -> tuple[str, ...]:
    """The proxies that apt uses here, as lines of its configuration."""
    keys = ("Acquire::http::Proxy", "Acquire::https::Proxy")
    dumped = _ask("apt-config", "dump", *keys).split("\n")
    return tuple(line for line in dumped if line.startswith(tuple(f'{key} "' for key in keys)) and '""' not in line)


def _ask(*command: str) -> str:
    """The output of a query; empty where the program is missing or fails, as on other systems than Debian."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _apt(*arguments: str, folder: str | None = None) -> str | None:
    """Run apt-get. Returns the end of its output if it failed, or None."""
    try:
        done = subprocess.run(
            ("apt-get", *arguments),
            cwd=folder,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_APT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {_APT_S} s"
    return "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:]) if done.returncode else None
