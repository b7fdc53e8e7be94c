"""The `capvec` command: what it prints, and its exit code."""

import pytest

from capvec.cli import main
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


@pytest.mark.parametrize("arguments", [[], ["steer"], ["collect"], ["serve", "--port", "eighty"]])
def test_a_command_line_that_makes_no_sense_is_refused_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: capvec" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["doctor", "setup", "serve", "collect", "export"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: capvec {command}" in capsys.readouterr().out


def test_the_doctor_exits_with_1_when_something_is_missing(capsys):
    assert main(["doctor"]) == 1
    assert "MISSING  container engine" in capsys.readouterr().out


def test_the_doctor_exits_with_0_when_nothing_is(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_CHECKS", {"Python": lambda: (True, "3.11.2", "")})
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok       Python  3.11.2\n"


def test_setup_stops_with_one_line_where_the_named_engine_does_not_answer(capsys):
    assert NOWHERE in refusal(capsys, "setup")


def test_serve_refuses_a_model_that_is_not_there_before_it_starts_anything(capsys, tmp_path):
    assert "/no/such/model" in refusal(capsys, "serve", "--model", "/no/such/model")
    assert list(tmp_path.iterdir()) == []


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
    assert "traces is not empty" in refusal(capsys, "collect", "--out", "traces")


def test_collect_without_an_engine_says_so(capsys, tmp_path):
    assert "no container engine answers" in refusal(capsys, "collect", "--out", "traces")
    assert not (tmp_path / "traces").exists()


def test_ctrl_c_ends_without_a_traceback(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "_CHECKS", {"Python": interrupt})
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == ""
