"""`--plan` as a user types it: a real model in real containers, a plan in the terminal, nothing left behind."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.numpy
from support.real_sweeps import no_container_is_left
from support.tiny_models import LAYERS, WIDTH, save_tiny

from capvec.records import Outcome
from capvec.results.ledger import Ledger

pytestmark = pytest.mark.integration
pytest_plugins = ("pytester",)


@pytest.fixture
def plan(pytester):
    """Plans a sweep of the bundled tasks with a direction from a file; options given later win."""

    def run(*arguments: str, shape: tuple[int, int] = (LAYERS, WIDTH)) -> pytest.RunResult:
        vectors = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        safetensors.numpy.save_file({"directions": vectors}, pytester.path / "dir.safetensors")
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "--plan", "-m", "sweep", "--run", "planned", "-n", "2",
            "--direction", "dir.safetensors", "--tasks", "sprint", "--max-steps", "2", "--max-tokens", "8", *arguments,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small random-weight model. Saved before pytester takes note of what is loaded: it unloads the rest afterwards,
    and torch cannot be loaded twice."""
    return save_tiny(tmp_path_factory.mktemp("given") / "tiny", "llama")


@pytest.fixture
def small(tiny, plan):
    """Plans a sweep of the small model."""
    return lambda *arguments: plan("--model", str(tiny), "--layer", "1", *arguments)


def nothing_is_left(folder: Path) -> bool:
    engines = [
        child for child in psutil.Process().children(recursive=True) if "capvec.engines.transformers" in child.cmdline()
    ]
    return no_container_is_left("planned") and not engines and not (folder / "reports").exists()


def test_a_plan_runs_a_probe_says_what_the_sweep_takes_and_could_see_and_leaves_nothing(plan, pytester):
    result = plan("--layer", "22", "--alpha", "2,4", "--controls", "random:2", shape=(30, 576))  # the bundled model's
    assert result.ret == pytest.ExitCode.OK
    assert nothing_is_left(pytester.path)
    # Two for each of two workers are fewer than four; five tasks, seven configs.
    result.stdout.fnmatch_lines(
        [
            "capvec: probe: up to 4 trials, 2 at a time, *discarded*",
            # Five tasks give 2/2⁵ = 0.0625 at least; two configs ask for 0.05/2.
            "UNDERPOWERED for any change in the pass rate: 5 tasks give no p below 0.062, and 0.025 is needed*",
            "plan: 35 trials = 7 configs × 5 tasks × 1 attempt; *",
            "steered-L22-a2 *steered *22 *2 *",
            "random1-L22-a4 *random × 2 *22 *4 *",
            "time: about * at -n 2 (from 4 trials in * s), after about *",
            "workers (-n) *trials an hour *slowed most by",
            "2 *",
            "256 *",
            "Simulated from the probe's trials on * takes * ms*",
            "assumed: base rate 0.50, logit SD between tasks 1.5 *",
            "detectable rise, 80 % power *none *none",
            "attempts that +0.15 needs *no number *",
        ]
    )
    printed = result.outlines[result.outlines.index(next(line for line in result.outlines if "UNDERP" in line)) :]
    assert max(map(len, printed)) <= 100
    # No session began, so no worker did: xdist would have shown gw0 and gw1.
    assert not re.search(r"gw\d|test session starts|\d workers", result.stdout.str())


def test_what_an_earlier_run_measured_of_the_baseline_is_taken_instead_of_an_assumption(small, pytester):
    (pytester.path / "earlier").mkdir()
    for number in range(8):
        status = "solved" if number < 2 else "unsolved"
        outcome = Outcome("e", f"t{number % 4}", "baseline", None, None, number // 4 + 1, 0, status)
        Ledger(pytester.path / "earlier" / "trials.jsonl").append(outcome)
    result = small("--base-rate", "earlier", "--effect", "0.4", "--attempts", "3")
    assert result.ret == pytest.ExitCode.OK
    # (2 + ½)/(8 + 1) = 0.28.
    result.stdout.fnmatch_lines(["assumed: base rate 0.28, *from 8 baseline trials in earlier*", "power for +0.4 *"])


def test_a_task_whose_verifier_is_broken_is_found_by_the_probe(small, pytester):
    folder = pytester.path / "tasks" / "mute"
    for part in ("environment", "tests"):
        (folder / part).mkdir(parents=True)
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    (folder / "task.toml").write_text('[environment]\nnetwork_mode = "no-network"\n')
    (folder / "instruction.md").write_text("Do it.\n")
    (folder / "tests" / "test.sh").write_text("echo nothing to say\n")
    (folder / "tests" / "test.sh").chmod(stat.S_IRWXU)
    result = small("--tasks", str(pytester.path / "tasks"), "--effect", "0.4", "--no-check")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = " ".join(line.strip() for line in result.outlines)
    assert "time: not known at -n 2" in said
    # Two at a time: either may be the first.
    assert re.search(r"2 of the probe's trials ended in an infrastructure error: mute-\S+-t1: VerifierFault", said)
    assert nothing_is_left(pytester.path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layer", "99"), "--layer 99: the model has 4 layers, 0 to 3"),
        (("--gate", "improves(steered-L9-a4)"), "--gate *no config steered-L9-a4 is *"),
    ],
)
def test_bad_input_is_complained_of_as_by_the_sweep(small, pytester, arguments, said):
    result = small(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: " + said])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert nothing_is_left(pytester.path)
