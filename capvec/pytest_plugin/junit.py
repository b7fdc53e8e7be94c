"""The junit file: what capvec adds to it, and how it is written where the disk refuses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from _pytest.junitxml import xml_key

from capvec.errors import StorageFault
from capvec.report.preregistration import preregistration_status
from capvec.results.battery import CostRow
from capvec.results.results import Results
from capvec.storage import make_folder, writing
from capvec.text import printable


def tell_junit(config: pytest.Config, results: Results) -> None:
    """Write into the junit file, where there is one, whether the run is what was preregistered, and what it costs."""
    if (junit := config.stash.get(xml_key, None)) is not None:
        for said in preregistration_status(results):
            junit.add_global_property("preregistration", printable(said))
        for cost in results.battery.costs if results.battery is not None else ():
            junit.add_global_property(f"battery {cost.config}", json.dumps(CostRow.of(cost).to_json()))


@contextmanager
def junit_elsewhere(config: pytest.Config) -> Iterator[None]:
    """Let pytest write the junit file elsewhere, and write it to its place at the end.

    pytest itself ends in a traceback, and without its summary, where the disk refuses it.

    Raises:
        StorageFault: the disk refuses it; pytest does not say that it was written.
    """
    if (junit := config.stash.get(xml_key, None)) is None:
        yield
        return
    path = Path(junit.logfile)
    with _elsewhere() as file:
        try:
            junit.logfile = str(file)
            yield
        finally:
            junit.logfile = str(path)
        try:
            make_folder(path.parent)
            with writing(path):
                path.write_bytes(file.read_bytes())
        except StorageFault:
            config.pluginmanager.unregister(junit)
            del config.stash[xml_key]
            raise


@contextmanager
def _elsewhere() -> Iterator[Path]:
    """A file in memory; where the system has none, among temporary files."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("junit")
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    else:
        with TemporaryDirectory(prefix="capvec-") as folder:
            yield Path(folder) / "junit.xml"
