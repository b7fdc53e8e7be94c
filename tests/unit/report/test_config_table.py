"""The tables of the terminal: never wider than its lines, and no name that cannot be distinguished from another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.report.config_table import COLUMNS
from capvec.text import WIDTH, align

pytestmark = pytest.mark.unit
HEADERS = list(COLUMNS)

CELLS = ("136/136", "0.99", "0.95–1.00", "0", "12.3", "0.5", "10.1", "0.60", "<0.001")


@given(st.lists(st.text("abc-+…", max_size=120), min_size=1, max_size=6))
def test_a_table_fits_its_lines_whatever_the_names(names):
    lines = align([HEADERS, *((name, *CELLS) for name in names)])
    assert max(map(len, lines)) <= WIDTH
    assert len(set(map(len, lines))) == 1


def test_names_are_cut_in_the_middle_and_only_where_there_is_no_room():
    # The other columns take 7 + 4 + 11 + 6 + 5 + 10 + 6 + 4 + 8 characters and two before each: 79, which leaves 21.
    whole, long = "planted-reversed-L24+", "planted-reversed-L24-a0.75"
    lines = align([HEADERS, (whole, *CELLS), (long, *CELLS)])
    assert lines[1].startswith(f"{whole}  136/136")
    assert lines[2].startswith("planted-re…-L24-a0.75  136/136")
    assert [line.split()[0] for line in align([("name", "n"), (long, "1")])] == ["name", long]
