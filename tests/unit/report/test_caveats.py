"""What the report says that the numbers do not show."""

import json

import pytest
from support.recorded_run import write_recorded

pytestmark = pytest.mark.unit


def test_the_caveat_on_several_configs_names_what_is_corrected(tmp_path):
    write_recorded(tmp_path / "r")
    caveats = json.loads((tmp_path / "r" / "summary.json").read_text())["caveats"]
    (said,) = [caveat for caveat in caveats if "configs were compared" in caveat]
    assert said.startswith("9 configs")
    assert "after Holm" in said
    assert f"- {said}" in (tmp_path / "r" / "RESULTS.md").read_text()
