"""The order of capvec's folders, what breaks it, and the drawing of it: all read from the imports.

`FLOW` is the one list. `tests/unit/test_architecture.py` holds the package to it, and
`docs/develop/architecture.md` shows it.

    python -m dev.architecture     # list the imports that break a rule, with the fix
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Container, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent / "capvec"

FLOW: tuple[dict[str, str], ...] = (
    {
        "errors": "types of failure",
        "reading": "files of others, within bounds",
        "parsing": "JSON and TOML of others",
        "decimals": "exact values of floats",
        "cache": "where the cache is",
        "storage": "writing files",
        "arguments": "checks of what was typed",
        "serial": "records to JSON and back",
        "pooling": "tokens a residual is read at",
        "steering": "steers, measurements, receipts",
        "task_records": "what a task asks for",
        "jsontext": "JSON in a model's text",
        "tool_calls": "calls in a model's text",
        "thoughts": "a reply's thought and answer",
        "records": "configs, trials, outcomes",
        "receipts": "was the reply steered as asked",
        "text": "numbers and names as shown",
        "signals": "Ctrl-C, SIGTERM, SIGHUP",
        "exits": "how a command ends",
        "programs": "its own as processes",
    },
    {
        "tasks": "what is asked",
        "sandbox": "where it is done",
        "engines": "who answers, steered",
        "stats": "tests, intervals, verdict",
    },
    {"battery": "questions off task", "agent": "acting: loop, protocols", "models": "what --model can name"},
    {"traces": "what was done, on disk"},
    {"directions": "traces to vector; its files", "harnesses": "results of other tools"},
    {"plan": "options, configs, trials"},
    {"results": "what came out of a run"},
    {"run": "running the trials", "report": "what a person reads"},
    {"studies": "sweep and calibration"},
    {"publish": "card, export, bake", "setup": "makes a machine ready"},
    {"commands": "the capvec command", "pytest_plugin": "options, hooks, suite"},
)
"""The folders and top-level modules of capvec in the order of the flow, each with what it is for.

A folder imports only from rows above its own, so the folders of a row do not know each other: a run ends in a `Results`
value, and a report is made from one. The modules of the first row import only what stands before them in it.
"""

ONLY_IN = {
    "docker": ("sandbox",),
    "pytest": ("pytest_plugin",),
    "torch": (
        *("engines/transformers", "engines/vllm/plugin", "directions/pt_file.py", "directions/steer.py"),
        *("models", "publish/bake"),
    ),
    "vllm": ("engines/vllm/engine.py", "engines/vllm/server.py", "engines/vllm/plugin"),
    "transformers": ("engines/transformers", "engines/vllm/engine.py", "models", "publish/bake"),
    "outlines_core": ("engines/transformers",),
    "peft": ("models",),
    "gguf": ("directions/gguf_file.py", "models"),
    "safetensors": (
        *("directions/files.py", "directions/activations.py", "engines/client.py", "engines/requests.py"),
        *("engines/endpoints.py", "engines/transformers/models.py", "models"),
    ),
}
"""Third-party package → the places of capvec that may import it. Everything else runs without it."""


@dataclass(frozen=True)
class Import:
    """One import statement of a module of capvec."""

    path: Path
    """Of the module, relative to the package."""
    line: int
    target: str
    """The full dotted name of what is imported, as `capvec.plan.options` or `torch`."""

    @property
    def module(self) -> str:
        """The dotted name of the module that the statement is in; of a package, its own."""
        return ".".join(("capvec", *self.path.with_suffix("").parts)).removesuffix(".__init__")

    @property
    def importer(self) -> str:
        """The folder or top-level module of capvec that the statement is in."""
        return self.path.parts[0].removesuffix(".py")

    @property
    def imported(self) -> str | None:
        """The folder or top-level module of capvec that is imported; None for other packages and for capvec itself."""
        head, _, rest = self.target.partition(".")
        return rest.split(".")[0] if head == "capvec" and rest else None

    def __str__(self) -> str:
        return f"capvec/{self.path.as_posix()}:{self.line} imports {self.target}"


def imports(package: Path = PACKAGE) -> list[Import]:
    """Every import in the package, those for type checking and those inside functions included.

    Args:
        package: the folder of the package. Python files that are data (`tasks/bundled`) are left out.

    Returns:
        One `Import` for each imported name, ordered by file and line.
    """
    files = sorted(path for path in package.rglob("*.py") if "bundled" not in path.parts)
    return [found for path in files for found in _of_module(path, package)]


def _of_module(path: Path, package: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    relative = path.relative_to(package)
    for node in ast.walk(tree):
        for target in _targets(node, relative):
            yield Import(relative, node.lineno, target)  # type: ignore[attr-defined]


def _targets(node: ast.AST, relative: Path) -> Iterator[str]:
    """The dotted names that a statement imports: a name from a package may be a module of it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = ("capvec", *relative.parts)[: -node.level]
            base = ".".join([*above, *([base] if base else [])])
        yield from (f"{base}.{alias.name}" for alias in node.names)


def order() -> list[str]:
    """The folders and top-level modules, ground first."""
    return [name for row in FLOW for name in row]


def row(name: str) -> int:
    """The row of the flow that a folder or top-level module stands in, from 0."""
    return next(number for number, names in enumerate(FLOW) if name in names)


def fault(found: Import) -> str | None:
    """What is wrong with an import and how to mend it; None for an import that keeps the rules."""
    top = found.target.split(".")[0]
    if top == "capvec":
        return _fault_of_the_flow(found)
    if top in {"dev", "tests", "support"}:
        return f"{found}, which is not installed. Move the code into capvec/, or its user out of it."
    allowed = ONLY_IN.get(top)
    if allowed and not any(_is_below(found.path, place) for place in allowed):
        places = ", ".join(f"capvec/{place}" for place in allowed)
        return f"{found}, and only {places} may. Move the code there and call it, or pass the value in."
    return None


def _fault_of_the_flow(found: Import) -> str | None:
    names, importer, imported = order(), found.importer, found.imported
    if importer not in names and importer != "__init__":
        return (
            f"capvec/{importer} has no place in the flow. Add it to FLOW in dev/architecture.py, after all it imports."
        )
    if imported is None or importer == "__init__":
        return None
    if imported not in names:
        known = found.target == "capvec.__version__"
        return None if known else f"{found}, the public API. Import it from the module that defines it."
    if importer == imported:
        return None
    if row(importer) == row(imported) > 0:
        return (
            f"{found}, and `{imported}` and `{importer}` stand side by side in the flow, where neither imports the "
            "other. Move what both need to a folder before them, or pass the value in from a folder after them."
        )
    if names.index(imported) > names.index(importer):
        return (
            f"{found}, and `{imported}` stands after `{importer}` in the flow. Move what both need to `{importer}` "
            f"or before it, pass the value in, or move the code that needs both to `{imported}` or after."
        )
    return None


def _is_below(path: Path, place: str) -> bool:
    return path.as_posix() == place or path.is_relative_to(place)


def circle(found: list[Import]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty where there is none."""
    graph: dict[str, set[str]] = {one.module: set() for one in found}
    for one in found:
        target = _module_of(one, graph)
        if target in graph and target not in {one.module, "capvec"}:
            graph[one.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _module_of(found: Import, modules: Container[str]) -> str:
    """The module that is imported, or the one that a name is imported from."""
    return found.target if found.target in modules else found.target.rpartition(".")[0]


def faults(found: list[Import]) -> list[str]:
    """What is wrong with the imports of a package and how to mend it, a circle of modules included."""
    broken = [words for words in map(fault, found) if words]
    if around := circle(found)[::-1]:  # a module comes after what it imports
        modules = {one.module for one in found}
        edge = next(one for one in found if (one.module, _module_of(one, modules)) == (around[0], around[1]))
        broken.append(
            f"{edge}, and the modules import each other in a circle: {' → '.join(around)}. Move what they share to a "
            "module of its own, or pass the value in."
        )
    return broken


def arrows(found: list[Import]) -> dict[str, set[str]]:
    """Folder → the folders that it imports and that no other of its imports leads to (the transitive reduction).

    The top-level modules are the ground that every folder stands on, and are left out.
    """
    folders = {name for row in FLOW[1:] for name in row}
    direct: dict[str, set[str]] = {name: set() for name in folders}
    for one in found:
        if one.importer in folders and one.imported in folders and row(one.imported) < row(one.importer):
            direct[one.importer].add(one.imported)
    behind: dict[str, set[str]] = {}
    for name in (name for name in order() if name in folders):
        behind[name] = direct[name].union(*(behind.get(other, set()) for other in direct[name]))
    return {
        name: {other for other in others if not any(other in behind.get(third, ()) for third in others)}
        for name, others in direct.items()
    }


def main() -> int:
    """Print what breaks a rule; 1 where something does."""
    broken = faults(imports())
    print("\n".join(broken) or "Every import keeps the rules.")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
