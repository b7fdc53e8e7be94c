"""Whole sweeps, as a user types them, for the tests that look at what comes of one."""

from __future__ import annotations

import httpcore  # noqa: F401 (httpx imports it late, and pytester forgets what is imported during its tests)
import numpy as np
import pytest
import safetensors.numpy
from support.real_sweeps import RUN, write_given

from capvec.cache import cache_root

BUNDLED = cache_root() / "pocket"
"""Where this machine keeps the bundled model."""


@pytest.fixture
def pytester(pytester):
    """pytester's, with the bundled model of this machine in its home: to make one takes half a minute."""
    BUNDLED.mkdir(parents=True, exist_ok=True)
    cache = pytester.path / ".cache" / "capvec"
    cache.mkdir(parents=True)
    (cache / BUNDLED.name).symlink_to(BUNDLED)
    return pytester


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, a direction that fits it, and two tasks: one whose verifier is content with anything, one never."""
    root = tmp_path_factory.mktemp("given")
    write_given(root, "llama")
    safetensors.numpy.save_file({"directions": np.ones((32, 2560), np.float32)}, root / "other.safetensors")
    return root


@pytest.fixture
def sweep(pytester, given):
    """Runs a sweep as a user would who has no clone; options given later win.

    The tasks of most tests have no solution, and verifiers that anything satisfies: only `check` has them checked.
    """

    def run(*arguments: str, check: bool = False) -> pytest.RunResult:
        arguments = (*arguments, *(() if check else ("--no-check",)))
        model = () if "--base-url" in arguments else ("--model", str(given / "tiny"))
        return pytester.runpytest_subprocess(
            "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", RUN,
            *model, "--direction", str(given / "dir.safetensors"), "--layer", "1",
            "--tasks", str(given / "tasks"), "--alpha", "4", "--max-steps", "2", "--max-tokens", "6", *arguments,
        )  # fmt: skip

    return run


@pytest.fixture
def report(pytester):
    return pytester.path / "reports" / RUN
