"""Signals that stop a process, sent to real ones."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from capvec.signals import Stopped, exit_code

pytestmark = pytest.mark.unit

SCRIPT = """
import sys, time
from capvec.exits import exit_code_of

def command():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.5)  # the work of an end, which a second signal must not cut short
        print("finished", flush=True)
    return 0

sys.exit(exit_code_of(command))
"""
SHIELDED = """
import sys, time
from capvec.exits import exit_code_of
from capvec.signals import finishing

def command():
    with finishing():
        print("ready", flush=True)
        time.sleep(1)
        print("whole")
    return 0

sys.exit(exit_code_of(command))
"""
ELSEWHERE = SCRIPT.replace(
    'print("ready", flush=True)',
    """
        import signal, threading
        other = threading.Thread(target=time.sleep, args=(5,), daemon=True)
        other.start()
        send = threading.Timer(0.5, signal.pthread_kill, (other.ident, signal.SIGTERM))
        send.start()
        print("ready", flush=True)""",
)
DROPPING = """
import ctypes, gc, sys, time, weakref
from capvec.exits import exit_code_of

kept = []  # as pytest keeps what Python drops
if {keeping}:
    sys.unraisablehook = kept.append

def busy(*_):
    gc.callbacks.clear()
    print("ready", flush=True)
    time.sleep(20)

class One:
    pass

class Final:
    __del__ = busy

def finalizer():
    Final()

def reference():
    one = One()
    reference = weakref.ref(one, busy)
    del one

def callback():
    ctypes.CFUNCTYPE(None)(busy)()

def collector():
    gc.callbacks.append(busy)
    gc.collect()

def clause():
    try:
        busy()
    except BaseException:
        pass

def command():
    try:
        {way}()
        time.sleep(20)
    finally:
        time.sleep(0.5)
        print("finished", flush=True)
    return 0

sys.exit(exit_code_of(command))
"""
SUSPENDED = """
import signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from capvec.exits import exit_code_of
from capvec.signals import times_continued

def trial():
    before = times_continued()
    time.sleep(0.3)  # until the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGCONT)
    time.sleep(0.3)
    print(times_continued() != before, flush=True)

def command():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(trial).result()
    return 0

sys.exit(exit_code_of(command))
"""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _heeds_a_hang_up():
    """Processes started here heed a hang-up, even where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(script: str, *before: str, **streams: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} | streams
    return subprocess.Popen([*before, sys.executable, "-c", script], **pipes)


def end(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=30)
    assert "Traceback" not in said
    assert "Exception" not in said
    return said


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("times", [1, 20])
def test_the_first_signal_stops_and_those_that_follow_let_it_finish(number, times):
    process = start(SCRIPT)
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.01)
    assert end(process) == "finished\n"
    assert process.returncode == 128 + number


@pytest.mark.parametrize("times", [1, 20])
@pytest.mark.parametrize("keeping", [False, True])
@pytest.mark.parametrize("way", ["finalizer", "reference", "callback", "collector", "clause"])
def test_a_stop_that_is_dropped_on_its_way_comes_again(way, keeping, times):
    """Python drops an exception of a finalizer, of a callback of a weak reference, of C or of the collector."""
    process = start(DROPPING.format(way=way, keeping=keeping))
    assert process.stdout.readline() == "ready\n"
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert end(process) == "finished\n"
    assert process.returncode == 128 + signal.SIGINT
    assert time.monotonic() - began < 15, "it went on as if no signal had come"


def test_a_thread_knows_that_the_process_was_suspended_though_the_main_thread_still_waits_for_it():
    """The system gave the signal to another thread."""
    assert end(start(SUSPENDED)) == "True\n"


def test_a_process_that_was_told_to_ignore_a_hang_up_does_so():
    process = start(SCRIPT.replace("sleep(60)", "sleep(1)"), "nohup")
    assert "ready\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGHUP)
    assert end(process) == "finished\n"
    assert process.returncode == 0


def test_what_is_being_finished_is_whole_before_a_signal_stops_the_process():
    process = start(SHIELDED)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert end(process) == "whole\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_a_terminal_that_goes_away_stops_the_process_and_its_last_words_harm_nothing():
    master, terminal = pty.openpty()
    process = start(SCRIPT, "setsid", "--ctty", stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    assert os.read(master, 100).startswith(b"ready")
    os.close(master)
    assert process.wait(timeout=30) == 128 + signal.SIGHUP


def test_a_signal_that_another_thread_is_given_ends_the_wait_of_the_main_thread():
    process = start(ELSEWHERE)
    assert process.stdout.readline() == "ready\n"
    assert end(process) == "finished\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_exit_codes_are_those_of_a_shell():
    assert [exit_code(Stopped(number)) for number in STOPS] == [130, 143, 129]
    assert exit_code(KeyboardInterrupt()) == 130
