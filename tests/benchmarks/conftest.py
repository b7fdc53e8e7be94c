"""The fixture that every benchmark runs with."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from support.benchmarks import Benchmark


@pytest.fixture
def bench(request):
    """What it prints is seen at once; it writes its JSON file when it has passed."""
    config = request.config
    capture = config.pluginmanager.getplugin("capturemanager")
    found = Benchmark(
        request.node.name.removeprefix("test_"),
        small=config.getoption("--bench-small"),
        changes=config.getoption("--bench-set"),
        aloud=nullcontext if capture is None else capture.global_and_fixture_disabled,
    )
    found.say("")
    yield found
    found.say(f"written to {found.write(Path(config.getoption('--bench-out')))}")


@pytest.fixture(scope="session")
def cuda(torch):
    """The GPU's name."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.cuda.get_device_name()
