"""The options of a sweep and of a calibration, as pytest has them."""

import re
import subprocess
import sys

import pytest
from support.help_texts import options_in

from capvec.plan.option_help import STUDIES, help_text, options_of
from capvec.pytest_plugin.options import given_options

pytestmark = pytest.mark.unit
pytest_plugins = ("pytester",)


def test_the_help_has_the_options_of_the_table_and_no_other_of_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    sections = re.findall(r"^capvec: .*?:\n(.*?)(?=^\S)", done.stdout, re.MULTILINE | re.DOTALL)
    shown = {name: text for section in sections for name, text in options_in(section).items()}
    assert list(shown) == [option.flag for option in options_of(*STUDIES)]
    for option in options_of(*STUDIES):
        # pytest breaks lines at hyphens too.
        assert help_text(option, *STUDIES).replace(" ", "") in shown[option.flag].replace(" ", "")
        assert (option.metavar or "") in shown[option.flag]


def test_what_was_not_typed_stays_none_and_a_switch_false(pytester):
    given = given_options(pytester.parseconfig("--alpha", "2", "--resume"))
    switches = {option.name for option in options_of(*STUDIES) if option.metavar is None}
    assert {name: value for name, value in given.items() if value} == {"alpha": "2", "resume": True}
    assert all(value is (False if name in switches else None) for name, value in given.items() if not value)


def test_an_earlier_spelling_is_accepted(pytester):
    assert given_options(pytester.parseconfig("--chosen", "s.json"))["selection"] == "s.json"
