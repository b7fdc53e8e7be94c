"""The `capvec` command: what it prints, and its exit code."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from support.help_texts import options_in

from capvec.commands.command_line import COMMANDS
from capvec.commands.main import main
from capvec.directions.activations import ActivationFile, Activations
from capvec.directions.direction import Direction
from capvec.engines.protocol import EngineInfo
from capvec.plan.option_help import help_text, options_of
from capvec.plan.option_table import PLACES
from capvec.programs import BRIEF_WAITS
from capvec.records import Trace
from capvec.setup import doctor

pytestmark = pytest.mark.unit

NOWHERE = "tcp://127.0.0.1:1"
"""Nothing listens on port 1."""


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No engine, an empty cache, an empty folder."""
    monkeypatch.setenv("DOCKER_HOST", NOWHERE)
    monkeypatch.setenv("CAPVEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def refusal(capsys, *arguments):
    """What a refused command prints: exit code 2, one line, nothing on standard output."""
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("capvec: ")
    return printed.err


@pytest.mark.parametrize("arguments", [["steer"], ["collect"], ["capture"], ["compute"]])
def test_a_command_line_that_makes_no_sense_is_refused_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: capvec" in capsys.readouterr().err


def test_capvec_alone_prints_what_it_can_do_and_does_nothing(capsys):
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "pytest -n 4 -m sweep" in printed.err
    assert "capvec COMMAND --help" in printed.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_the_options_of_the_table_and_no_other(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert f"usage: capvec {command}" in text
    assert max(map(len, text.splitlines())) <= 80
    shown = options_in(text)
    assert list(shown) == ["--help", *(option.flag for option in options_of(command))]
    for option in options_of(command):
        # argparse breaks lines at hyphens too.
        assert help_text(option, command).replace(" ", "") in shown[option.flag].replace(" ", "")


def test_every_command_of_the_table_is_there():
    assert {f"capvec {name}" for name in COMMANDS} == {
        place.command for place in PLACES.values() if place.command.startswith("capvec ")
    }


def test_the_doctor_exits_with_1_when_something_is_missing(capsys):
    assert main(["doctor"]) == 1
    assert "MISSING  Docker" in capsys.readouterr().out


def test_the_doctor_exits_with_0_when_nothing_is(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", {"Python": lambda: (True, "3.11.2", "")})
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "ok       Python  3.11.2"


def test_setup_stops_with_one_line_where_the_named_engine_does_not_answer(capsys):
    assert NOWHERE in refusal(capsys, "setup")


def test_serve_refuses_a_model_that_is_not_there_before_it_starts_anything(capsys, tmp_path):
    assert "/no/such/model" in refusal(capsys, "serve", "--model", "/no/such/model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines reach that address"),
        (["--host", "::"], "--host ::: other machines reach that address"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: "),
        (["--receipts", "no/such/file"], "--receipts no/such/file: No such file or directory"),
        (["--direction", "no.pt"], "no.pt: no such file"),
        (["--alpha", "0"], "--alpha '0'"),
        (["--traces", "no/such"], "no/such: no such file or folder"),
        (["--direction", "no.pt", "--traces", "no/such"], "--direction and --traces were both given"),
    ],
)
def test_serve_refuses_a_bad_option_before_it_starts_anything(arguments, expected, capsys):
    assert expected in refusal(capsys, "serve", *arguments)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--jobs", "0", "at least 1"),
        ("--attempts", "some", "whole number"),
        ("--temperature", "hot", "number"),
        ("--tasks", "no/such/tasks", "no/such/tasks"),
    ],
)
def test_collect_refuses_a_bad_option_by_name_before_it_makes_a_folder(option, value, expected, capsys, tmp_path):
    said = refusal(capsys, "collect", "--out", "traces", option, value)
    assert value in said
    assert expected in said
    assert list(tmp_path.iterdir()) == []


def test_collect_does_not_mix_two_collections(capsys, tmp_path):
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "one.json").touch()
    assert "traces: exists and is not an empty folder" in refusal(capsys, "collect", "--out", "traces")


def test_collect_without_an_engine_says_so(capsys, tmp_path):
    assert "Docker does not answer" in refusal(capsys, "collect", "--out", "traces")
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--out", "a.pt"], "a name that ends in .safetensors"),
        (["--out", "a.safetensors", "--pooling", "first"], "expected one of last, last-assistant"),
        (["--out", "a.safetensors", "--traces", "no/such"], "no/such: no such file or folder"),
        (["--out", "a.safetensors", "--contrast", "magic"], "expected one of same-model, cross-model"),
        (["--out", "a.safetensors", "--model", "/no/such/model"], "/no/such/model"),
        (["--out", "a.safetensors", "--model", "m", "--base-url", "http://x"], "drop one"),
    ],
)
def test_capture_refuses_a_bad_option_before_it_makes_a_file(arguments, expected, capsys, tmp_path):
    assert main(["capture", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("capvec: ")
    assert len(error.splitlines()) == 1
    assert expected in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--estimator", "magic"], "--estimator 'magic': expected one of mean-difference"),
        (["--activations", "a.safetensors"], "a.safetensors: no such file"),
        (["--activations", "a.safetensors", "--traces", "t"], "--traces and --activations were both given"),
        (["--activations", "a.safetensors", "--model", "m"], "--model and --activations were both given"),
        (["--traces", "no/such"], "no/such: no such file or folder"),
        (["--model", "/no/such/model"], "/no/such/model"),
    ],
)
def test_compute_refuses_a_bad_option_before_it_makes_a_folder(arguments, expected, capsys, tmp_path):
    assert expected in refusal(capsys, "compute", "--out", "vectors", *arguments)
    assert list(tmp_path.iterdir()) == []


def activations_file(path, pooling="last"):
    """Two passes and three long failures, of which layer 1 holds a difference and layer 0 noise."""
    rng = np.random.default_rng(0)
    residuals = rng.standard_normal((5, 2, 6)).astype(np.float32)
    residuals[:2, 1, 0] += 9
    said = [{"role": "user", "content": "do"}, {"role": "assistant", "content": "ls"}]
    traces = tuple(
        Trace(f"t{number}", f"task{number}", "m", ({**said[0], "content": f"do {number}"}, said[1]), reward, 20, 0, 0)
        for number, reward in enumerate([1.0, 1.0, 0.0, 0.0, 0.0])
    )
    health = EngineInfo("m", None, "LlamaForCausalLM", 2, 6, 64, "float32", "cpu", "0")
    captured = Activations(residuals, pooling, (80, 9, 9, 9, 9), (16, 0, 0, 0, 0))
    ActivationFile(traces, captured, health).save(path)
    return residuals


def test_compute_writes_the_direction_and_its_ranking_and_says_what_it_is_worth(capsys, tmp_path):
    import torch

    residuals = activations_file(tmp_path / "a.safetensors")
    assert main(["compute", "--activations", "a.safetensors", "--out", "made/vectors"]) == 0
    said = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "made/vectors").iterdir()) == [
        "dir.gguf",
        "dir.pt",
        "dir.safetensors",
        "ranking.csv",
    ]
    direction = Direction.read(tmp_path / "made/vectors/dir.safetensors")
    np.testing.assert_allclose(direction.vectors, residuals[:2].mean(0) - residuals[2:].mean(0), rtol=1e-5, atol=1e-6)
    tensors = torch.load(tmp_path / "made/vectors/dir.pt", weights_only=True)
    assert tensors["directions"].numpy().tobytes() == direction.vectors.tobytes()
    ranking = (tmp_path / "made/vectors/ranking.csv").read_text().splitlines()
    assert ranking[1].startswith("1,1.0,")
    assert direction.hash in said
    assert "2 positive and 3 negative traces from `a.safetensors`" in said
    assert "t0 lost 16 of 80 tokens" in said
    # 2 of 5: of the 10 labellings the observed one is best, and p = 1/10 does not suffice.
    assert "Layer 1 is not distinguishable from chance" in said
    assert said.count("distinguishable") == 1


def test_compute_does_not_pool_anew_what_was_captured(capsys, tmp_path):
    activations_file(tmp_path / "a.safetensors", "mean-assistant")
    said = refusal(capsys, "compute", "--activations", "a.safetensors", "--out", "v", "--pooling", "last")
    assert "was captured with mean-assistant" in said
    assert main(["compute", "--activations", "a.safetensors", "--out", "v", "--pooling", "mean-assistant"]) == 0


def test_ctrl_c_ends_without_a_traceback(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "CHECKS", {"Python": interrupt})
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("after_s", [0, 0.1])
@pytest.mark.parametrize(
    "program",
    [
        "capvec.commands.main doctor",
        "capvec.studies.calibration.select --jobs 2",
        "capvec.models.merge base adapter out",
        "capvec.models.convert model.gguf out",
    ],
)
def test_ctrl_c_before_everything_is_imported_shows_no_traceback_either(program, after_s):
    command = (sys.executable, "-m", *program.split())
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while not heeds(process.pid, signal.SIGTERM):  # capvec's first act; before it, the process is Python's own
            time.sleep(0.001)
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
    assert process.returncode == 130


def heeds(pid, number):
    """Whether a process has a handler for a signal."""
    caught = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(caught[1], 16) >> number - 1 & 1)


IMPORTING = """
import os, sys
from capvec.commands.main import main

class Looking:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit(" ".join(os.environ.get(name, "none") for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")))

sys.meta_path.insert(0, Looking())
main(["bake", "--direction", sys.argv[1], "--layer", "0", "--alpha", "1", "--out", sys.argv[1] + ".out"])
"""


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ({}, "PASSIVE 3000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE none"),
        ({"GOMP_SPINCOUNT": "7"}, "none 7"),
    ],
)
def test_the_threads_of_bake_wait_briefly_unless_the_user_said_otherwise(tmp_path, typed, found):
    (tmp_path / "dir.pt").touch()
    environment = {name: value for name, value in os.environ.items() if name not in BRIEF_WAITS} | typed
    command = (sys.executable, "-c", IMPORTING, tmp_path / "dir.pt")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == f"{found}\n"
