"""Errors are classified by what failed, from the text that a trial keeps of them."""

from __future__ import annotations

import pytest

from capvec.errors import fault_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ("SandboxUnavailable: Docker failed: Connection refused", "docker"),
        ("SandboxBroken: Docker failed: cannot start", "docker"),
        ("capvec.errors.EngineUnavailable: it died", "engine"),
        ("SteeringFault: no receipt", "steering"),
        ("VerifierFault: no reward; it printed: write error: No space left on device", "verifier"),
        ("EnvironmentFault: the ENTRYPOINT ended", "task"),
        ("StepFault: setup.sh failed", "task"),
        ("ContextOverflow: 3000 tokens", "context"),
        ("SandboxUnavailable: Docker failed: write /x: no space left on device", "disk"),
        ("SandboxUnavailable: Docker failed: dial tcp: network is unreachable", "network"),
        ("worker 'gw1' crashed while running 'suite/test_sweep.py::test_sweep[x]'", "worker"),
        ("AssertionError", "other"),
        ("", "other"),
    ],
)
def test_an_error_has_the_class_of_what_failed(error, fault):
    assert fault_of(error) == fault
