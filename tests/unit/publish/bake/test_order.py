"""The options of `capvec bake`: what is accepted, and which option a refusal names."""

from __future__ import annotations

import pytest

from capvec.commands.main import main
from capvec.errors import UsageError
from capvec.publish.bake.order import parse_order

pytestmark = pytest.mark.unit


@pytest.fixture
def asked(tmp_path):
    (tmp_path / "dir.pt").touch()
    return {
        "model": "pocket",
        "direction": str(tmp_path / "dir.pt"),
        "layer": "22+26",
        "op": "add",
        "alpha": "1.5",
        "alpha_unit": "stored",
        "out": str(tmp_path / "out"),
    }


def test_an_order_names_layers_with_a_plus(asked):
    order = parse_order(asked)
    assert (order.layers, order.alpha, order.op) == ((22, 26), 1.5, "add")
    assert "after block 22 and 26" in order.in_words()


def test_an_ablation_says_that_it_is_not_the_sweeps(asked):
    said = parse_order(asked | {"op": "ablate", "alpha": None, "layer": "22"}).in_words()
    assert "every write" in said
    assert "a sweep's --op ablate" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"op": "swap"}, "--op 'swap'"),
        ({"op": "set"}, "--op set cannot be baked"),
        ({"layer": "auto"}, "--layer 'auto'"),
        ({"layer": "22+22"}, "named twice"),
        ({"alpha": None}, "needs --alpha"),
        ({"alpha": "0"}, "--alpha 0"),
        ({"alpha": "much"}, "--alpha 'much'"),
        ({"alpha_unit": "dose"}, "--alpha-unit 'dose'"),
        ({"op": "ablate", "layer": "22"}, "--alpha 1.5"),
        ({"op": "ablate", "alpha": None}, r"--layer 22\+26"),
        ({"direction": "nowhere.pt"}, "--direction nowhere.pt"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_the_options_name(asked, change, reason):
    with pytest.raises(UsageError, match=reason):
        parse_order(asked | change)


def test_the_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["bake", "--help"])
    assert stop.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "usage: capvec bake" in said
    assert all(option in said for option in ("--op", "--alpha", "--alpha-unit", "--layer", "--direction", "--out"))


def test_nothing_is_written_over(asked, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").touch()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items()]
    assert main(["bake", *arguments]) == 2
    assert "not an empty folder" in capsys.readouterr().err
