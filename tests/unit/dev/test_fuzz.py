"""The targets of the fuzzer begin from files that their readers take or refuse, as they must every mutation."""

from __future__ import annotations

import pytest

from capvec.errors import UsageError
from dev import fuzz

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_a_target_begins_from_files_of_its_kind(tmp_path, target):
    name, read = fuzz.TARGETS[target]
    taken = 0
    for seed in fuzz.seeds(target):
        (tmp_path / name).write_bytes(seed)
        try:
            read(tmp_path / name)
            taken += 1
        except UsageError as error:
            assert str(error).isprintable()  # noqa: PT017
    assert taken


def test_the_targets_are_listed(capsys):
    assert fuzz.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(fuzz.TARGETS)
