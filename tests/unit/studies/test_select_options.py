"""The options of `python -m capvec.studies.calibration.select`."""

import pytest
from support.help_texts import options_in

from capvec.plan.option_help import help_text, options_of
from capvec.studies.calibration.select import main

pytestmark = pytest.mark.unit


def test_the_help_has_the_options_of_the_table_and_no_other(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = options_in(capsys.readouterr().out)
    assert list(shown) == ["--help", *(option.flag for option in options_of("select"))]
    for option in options_of("select"):
        assert help_text(option, "select").replace(" ", "") in shown[option.flag].replace(" ", "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--layer", "auto"), "--layer 'auto'"),
        (("--format-layer", "auto"), "--format-layer 'auto'"),
        (("--layer", "1+2"), "--layer '1+2'"),
        (("--format-layer", "x"), "--format-layer 'x'"),
        (("--format-alpha", "0"), "--format-alpha '0'"),
        (("--jobs", "0"), "--jobs '0'"),
        (("--resume",), "--resume needs --run"),
    ],
)
def test_a_bad_option_is_one_line_with_its_name_and_exit_code_2(arguments, named, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")  # nothing answers: a case that passed would end here
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"capvec: {named}")
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
