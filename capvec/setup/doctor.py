"""What is there, what is missing, and what to do about it. Changes nothing, and imports no torch."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from capvec.cache import cache_root
from capvec.errors import CapvecError

# A check imports the packages it needs when it runs: the one that looks for missing packages must get to speak.

NEEDED_GIB = 3.0
_SHOWN = ("torch", "transformers", "pytest")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's table."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine() -> tuple[Finding, ...]:
    """Look at everything that a sweep needs."""
    return tuple(_examine(name, check) for name, check in _CHECKS.items())


def report(findings: tuple[Finding, ...]) -> str:
    """The table as text, each missing thing with its remedy below it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'ok     ' if finding.ok else 'MISSING'}  {finding.name.ljust(width)}  {finding.detail}")
        if not finding.ok:
            lines.append(f"{' ' * 9}{' ' * width}  → {finding.remedy}")
    return "\n".join(lines)


def unmet(distribution: str = "capvec") -> tuple[str, ...]:
    """What an installed distribution requires and does not find, from metadata alone: nothing is imported.

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
"""Whether it is there, what was found, and the remedy if it is not."""


def _examine(name: str, check: _Check) -> Finding:
    try:
        return Finding(name, *check())
    except ImportError as error:  # PackageNotFoundError is one
        return Finding(name, False, f"cannot look: {error}", "install the packages first: `make setup`")


def _python() -> tuple[bool, str, str]:
    found = ".".join(map(str, sys.version_info[:3]))
    return sys.version_info >= (3, 11), found, "install Python 3.11 or later and run `make setup`"


def _packages() -> tuple[bool, str, str]:
    wrong = unmet()
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in _SHOWN if not wrong)
    return not wrong, "; ".join(wrong) or f"{shown}, …", "`make setup`, or `pip install` capvec again"


def _engine() -> tuple[bool, str, str]:
    from capvec.sandbox.docker_host import check_docker  # noqa: PLC0415
    from capvec.setup.docker import REMEDY  # noqa: PLC0415

    try:
        return True, f"version {check_docker().get('Version', 'unknown')}", ""
    except CapvecError:
        return False, "none answers", f"`make setup`, or: {REMEDY}"


def _base_image() -> tuple[bool, str, str]:
    from capvec.sandbox.base_image import BASE_IMAGE, has_base_image  # noqa: PLC0415

    remedy = "`make setup` or `capvec setup` pulls or builds it"
    try:
        there = has_base_image()
    except CapvecError:
        return False, f"{BASE_IMAGE}: no engine to ask", remedy
    return there, BASE_IMAGE if there else f"no {BASE_IMAGE}", remedy


def _model() -> tuple[bool, str, str]:
    from capvec.models.weights import is_ready, pocket_folder  # noqa: PLC0415

    ready = is_ready(pocket_folder())
    detail = str(pocket_folder()) if ready else "not converted yet"
    return ready, detail, "`make setup` or `capvec setup` fetches and converts it"


def _traces() -> tuple[bool, str, str]:
    from capvec.models.source import bundled_trace_files  # noqa: PLC0415

    count = len(bundled_trace_files())
    return count > 0, f"{count} trajectories", "the installation is not complete: install capvec again"


def _memory() -> tuple[bool, str, str]:
    import psutil  # noqa: PLC0415

    free = psutil.virtual_memory().available / 2**30
    remedy = f"a sweep of the bundled model takes about {NEEDED_GIB:.0f} GiB: end other programs"
    return free > NEEDED_GIB, f"{free:.1f} GiB free", remedy


def _disk() -> tuple[bool, str, str]:
    cache = cache_root()
    place = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    remedy = f"free {NEEDED_GIB:.0f} GiB, or set CAPVEC_CACHE to a folder elsewhere"
    return free > NEEDED_GIB, f"{free:.1f} GiB free at {place}", remedy


_CHECKS: dict[str, _Check] = {
    "Python": _python,
    "packages": _packages,
    "container engine": _engine,
    "base image": _base_image,
    "bundled model": _model,
    "bundled traces": _traces,
    "memory": _memory,
    "disk": _disk,
}
