"""What `import capvec` offers, and what it costs."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest
from support import REPOSITORY

import capvec

pytestmark = pytest.mark.unit


def test_importing_capvec_imports_nothing_heavy():
    script = "import sys, capvec; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "pandas", "scipy", "numpy"} & set(done.stdout.split()) == set()


@pytest.mark.parametrize("name", [name for name in capvec.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name):
    value = getattr(capvec, name)
    assert inspect.getdoc(value)
    assert name in dir(capvec)
    assert value.__name__ == name


def test_another_name_is_an_attribute_error_as_of_any_module():
    with pytest.raises(AttributeError, match="no attribute 'steerr'"):
        capvec.steerr  # noqa: B018


def test_the_reference_lists_every_public_name_once():
    text = (REPOSITORY / "docs/reference/api.md").read_text()
    rows = "".join(line for line in text.splitlines() if line.startswith("| `capvec."))
    listed = re.findall(r"`capvec\.(\w+)`", rows)
    assert sorted(listed) == sorted(set(capvec.__all__) - {"__version__"})
