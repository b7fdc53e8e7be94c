"""The check of receipts does not depend on the engine: neither it nor a worker imports one, or torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.unit

CHECK = "capvec.receipts"
WORKER = ("capvec.run.trial", "capvec.run.collect", "capvec.pytest_plugin.plugin", "capvec.engines.client")
TRIALS = ("capvec.pytest_plugin.plugin", "capvec.engines.client", "capvec.run.payload", "capvec.results.stopped")
"""What a worker of a sweep imports."""


@pytest.mark.parametrize("modules", [(CHECK,), WORKER], ids=["the check", "a worker"])
def test_neither_the_check_nor_a_worker_imports_an_engine(modules):
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = done.stdout.split()
    assert CHECK in imported
    # `capvec.engines` has the protocol and the client; each of its folders is an engine.
    assert [name for name in imported if name.startswith("capvec.engines.transformers")] == []
    assert {"torch", "transformers"} & set(imported) == set()


def test_a_worker_runs_trials_without_statistics():
    script = f"import sys, {', '.join(TRIALS)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"scipy", "pandas", "capvec.report"} & set(done.stdout.split()) == set()


def test_the_check_imports_no_part_of_the_engines_at_all():
    script = f"import sys, {CHECK}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [name for name in done.stdout.split() if name.startswith("capvec.engines")] == []
