"""Each folder of the package imports only what stands before it in the flow (`dev/architecture.py`)."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support import REPOSITORY

from dev import architecture
from dev.architecture import faults

pytestmark = pytest.mark.unit

KNOWN: set[tuple[str, str]] = set()
"""Breaches that are still to be mended, as file and folder. Must end empty: add none."""


@pytest.fixture(scope="module")
def imports():
    return architecture.imports()


def in_a_package(tmp_path, **modules):
    """The imports of a package whose modules are given as path (`__` for `/`) and source."""
    for path, source in modules.items():
        file = tmp_path / "capvec" / (path.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return architecture.imports(tmp_path / "capvec")


def test_every_import_keeps_the_rules(imports):
    broken = [one for one in imports if (one.path.as_posix(), one.imported) not in KNOWN]
    assert not faults(broken), "\n".join(["", *faults(broken)])


def test_no_breach_is_listed_that_is_mended(imports):
    broken = {(one.path.as_posix(), one.imported) for one in imports if architecture.fault(one)}
    assert broken >= KNOWN, "Remove the mended ones from KNOWN."


def test_every_third_party_import_is_declared(imports):
    """Those inside functions too. The name of a distribution may differ from what is imported, as PyYAML from yaml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    declared = {normalised(Requirement(line).name) for line in [*project["dependencies"], *extras]}
    providers = packages_distributions()
    for one in imports:
        name = one.target.partition(".")[0]
        if name != "capvec" and name not in sys.stdlib_module_names:
            packages = {normalised(package) for package in providers.get(name, [name])}
            assert packages & declared, (
                f"{one}: add {' or '.join(packages)} to [project].dependencies in pyproject.toml"
            )


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_flow_lists_every_folder_and_module_once():
    there = {
        path.stem for path in architecture.PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert sorted(architecture.order()) == sorted(there - {"__init__"})


@pytest.mark.parametrize(
    "source",
    [
        "from capvec.run import session",
        "import capvec.run.session",
        "from ..run import session",
        "def late():\n    from capvec.run.session import Session",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from capvec.run.session import Session",
    ],
    ids=["from", "import", "relative", "inside a function", "for type checking"],
)
def test_an_import_against_the_flow_is_found_and_says_the_line_and_the_fix(tmp_path, source):
    (fault,) = faults(in_a_package(tmp_path, stats__power=source))
    line = len(source.splitlines())
    assert fault.startswith(f"capvec/stats/power.py:{line} imports capvec.run")
    assert "`run` stands after `stats`" in fault
    assert "Move what both need to `stats`" in fault


@pytest.mark.parametrize(
    ("one", "other"), [("run", "report"), ("report", "run"), ("sandbox", "tasks"), ("commands", "pytest_plugin")]
)
def test_folders_that_stand_side_by_side_do_not_know_each_other(tmp_path, one, other):
    (fault,) = faults(in_a_package(tmp_path, **{f"{one}__a": f"from capvec.{other}.b import c"}))
    assert "side by side" in fault


@pytest.mark.parametrize("later", [True, False])
def test_modules_of_the_ground_import_only_what_stands_before_them(tmp_path, later):
    one, other = ("serial", "text") if later else ("text", "serial")
    assert len(faults(in_a_package(tmp_path, **{one: f"from capvec.{other} import x"}))) == later


def test_an_import_with_the_flow_or_within_a_folder_is_fine(tmp_path):
    source = (
        "from capvec import __version__\nfrom capvec.results.results import Results\nfrom capvec.report.text import x"
    )
    assert faults(in_a_package(tmp_path, report__a=source)) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("agent__a", "import docker.errors"),
        ("run__a", "import pytest"),
        ("report__a", "def late():\n    import torch"),
        ("directions__build", "from torch import Tensor"),
        ("directions__build", "from safetensors.numpy import load"),
        ("publish__a", "import gguf"),
        ("run__a", "from capvec import steer"),
        ("run__a", "from dev.agent import train"),
        ("shelf__a", "from capvec.records import Config"),
    ],
)
def test_what_belongs_elsewhere_is_found(tmp_path, path, source):
    assert len(faults(in_a_package(tmp_path, **{path: source}))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sandbox__a", "import docker.errors"),
        ("pytest_plugin__a", "import pytest"),
        ("engines__transformers__hooks__a", "import torch"),
        ("directions__pt_file", "import torch"),
    ],
)
def test_what_is_where_it_belongs_is_fine(tmp_path, path, source):
    assert faults(in_a_package(tmp_path, **{path: source})) == []


def test_a_circle_of_modules_is_found(tmp_path):
    circle = architecture.circle(
        in_a_package(
            tmp_path,
            stats__a="from capvec.stats.b import x",
            stats__b="from capvec.stats import c",
            stats__c="def f():\n    import capvec.stats.a",
        )
    )
    assert circle[0] == circle[-1]
    assert set(circle) == {"capvec.stats.a", "capvec.stats.b", "capvec.stats.c"}


def test_a_circle_is_named_by_a_line_of_it_and_a_remedy(tmp_path):
    (fault,) = faults(
        in_a_package(
            tmp_path, stats__a="import os\nfrom capvec.stats.b import x", stats__b="from capvec.stats import a"
        )
    )
    assert fault.startswith(
        ("capvec/stats/a.py:2 imports capvec.stats.b.x", "capvec/stats/b.py:1 imports capvec.stats.a")
    )
    assert "Move what they share" in fault


def test_an_arrow_that_others_imply_is_not_drawn(tmp_path):
    found = in_a_package(
        tmp_path,
        plan__a="from capvec.tasks.b import c\nfrom capvec.records import Config",
        results__a="from capvec.plan.a import d\nfrom capvec.tasks.b import c",
    )
    arrows = architecture.arrows(found)
    assert arrows["results"] == {"plan"}
    assert arrows["plan"] == {"tasks"}
    assert arrows["tasks"] == set()


def test_data_files_of_the_tasks_are_not_read(tmp_path):
    assert in_a_package(tmp_path, tasks__bundled__a="import docker") == []


def test_the_path_of_an_import_is_relative_to_the_package(tmp_path):
    (found,) = in_a_package(tmp_path, stats__power="import numpy as np")
    assert (found.path, found.importer, found.imported) == (Path("stats/power.py"), "stats", None)
