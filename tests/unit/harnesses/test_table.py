"""Tables of trials, whichever way they are stored and their columns are called."""

from __future__ import annotations

import csv
import json
import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.harnesses import Reading, parse_columns, read_source, source_of_frame

pytestmark = pytest.mark.unit

PARQUET = "Parquet: pip install 'capvec[parquet]'"
ROWS = [
    {"task": "a", "config": "baseline", "attempt": 1, "outcome": "solved", "steps": 3},
    {"task": "a", "config": "steered", "attempt": 1, "outcome": "unsolved", "steps": 4},
    {"task": "b", "config": "steered", "attempt": 1, "outcome": "error", "steps": None},
]


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolons", "lines", "list", "frame"])
def test_a_table_says_the_same_in_every_form(tmp_path, form):
    frame = pd.DataFrame(ROWS)
    file = tmp_path / ("trials.tsv" if form == "tsv" else "trials.csv" if form in ("csv", "semicolons") else "trials")
    if form in ("csv", "tsv", "semicolons"):
        frame.to_csv(file, index=False, sep={"csv": ",", "tsv": "\t", "semicolons": ";"}[form])
    elif form == "lines":
        file.write_text("\n".join(map(json.dumps, ROWS)))
    elif form == "list":
        file.write_text(json.dumps(ROWS))
    source = source_of_frame(frame) if form == "frame" else read_source(file, Reading())
    assert [(one.task, one.config, one.attempt, one.outcome, one.steps) for one in source.trials] == [
        ("a", "baseline", 1, "solved", 3),
        ("a", "steered", 1, "unsolved", 4),
        ("b", "steered", 1, "error", None),
    ]
    assert source.errors_apart is True  # one is an error


def test_parquet_is_read_through_pyarrow(tmp_path):
    pytest.importorskip("pyarrow", reason=PARQUET)
    file = tmp_path / "trials"
    pd.DataFrame(ROWS).to_parquet(file)
    assert [one.outcome for one in read_source(file, Reading()).trials] == ["solved", "unsolved", "error"]


@pytest.mark.parametrize("noted", ["{}", "[]", "x", '{"index_columns": ["gone"], "columns": [], "column_indexes": []}'])
def test_what_pandas_notes_in_parquet_has_no_part_in_its_reading(tmp_path, noted):
    pyarrow = pytest.importorskip("pyarrow", reason=PARQUET)
    parquet = pytest.importorskip("pyarrow.parquet", reason=PARQUET)
    table = pyarrow.table({name: [row[name] for row in ROWS] for name in ROWS[0]})
    parquet.write_table(table.replace_schema_metadata({"pandas": noted}), tmp_path / "trials")
    trials = read_source(tmp_path / "trials", Reading()).trials
    assert [(one.task, one.outcome, one.steps) for one in trials] == [
        ("a", "solved", 3),
        ("a", "unsolved", 4),
        ("b", "error", None),
    ]


def test_a_table_without_columns_is_said_to_have_none():
    with pytest.raises(UsageError, match=r"no column for the task .*; it has no columns; expected one of task,"):
        source_of_frame(pd.DataFrame())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"task": [["a"], ["b"]]}, r"column task is of type list<.*>; expected texts, numbers, or true and false"),
        ({"task": [{"a": 1}, {"a": 2}]}, r"column task is of type struct<.*>; expected"),
        ({"task": [b"a", b"b"]}, r"column task is of type .*binary.*; expected"),
        ({}, r"no column for the task"),
    ],
)
def test_a_used_column_of_parquet_has_one_plain_value_in_each_row(tmp_path, columns, said):
    pyarrow = pytest.importorskip("pyarrow", reason=PARQUET)
    parquet = pytest.importorskip("pyarrow.parquet", reason=PARQUET)
    parquet.write_table(pyarrow.table(columns | {"outcome": [1, 0], "other": [[1], [2]]}), tmp_path / "trials")
    with pytest.raises(UsageError, match=said):
        read_source(tmp_path / "trials", Reading())


@given(st.binary(max_size=100), st.integers(0, 10_000))
def test_a_damaged_parquet_file_is_read_or_refused_in_one_sentence(tmp_path_factory, noise, place):
    pytest.importorskip("pyarrow", reason=PARQUET)
    file = tmp_path_factory.mktemp("table") / "trials"
    pd.DataFrame(ROWS).to_parquet(file)
    data = bytearray(file.read_bytes())
    start = 4 + place % (len(data) - 8)
    data[start : start + len(noise)] = noise[: len(data) - 4 - start]
    file.write_bytes(data)
    try:
        read_source(file, Reading())
    except UsageError as error:
        assert str(error).startswith(str(file))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017


def test_without_pyarrow_the_message_says_how_to_install_it(tmp_path):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        file = tmp_path / "trials.parquet"
        file.write_bytes(b"PAR1" + bytes(16) + b"PAR1")
        with pytest.raises(UsageError, match=r"pip install 'capvec\[parquet\]'"):
            read_source(file, Reading())


@pytest.mark.parametrize(
    ("written", "outcome"),
    [
        *((word, "solved") for word in ("solved", "PASS", "TRUE", True, 1, 1.5, "1.0", "yes", "resolved")),
        *((word, "unsolved") for word in ("unsolved", "failed", False, 0, "0.0", "no", 0.5)),
        *((word, "error") for word in ("error", "crashed", "", None, float("nan"))),
    ],
)
def test_an_outcome_is_a_word_or_a_number_and_one_that_is_not_there_is_an_error(written, outcome):
    frame = pd.DataFrame({"task": ["a"], "config": ["x"], "outcome": pd.Series([written], dtype=object)})
    (trial,) = source_of_frame(frame).trials
    assert (trial.outcome, bool(trial.error)) == (outcome, outcome == "error")


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_reward_is_solved_from_the_threshold_on(reward, threshold):
    frame = pd.DataFrame({"task": ["a"], "config": ["x"], "score": [reward]})
    (trial,) = source_of_frame(frame, Reading(solved_at=threshold)).trials
    assert (trial.outcome == "solved", trial.reward) == (reward >= threshold, reward)


def test_columns_can_be_named():
    frame = pd.DataFrame({"problem": ["a"], "arm": ["x"], "won": [1], "turns": [7]})
    columns = parse_columns("task=problem, config=arm,outcome=won,steps=turns")
    (trial,) = source_of_frame(frame, Reading(columns)).trials
    assert (trial.task, trial.config, trial.outcome, trial.steps) == ("a", "x", "solved", 7)


@pytest.mark.parametrize(
    ("frame", "columns", "said"),
    [
        ({"arm": ["x"], "outcome": [1]}, {}, "--columns task=NAME"),
        ({"task": ["a"], "arm": ["x"]}, {}, "--columns outcome=NAME"),
        ({"task": ["a"], "outcome": [1]}, {"config": "arm"}, "no such column; it has task, outcome"),
        ({"task": ["a"], "outcome": ["perhaps"]}, {}, "row 1: column outcome is 'perhaps'"),
        ({"task": ["a"], "outcome": [1], "steps": ["few"]}, {}, "column steps is 'few'"),
        ({"task": ["a"], "outcome": [1], "attempt": [1.5]}, {}, "a whole number"),
        ({"task": [""], "outcome": [1]}, {}, "the name of a task"),
        ({"task": [], "outcome": []}, {}, "no row"),
        ({"task": ["a"], "outcome": [1], **{f"c{n}": [1] for n in range(999)}}, {}, "1,001 columns; expected at most"),
        ({f"c{n}": [1] for n in range(500)}, {}, "c19 and 480 more; expected one of"),
    ],
)
def test_what_is_missing_or_wrong_is_named(frame, columns, said):
    with pytest.raises(UsageError) as refused:
        source_of_frame(pd.DataFrame(frame), Reading(columns))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "not a table"),
        ("a.csv", "\n" * 50, "not a table"),
        ("a.csv", '""\n', "expected the names of columns"),
        ("a.csv", "task,config,outcome,outcome\na,x,1,0\n", "the column 'outcome' is there twice"),
        ("a.csv", "task,outcome," + ",".join(f"c{n}" for n in range(2000)) + "\na,1\n", "2,002 columns"),
        ("a.csv", ",".join(f"c{n}" for n in range(300_000)), "its first line is longer than 64 KiB"),
        ("a.jsonl", "".join(f'{{"task": "a", "outcome": 1, "c{n}": 1}}\n' for n in range(9000)), "9,002 columns"),
    ],
    ids=[
        "empty",
        "empty lines",
        "an empty cell",
        "one name twice",
        "columns",
        "a long first line",
        "an own column in each row",
    ],
)
def test_a_file_of_no_table_or_of_one_too_wide_is_refused_quickly(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    began = time.process_time()
    with pytest.raises(UsageError) as refused:
        read_source(tmp_path / name, Reading())
    assert said in str(refused.value)
    assert time.process_time() - began < 5
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize(
    "others", [[], ["cost (a; b, c | d)"], ["x,y;z|w\tv", "a;b;c;d;e", "1|2|3|4|5|6", "a,b,c,d,e,f"]]
)
def test_the_separator_is_the_one_that_makes_the_names_of_columns(tmp_path, separator, others):
    with (tmp_path / "a.csv").open("w", newline="") as file:
        rows = [[*others, "task", "outcome"], [*others, "a", "solved"]]
        csv.writer(file, delimiter=separator).writerows(rows)
    (trial,) = read_source(tmp_path / "a.csv", Reading()).trials
    assert (trial.task, trial.outcome) == ("a", "solved")


def test_rows_that_end_in_a_separator_are_not_shifted(tmp_path):
    (tmp_path / "a.csv").write_text("id,task,outcome,steps\n1,a,0,1,\n2,b,1,0,\n\n")
    trials = read_source(tmp_path / "a.csv", Reading()).trials
    assert [(one.task, one.outcome, one.steps) for one in trials] == [("a", "unsolved", 1), ("b", "solved", 0)]


@pytest.mark.parametrize(
    ("rows", "number", "line", "cells"),
    [
        ("1,a,0,1\n2,b, or c,1,0\n", 2, 3, 5),
        ("1,a,0,1,\n2,b, or c,1,0\n", 1, 2, 5),
        ("1,a,0,1,\n2,b,1,0\n", 1, 2, 5),  # in one row alone, it may be that an empty cell was shifted there
        ("1,a,0,1,,\n2,b,1,0,,\n", 1, 2, 6),
        ("1,a,0,1\n2,b,1,0\n3,c,1,1,x\n", 3, 4, 5),
        ("1,a,0,1\n2,b,1\n", 2, 3, 3),
        ('1,"a\nb",0,1\n\n2,b\n', 2, 5, 2),
    ],
)
def test_a_row_with_more_or_fewer_cells_than_the_header_is_refused_by_its_line(tmp_path, rows, number, line, cells):
    (tmp_path / "a.csv").write_text("id,task,outcome,steps\n" + rows)
    with pytest.raises(UsageError, match=rf"row {number} \(line {line}\): {cells} cells; expected 4, .* in quotes"):
        read_source(tmp_path / "a.csv", Reading())


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3), min_size=1))
def test_whatever_tasks_are_called_each_row_stays_in_its_columns(tmp_path_factory, names):
    file = tmp_path_factory.mktemp("table") / "a.csv"
    tasks = ["x" + "".join(name) for name in names]
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("task", "config", "outcome"), *((task, "x", "solved") for task in tasks)])
    trials = read_source(file, Reading()).trials
    assert [(one.task, one.outcome) for one in trials] == [(task.strip(), "solved") for task in tasks]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (
            {"score": [1, 0], "passed": [True, True]},
            r"row 2: score is 0 \(unsolved\) and passed is .*True",
        ),
        ({"outcome": ["solved", "unsolved"], "success": [1, 1]}, r"row 2: outcome is 'unsolved' .* success is 1"),
        ({"outcome": ["pass", "fail"], "resolved": ["no", "no"]}, r"row 1: .*; say .* --columns outcome=resolved"),
        ({"reward": [0.5, 1.0], "success": [1, 1]}, "row 1: reward is 0.5"),
    ],
)
def test_columns_that_contradict_each_other_are_refused_unless_one_is_named(cells, said):
    frame = pd.DataFrame({"task": ["a", "b"], "config": ["x", "x"]} | cells)
    with pytest.raises(UsageError, match=said):
        source_of_frame(frame)
    *_, last = cells
    named = source_of_frame(frame, Reading({"outcome": last}))
    assert [one.outcome for one in named.trials] == [
        "solved" if one in (1, True) else "unsolved" for one in cells[last]
    ]


@pytest.mark.parametrize(
    "cells",
    [
        {"outcome": ["solved", "unsolved"], "score": [0.7, 0.9]},  # a score is a part of what the outcome says
        {"outcome": ["solved", "error"], "passed": [True, False]},
        {"score": [1.0, 0.0], "passed": [True, None]},
        {"success": ["yes", "no"], "passed": [1, 0]},
    ],
)
def test_columns_that_agree_or_are_empty_are_taken(cells):
    frame = pd.DataFrame({"task": ["a", "b"], "config": ["x", "x"]} | cells)
    assert source_of_frame(frame).trials[0].outcome == "solved"


def test_why_the_instrument_failed_makes_an_error_of_whatever_reward_stands_beside_it():
    frame = pd.DataFrame({"task": ["a", "b"], "config": ["x", "x"], "reward": [0, 1], "error": ["docker died", None]})
    failed, judged = source_of_frame(frame).trials
    assert (failed.outcome, failed.error, failed.reward) == ("error", "docker died", None)
    assert (judged.outcome, judged.error) == ("solved", "")


def test_an_outcome_beside_an_error_is_refused_unless_it_is_said_to_count():
    frame = pd.DataFrame({"task": ["a"], "config": ["x"], "outcome": ["unsolved"], "error": ["docker died"]})
    with pytest.raises(UsageError, match=r"row 1: outcome is 'unsolved', and error, .* is 'docker died'; .* --columns"):
        source_of_frame(frame)
    (trial,) = source_of_frame(frame, Reading({"outcome": "outcome"})).trials
    assert (trial.outcome, trial.error) == ("unsolved", "")


def test_an_error_beside_the_reward_of_a_solved_trial_is_refused_unless_the_reward_is_said_to_count():
    frame = pd.DataFrame({"task": ["a"], "config": ["x"], "passed": [True], "error": ["docker died"]})
    with pytest.raises(UsageError, match=r"row 1: passed is True, and error, .* is 'docker died'; .* reward=passed"):
        source_of_frame(frame)
    (trial,) = source_of_frame(frame, Reading({"reward": "passed"})).trials
    assert (trial.outcome, trial.error) == ("solved", "")


@pytest.mark.parametrize("none", [False, "false", "no", "null", 0, "0 ", "", None], ids=repr)
@pytest.mark.parametrize("column", [{"outcome": ["solved"]}, {"passed": [1]}])
def test_a_cell_that_says_that_nothing_failed_makes_no_error(none, column):
    frame = pd.DataFrame({"task": ["a"], "config": ["x"], "error": pd.Series([none], dtype=object)} | column)
    (trial,) = source_of_frame(frame).trials
    assert (trial.outcome, trial.error) == ("solved", "")


COUNTS = st.none() | st.integers(0, 6)


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_there_are_no_more_replies_of_a_kind_than_replies(steps, parse_fail, no_cmd, repaired):
    counts = {"steps": steps, "parse_fail": parse_fail, "no_cmd": no_cmd, "repaired": repaired}
    frame = pd.DataFrame([{"task": "a", "config": "x", "outcome": 1} | counts], dtype=object)
    bad = (parse_fail or 0) + (no_cmd or 0), (parse_fail or 0) + (repaired or 0)
    if steps is not None and max(bad) > steps:
        with pytest.raises(UsageError, match=rf"row 1: .* is \d, and steps is {steps}; expected no more"):
            source_of_frame(frame)
    else:
        (trial,) = source_of_frame(frame).trials
        assert {name: getattr(trial, name) for name in counts} == counts


@pytest.mark.parametrize(
    ("cells", "scale"),
    [
        ({"score": [0, 40, 100]}, ("column score", 0, 100)),
        ({"outcome": ["1", 35.5, 0]}, ("column outcome", 0, 35.5)),
        ({"passed": [True, False, None]}, ("column passed", 0, 1)),
        ({"outcome": ["solved", None, 80], "score": [90, 7, 3]}, ("column outcome", 7, 80)),  # two of them count
        ({"outcome": ["solved", "unsolved", "error"], "score": [90, 80, 70]}, None),
    ],
)
def test_the_numbers_that_decide_have_a_scale(cells, scale):
    frame = pd.DataFrame(
        {"task": list("abc"), "config": "x"} | {name: pd.Series(v, dtype=object) for name, v in cells.items()}
    )
    found = source_of_frame(frame).scale
    assert (None if found is None else (found.name, found.low, found.high)) == scale


@pytest.mark.parametrize("text", ["task", "task=", "=x", "speed=x", "task=a,task=b", "task=a, steps=c,task=a"])
def test_a_bad_column_is_refused(text):
    with pytest.raises(UsageError, match="--columns"):
        parse_columns(text)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_blanks_around_the_names_of_columns_are_no_part_of_them(tmp_path, separator):
    rows = [[" task", "config ", " outcome "], ["a", "baseline", "solved"], ["a", " steered", "no"]]
    (tmp_path / "trials.csv").write_text("\n".join(separator.join(row) for row in rows))
    frame = pd.DataFrame(rows[1:], columns=rows[0])
    for source in (read_source(tmp_path / "trials.csv", Reading()), source_of_frame(frame)):
        assert [(one.config, one.outcome) for one in source.trials] == [
            ("baseline", "solved"),
            ("steered", "unsolved"),
        ]


@pytest.mark.parametrize("field", ["task", "config"])
@pytest.mark.parametrize("value", [["a"], {"name": "a"}, []])
def test_a_name_is_no_list_and_no_object(tmp_path, field, value):
    row = {"task": "a", "config": "baseline", "outcome": "solved", field: value}
    (tmp_path / "trials.json").write_text(json.dumps([row]))
    for read in (
        lambda: read_source(tmp_path / "trials.json", Reading()),
        lambda: source_of_frame(pd.DataFrame([row])),
    ):
        with pytest.raises(UsageError, match=f"row 1: column {field} is .*expected a text or a number"):
            read()


def test_attempts_are_numbered_in_each_row_or_in_none():
    rows = [{"task": "a", "config": "baseline", "outcome": "solved", "attempt": n} for n in (1, None, 2)]
    with pytest.raises(UsageError, match=r"row 2: column attempt is empty; expected a number in each row, or in none"):
        source_of_frame(pd.DataFrame(rows))
    none = source_of_frame(pd.DataFrame(rows).assign(attempt=None))
    assert [one.attempt for one in none.trials] == [None] * 3


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_table_that_is_not_in_utf_8_is_refused_with_what_to_do(tmp_path, encoding):
    (tmp_path / "trials.csv").write_bytes("task,config,outcome\nä,baseline,solved\n".encode(encoding))
    with pytest.raises(UsageError, match=r"trials\.csv: not in UTF-8 .* save it as CSV in UTF-8"):
        read_source(tmp_path / "trials.csv", Reading())


def test_without_an_outcome_the_columns_that_would_do_are_all_named():
    with pytest.raises(UsageError, match="it has task, config, pass; expected one of outcome, reward, score, success"):
        source_of_frame(pd.DataFrame([{"task": "a", "config": "baseline", "pass": 1}]))
