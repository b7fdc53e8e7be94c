"""What a sweep needs: what is there, what is missing, and how to get it. Changes nothing and imports no torch."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata

from capvec.cache import cache_root
from capvec.errors import CapvecError, UsageError

# A check imports the packages that it needs when it runs, so that the check for missing packages can report them.

NEEDED_GIB = 3.0
_SHOWN = ("torch", "transformers", "pytest")
_WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    optional: bool = False
    """A sweep of the bundled tasks does without it."""


def examine(docker_hosts: Sequence[str] = ()) -> tuple[Finding, ...]:
    """Run every check of `CHECKS`, of Docker on these hosts."""
    own: dict[str, _Check] = {
        "Docker": partial(_docker_hosts, docker_hosts),
        "base image": partial(_base_image_on, docker_hosts),
    }
    checks = {**CHECKS, **own} if docker_hosts else CHECKS
    return tuple(_examine(name, check) for name, check in checks.items())


def complete(findings: tuple[Finding, ...]) -> bool:
    """Whether nothing is missing but what is optional."""
    return all(finding.ok or finding.optional for finding in findings)


def report(findings: tuple[Finding, ...]) -> str:
    """The findings as text: a table, with the remedy below each thing that is missing, and a summary."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        mark = "ok" if finding.ok else "none" if finding.optional else "MISSING"
        lines.append(f"{mark:7}  {finding.name:{width}}  {finding.detail}")
        if not finding.ok:
            lines += _wrapped(finding.remedy)
    missing = sum(not finding.ok and not finding.optional for finding in findings)
    summary = f"{missing} of {len(findings)} checks failed" if missing else "everything that a sweep needs is here"
    return "\n".join([*lines, "", summary])


def _wrapped(remedy: str) -> list[str]:
    """A remedy below its line; commands and addresses are not broken."""
    indent = " " * 9
    return textwrap.wrap(
        f"→ {remedy}", _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def unmet(distribution: str = "capvec") -> tuple[str, ...]:
    """The requirements of an installed distribution that are not met, read from metadata without importing anything.

    Returns:
        A phrase for each, such as `no numpy` or `pytest 8.0 is not >=9`.

    Raises:
        ImportError: the distribution is not installed, or `packaging` is not.
    """
    from packaging.requirements import Requirement  # noqa: PLC0415

    wrong = []
    for requirement in map(Requirement, metadata.requires(distribution) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"no {requirement.name}")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    return tuple(wrong)


_Check = Callable[[], tuple[bool, str, str]]
"""Returns whether it is there, what was found, and the remedy if it is not."""


def _examine(name: str, check: _Check) -> Finding:
    try:
        return Finding(name, *check(), optional=name in OPTIONAL)
    except ImportError as error:  # PackageNotFoundError is one
        return Finding(name, False, f"cannot check: {error}", "install the packages: `make setup`")


def _python() -> tuple[bool, str, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), found, "install Python 3.11 or later, and run `make setup`"


def _packages() -> tuple[bool, str, str]:
    wrong = unmet()
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in _SHOWN if not wrong)
    return not wrong, "; ".join(wrong) or f"{shown}, …", "run `make setup`, or install capvec again with pip"


def _docker() -> tuple[bool, str, str]:
    from capvec.sandbox.docker_host import check_docker  # noqa: PLC0415
    from capvec.setup.docker import REMEDY  # noqa: PLC0415

    try:
        return True, f"version {check_docker().get('Version', 'unknown')}", ""
    except UsageError as error:
        return False, "it cannot limit containers", str(error)
    except CapvecError:
        return False, "it does not answer", f"run `make setup`; or {REMEDY}"


def _docker_hosts(names: Sequence[str]) -> tuple[bool, str, str]:
    from capvec.sandbox.hosts import describe, reach  # noqa: PLC0415

    try:
        with reach(names) as hosts:
            found = [f"version {host['version']} at {host['name']}, {host['cpus']} CPUs" for host in describe(hosts)]
    except CapvecError as error:
        return False, "a host cannot be used", str(error)
    return True, "; ".join(found), ""


def _buildx() -> tuple[bool, str, str]:
    return _plugin("buildx")


def _compose() -> tuple[bool, str, str]:
    return _plugin("compose")


def _plugin(name: str) -> tuple[bool, str, str]:
    from capvec.sandbox import docker_cli  # noqa: PLC0415
    from capvec.setup.plugins import PLUGINS  # noqa: PLC0415

    remedy = f"run `capvec setup`, which installs it where it can; or install it by hand: {docker_cli.INSTALL}"
    if (program := docker_cli.command_with(name)) is None:
        return False, f"without it, {PLUGINS[name].without}", remedy
    words = (docker_cli.version_of(program, name) or "").split()
    return (
        True,
        f"version {next((word for word in words if word.lstrip('v')[:1].isdigit()), 'unknown')} in {program}",
        "",
    )


def _base_image() -> tuple[bool, str, str]:
    return _base_image_on(())


def _base_image_on(names: Sequence[str]) -> tuple[bool, str, str]:
    """The base image on the first host, from which it is copied to the others."""
    from capvec.sandbox.base_image import BASE_IMAGE, has_base_image  # noqa: PLC0415
    from capvec.sandbox.hosts import reach  # noqa: PLC0415

    remedy = "run `capvec setup`, which pulls or builds it"
    try:
        with reach(names[:1]) as hosts:
            there = has_base_image(hosts.hosts[0])
    except CapvecError:
        return False, f"{BASE_IMAGE}: Docker does not answer", remedy
    return there, BASE_IMAGE if there else f"no {BASE_IMAGE}", remedy


def _model() -> tuple[bool, str, str]:
    from capvec.models.weights import is_ready, pocket_folder  # noqa: PLC0415

    ready = is_ready(pocket_folder())
    detail = str(pocket_folder()) if ready else "not converted yet"
    return ready, detail, "run `capvec setup`, which fetches and converts it"


def _traces() -> tuple[bool, str, str]:
    from capvec.models.source import bundled_trace_files  # noqa: PLC0415

    count = len(bundled_trace_files())
    return count > 0, f"{count} trajectories", "the installation is incomplete: install capvec again"


def _vllm() -> tuple[bool, str, str]:
    from capvec.engines.selection import cuda_devices  # noqa: PLC0415
    from capvec.engines.vllm.versions import installed, problem  # noqa: PLC0415
    from capvec.text import counted  # noqa: PLC0415

    what, _, remedy = problem().partition("; ")
    devices = counted(cuda_devices(), "CUDA device")
    return not what, what or f"version {installed()}, {devices}: --engine vllm", remedy or "install a tested version"


def _memory() -> tuple[bool, str, str]:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available / 2**30
    remedy = f"a sweep of the bundled model needs about {NEEDED_GIB:.0f} GiB: end other programs"
    return free > NEEDED_GIB, f"{free:.1f} GiB free", remedy


def _disk() -> tuple[bool, str, str]:
    cache = cache_root()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    remedy = f"free {NEEDED_GIB:.0f} GiB, or set CAPVEC_CACHE to a folder elsewhere"
    return free > NEEDED_GIB, f"{free:.1f} GiB free at {place}", remedy


CHECKS: dict[str, _Check] = {
    "Python": _python,
    "packages": _packages,
    "Docker": _docker,
    "docker buildx": _buildx,
    "docker compose": _compose,
    "base image": _base_image,
    "bundled model": _model,
    "bundled traces": _traces,
    "vLLM": _vllm,
    "memory": _memory,
    "disk": _disk,
}
OPTIONAL = ("docker buildx", "docker compose", "vLLM")
"""The checks that may fail: some tasks, or the fast engine, do not run then, and the rest do."""
