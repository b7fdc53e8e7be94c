"""Results of other tools that somebody forged: a verdict, or one sentence that says what is wrong, and nothing else."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import random
import shutil
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REPOSITORY
from support.judged import RESULTS

from capvec.commands.command_line import run_command

pytestmark = pytest.mark.unit

RUNS = REPOSITORY / "tests" / "data" / "traces" / "mini-swe-agent"
INSPECT = importlib.util.find_spec("inspect_ai") is not None
BASELINES = {
    "harbor": "baseline",
    "lm_eval": "baseline",
    "swe_bench": "deepseek__deepseek-chat.deepseek_chat_dev",
    "mini_swe_agent": "baseline",
    "inspect": "baseline",
}
"""Tool → the baseline of its results."""
TOOLS = tuple(BASELINES)
NESTED: Any = []
for _ in range(100):
    NESTED = [NESTED]
ODD = [
    None, True, 0, -1, 2, 2.5, -0.0, 1e308, math.inf, -math.inf, math.nan, 10**18, 10**30, 10**299, "", " ", "1", "nan",
    "yes", "C", "../../etc/passwd", "/etc/passwd", "a/b", ".", "..", "\x1b[2J\r\x07", "\u202eevil", "\0",
    "=cmd|' /C calc'!A0", "<script>alert(1)</script>", "| a |\n# b", "x" * 5_000, "\ud800", [], {}, [[]], {"a": 1},
    [None, 1, "a"], NESTED,
]  # fmt: skip
"""What may stand in the place of anything."""


def write_given(tool: str, folder: Path) -> None:
    """Real results of a tool."""
    if tool == "mini_swe_agent":
        for arm, solved in (("baseline", 1), ("steered", 2)):
            runs = sorted(RUNS.glob("*.traj.json"))
            ids = [json.loads(run.read_text())["instance_id"] for run in runs]
            for run, name in zip(runs, ids, strict=True):
                (folder / arm / name).mkdir(parents=True)
                shutil.copy(run, folder / arm / name / f"{name}.traj.json")
            report = {"resolved_ids": ids[:solved], "unresolved_ids": ids[solved:]}
            (folder / arm / "report.json").write_text(json.dumps(report))
    elif tool == "inspect":
        from inspect_ai import log

        for path in (RESULTS / "inspect").glob("*.eval"):
            log.write_eval_log(log.read_eval_log(str(path)), str(folder / f"{path.stem}.json"), format="json")
    else:
        shutil.copytree(RESULTS / tool, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*_gen_*"))


@pytest.fixture(scope="module")
def results_of(tmp_path_factory):
    """Tool → its files, parsed: relative path → the values of its lines, or its one value in a list."""

    @cache
    def read(tool: str) -> dict[Path, list[Any]]:
        if tool == "inspect" and not INSPECT:
            pytest.skip("Inspect: pip install 'capvec[inspect]'")
        folder, files = tmp_path_factory.mktemp(tool), {}
        write_given(tool, folder)
        for path in sorted(folder.rglob("*.json*")):
            text = path.read_text()
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            files[path.relative_to(folder)] = [json.loads(line) for line in lines]
        return files

    return read


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to every value in a value, the outer ones first."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*way, key))


def changed(value: Any, way: tuple[Any, ...], how: str, odd: Any) -> Any:
    """A value with a change in one place."""
    if not way:
        return odd
    value = copy.copy(value)
    key = way[0]
    if len(way) > 1 or how == "another value":
        value[key] = changed(value[key], way[1:], how, odd)
    elif how == "left out":
        del value[key]
    elif isinstance(value, list):
        value.append(value[key])
    else:
        value[odd if isinstance(odd, str) else "more"] = value[key]
    return value


def judged(*arguments: str) -> tuple[int, str, str]:
    """The exit code, standard output and standard error of a command."""
    out, errors = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = run_command([*arguments])
    return code, out.getvalue(), errors.getvalue()


def check_end(code: int, out: str, errors: str) -> None:
    """A result, or one sentence."""
    assert code in (0, 1, 2)
    assert all(line.isprintable() for line in (out + errors).splitlines())
    if code == 2:
        assert len(errors.splitlines()) == 1
        assert len(errors) < 2_000
    else:
        assert errors == ""


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 1 << 32))
@pytest.mark.parametrize("tool", TOOLS)
def test_whatever_stands_in_any_place_of_a_result_it_is_judged_or_refused_in_one_sentence(
    results_of, tmp_path_factory, tool, seed
):
    chance, files = random.Random(seed), dict(results_of(tool))
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        file = chance.choice([*files])
        number = chance.randrange(len(files[file]))
        way = chance.choice([*places(files[file][number])])
        how = chance.choice(["another value", "another value", "left out", "twice"])
        files[file] = [*files[file]]
        files[file][number] = changed(files[file][number], way, how, chance.choice(ODD))
    folder = tmp_path_factory.mktemp("forged")
    for file, lines in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    written = ("--out", str(folder / "out")) if chance.random() < 0.2 else ()
    asked = ("--reward", "acc") if tool == "lm_eval" else ()
    baseline = ("--baseline", BASELINES[tool]) if chance.random() < 0.8 else ()
    code, out, errors = judged("judge", str(folder), *asked, *baseline, *written)
    check_end(code, out, errors)
    if code != 2 and written:
        check_end(*judged("report", str(folder / "out")))
    if code == 2 and written:
        assert not (folder / "out").exists() or not any((folder / "out").iterdir())
    shutil.rmtree(folder)
