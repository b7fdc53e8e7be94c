"""Ctrl-C while pytest imports plugins and conftest files."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.unit

PROGRAM = """
import sys, pytest, capvec.pytest_plugin.early
print("ready", flush=True)
sys.exit(pytest.main(["-p", "no:cacheprovider", "-p", "capvec.pytest_plugin.early", *sys.argv[1:]]))
"""


def start(folder, *arguments):
    (folder / "conftest.py").write_text(
        "import time\nfrom pathlib import Path\n\nPath('begun').touch()\ntime.sleep(20)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], cwd=folder,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def interrupt(process):
    """What is printed after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=15)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    return said


@pytest.mark.parametrize("after_s", [0.02, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2])
@pytest.mark.parametrize("arguments", [("-m", "sweep"), ("--help",)])
def test_ctrl_c_while_plugins_are_imported_shows_no_traceback(tmp_path, after_s, arguments):
    process = start(tmp_path, *arguments)
    time.sleep(after_s)
    assert interrupt(process) == ""


def test_ctrl_c_while_conftest_files_are_imported_shows_no_traceback(tmp_path):
    process = start(tmp_path)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
    assert interrupt(process) == ""


def test_pytest_itself_answers_ctrl_c_in_a_session(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import signal\n\ndef test_it():\n    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0
