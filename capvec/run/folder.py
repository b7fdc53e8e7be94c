"""The folder of a run, as its first or a later session finds it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from capvec.errors import UsageError
from capvec.plan.options import SweepOptions
from capvec.results import provenance
from capvec.results.departures import registered_of
from capvec.results.ledger import TRIALS
from capvec.results.lock import refuse_if_written
from capvec.results.preregistration import SHOWN, Preregistration

_LATEST = "latest"
"""Beside the runs: a link to the one that began last."""


def run_folder(options: SweepOptions, root: Path) -> Path:
    """The folder of the run: `reports/NAME`, or `reports/` and the time.

    Raises:
        UsageError: the folder holds a run, and `--resume` is not given; or the last run is asked for, and is not there.
    """
    folder = root / "reports" / (options.run or datetime.now().strftime("%Y%m%d-%H%M%S"))
    if folder.name == _LATEST:
        folder = _last_run(folder)
    refuse_if_written(folder, "--run")
    check_free(folder, options)
    return folder


def _last_run(latest: Path) -> Path:
    """The folder that the link to the last run names: under the link's own name, the run would replace it by itself."""
    try:
        return latest.parent / latest.readlink().name
    except OSError as error:
        raise UsageError(
            f"--run {_LATEST}: {latest} is the link to the run that began last, and no run has begun; name this one "
            "otherwise"
        ) from error


def check_free(folder: Path, options: SweepOptions) -> None:
    """Refuse a folder that holds a run, unless that is to be resumed."""
    ledger = folder / TRIALS
    if ledger.exists() and ledger.stat().st_size and not options.resume:
        raise UsageError(f"{folder} holds a run already: add --resume to finish it, or choose another --run")


def still_registered(named: Preregistration | None, folder: Path) -> Preregistration | None:
    """What a run is compared with: the file that was named, or that of the sessions before.

    Raises:
        UsageError: the run began with another one, or its copy was changed.
    """
    if not (folder / provenance.PROVENANCE).exists():
        return named
    before = registered_of(folder, provenance.read(folder))
    if named is not None and before is not None and named.hash != before.hash:
        raise UsageError(
            f"--preregistration: {folder} began with the one with the hash {before.hash[:SHOWN]}, and this one has "
            f"{named.hash[:SHOWN]}; leave it out, or choose another --run"
        )
    return before if named is None else named


def point_latest(folder: Path) -> None:
    """Have the link to the last run lead to this folder."""
    latest = folder.parent / _LATEST
    try:
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
    except OSError:
        # A file system without links has no `latest`, and the run is none the worse.
        return
