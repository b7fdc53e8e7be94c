"""The tests' own rules, read from their imports: what tests share is in `tests/support`, and private names stay so."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY

from capvec.pytest_plugin.preparation import STUDIES

pytestmark = pytest.mark.unit

TESTS = REPOSITORY / "tests"
PACKAGES = ("capvec", "dev")


def violations(source: str, file: str) -> Iterator[str]:
    """Each rule that a test file breaks: where, what, and what to do."""
    tree = ast.parse(source)
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from (f"{file}:{node.lineno}: {problem}" for problem in _import_problems(node, names))
        elif isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
            for alias in node.names:
                if _is_test(alias.name):
                    yield f"{file}:{node.lineno}: {_from_a_test(alias.name)}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _is_private(node.attr):
            if _is_ours(module := modules.get(node.value.id, "")):
                yield f"{file}:{node.lineno}: {_private(module, node.attr)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            yield from (f"{file}:{node.lineno}: {problem}" for problem in _patch_problems(node, modules))


def _import_problems(node: ast.ImportFrom, names: list[str]) -> Iterator[str]:
    if node.level or _is_test(node.module or "") or any(_is_test(name) for name in names):
        yield _from_a_test(f"{'.' * node.level}{node.module or ''}")
    if _is_ours(node.module or ""):
        yield from (_private(node.module or "", name) for name in names if _is_private(name))


def _patch_problems(call: ast.Call, modules: dict[str, str]) -> Iterator[str]:
    """`monkeypatch.setattr(module, "_name", …)` and `monkeypatch.setattr("capvec.module._name", …)`."""
    target, *rest = call.args
    named = rest[0].value if rest and isinstance(rest[0], ast.Constant) else ""
    if isinstance(target, ast.Name) and _is_ours(modules.get(target.id, "")) and _is_private(str(named)):
        yield _private(modules[target.id], str(named))
    if isinstance(target, ast.Constant) and _is_ours(str(target.value)):
        module, _, name = str(target.value).rpartition(".")
        if _is_private(name):
            yield _private(module, name)


def _is_test(module: str) -> bool:
    return any(part.startswith(("test_", "bench_")) or part in ("tests", "conftest") for part in module.split("."))


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _from_a_test(module: str) -> str:
    return f"imports from the tests ({module}): move what both need to tests/support and import it from `support`"


def _private(module: str, name: str) -> str:
    return f"uses the private {name} of {module}: test it through a public function, or make it public there"


def files() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(TESTS)))
def test_a_test_imports_no_other_test_and_no_private_name(file: Path) -> None:
    assert not list(violations(file.read_text(), str(file.relative_to(REPOSITORY))))


TEST_FILES = sorted([*TESTS.glob("*/**/test_*.py"), *TESTS.glob("*/**/bench_*.py")])


@pytest.mark.parametrize("file", TEST_FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_a_test_has_the_mark_of_its_folder_without_which_no_target_runs_it(file: Path) -> None:
    folder = file.relative_to(TESTS).parts[0]
    mark = {"benchmarks": "bench"}.get(folder, folder)
    marks = {f"pytest.mark.{mark}" for mark in (mark, *(("gpu",) if folder == "integration" else ()))}
    given = re.findall(r"^pytestmark = (\[[^]]*|.*)", file.read_text(), re.MULTILINE)
    assert marks & set(re.findall(r"pytest\.mark\.\w+", str(given))), f"add pytestmark = pytest.mark.{mark}"


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("from test_statistics import arms", "tests/support"),
        ("from tests.unit.stats.test_statistics import arms", "tests/support"),
        ("from .test_statistics import arms", "tests/support"),
        ("import conftest", "tests/support"),
        ("def f():\n    from capvec.publish.bake.proof import _judge", "_judge of capvec.publish.bake.proof"),
        ("from capvec.models import source\nsource._TRACES", "_TRACES of capvec.models.source"),
        ("from capvec.models import source\npatch.setattr(source, '_TRACES', 1)", "_TRACES of capvec.models.source"),
        ("patch.setattr('capvec.models.source._TRACES', 1)", "_TRACES of capvec.models.source"),
    ],
)
def test_a_violation_is_reported_with_its_line_and_the_remedy(source: str, named: str) -> None:
    (problem,) = violations(source, "test_x.py")
    assert problem.startswith(f"test_x.py:{source.count(chr(10)) + 1}: ")
    assert named in problem


@pytest.mark.parametrize(
    "source",
    [
        "from support.outcomes import arms",
        "from capvec.publish.bake.proof import judge",
        "from capvec import __version__",
        "from capvec.models import source\nsource.TRACES",
        "import torch\ntorch._C",
    ],
)
def test_the_rest_is_fine(source: str) -> None:
    assert not list(violations(source, "test_x.py"))


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_imports_no_tests(study):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", study, "--collect-only", "--quiet"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+ tests collected in \S+", done.stdout.splitlines()[-1])
