"""The questions of a battery: how they are read, what the bundled ones are, and when an answer is right."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.battery import load_items
from capvec.battery.items import LETTERS, Item, normalised
from capvec.errors import UsageError
from dev.battery import EACH, FILE, GENERATED, UNITS, text

pytestmark = pytest.mark.unit


def written(folder, *lines):
    path = folder / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_the_bundled_battery_is_what_its_generator_writes():
    assert FILE.read_text(encoding="utf-8") == text()


def test_the_bundled_battery_has_ten_categories_of_thirty_items_and_no_letter_is_right_too_often():
    items = load_items("general")
    assert set(Counter(item.category for item in items).values()) == {EACH}
    assert len(items) == (len(GENERATED) + 2) * EACH == 300
    assert len({item.question + str(item.choices) for item in items}) == 300
    four = Counter(item.answer for item in items if len(item.choices) == 4)
    assert max(four.values()) < 0.4 * sum(four.values())


def right_by_hand(item: Item) -> str | None:
    """The right answer of a generated item, found in another way than its generator does."""
    asked = item.question
    if found := re.fullmatch(r"What is (\d+) (\+|-|times) (\d+)\?", asked):
        return str(eval(f"{found[1]} {found[2].replace('times', '*')} {found[3]}"))
    if found := re.fullmatch(r"Which number is the (largest|smallest)\?", asked):
        return sorted(item.choices, key=int)[-1 if found[1] == "largest" else 0]
    if found := re.fullmatch(r"How many (\w+) are (\d+) (\w+)\?", asked):
        return str(int(found[2]) * {(large, small): factor for large, small, factor in UNITS}[found[3], found[1]])
    if found := re.fullmatch(r'What is the (first|last) letter of the word "(\w+)"\?', asked):
        return found[2][:1] if found[1] == "first" else found[2][-1:]
    if asked == "Which word has more letters?":
        return sorted(item.choices, key=len)[-1]
    if asked.startswith("Which word comes first"):
        return sorted(item.choices)[0]
    if found := re.match(r"(\w+) is taller than (\w+), and \2 is taller than (\w+)\. Who is the (\w+)\?", asked):
        return found[1] if found[4] == "tallest" else found[3]
    if found := re.fullmatch(r"Which number comes next: (\d+), (\d+), (\d+), (\d+)\?", asked):
        return str(2 * int(found[4]) - int(found[3]))
    return None


def test_every_generated_answer_is_right_and_the_only_right_one():
    checked = 0
    for item in load_items("general"):
        if (answer := right_by_hand(item)) is not None:
            checked += 1
            assert (item.choices[item.answer] if item.choices else item.answers[0]) == answer
            assert item.choices.count(answer) <= 1
    assert checked == len(GENERATED) * EACH


def test_items_of_a_file_and_of_a_folder_are_read_in_order_and_a_limit_takes_them_evenly(tmp_path):
    path = written(
        tmp_path,
        {"id": "a", "question": "2 + 2?", "answers": ["4", "four"]},
        {"id": "b", "question": "Sky?", "choices": ["blue", "red"], "answer": "red", "category": "colours"},
        {"id": "c", "question": "Sea?", "choices": ["blue", "red"], "answer": 0},
    )
    assert load_items(str(path)) == load_items(str(tmp_path))
    assert [item.id for item in load_items(str(path), 2)] == ["a", "b"]
    one, two, three = load_items(str(path))
    assert (one.grammar, two.grammar, two.answer, three.answer) == ("", "[AB]", 1, 0)
    assert "A. blue\nB. red" in two.prompt
    assert [two.is_right(said) for said in ("B", "A", "")] == [True, False, False]
    assert [one.is_right(said) for said in (" Four.", "**4**", "5", "4 or 5")] == [True, True, False, False]
    assert len({item.digest for item in (one, two, three)}) == 3


def test_choices_that_compete_by_their_text_are_not_shown_and_the_right_one_is_right(tmp_path):
    line = {"id": "a", "question": "The sky is", "choices": ["blue.", "A"], "answer": "blue."}
    (letter, text) = load_items(str(written(tmp_path, line | {"by": "letter"}, line | {"id": "b", "by": "text"})))
    assert (text.prompt, text.grammar, letter.grammar) == ("The sky is", "", "[AB]")
    assert [text.is_right(said) for said in ("blue.", "A", " blue.")] == [True, False, False]
    assert text.digest != letter.digest


@pytest.mark.parametrize(
    "line",
    [
        {"id": "a", "question": "q", "choices": ["x", "y"], "answer": 0, "by": "letters"},
        {"id": "a", "question": "q", "choices": ["x", "y"], "answer": 0, "by": ["text"]},
        {"id": "a", "question": "q", "answers": ["x"], "by": "text"},
        {"id": "a"},
        {"id": "", "question": "q", "answers": ["x"]},
        {"id": "a", "question": "q"},
        {"id": "a", "question": "q", "answers": []},
        {"id": "a", "question": "q", "answers": ["x"], "answer": 0},
        {"id": "a", "question": "q", "choices": ["x"], "answer": 0},
        {"id": "a", "question": "q", "choices": ["x", "y"], "answer": 2},
        {"id": "a", "question": "q", "choices": ["x", "y"], "answer": True},
        {"id": "a", "question": "q", "choices": ["x", "x"], "answer": "x"},
        {"id": "a", "question": "q", "choices": ["x", "y", "y"], "answer": 1},
        {"id": "a", "question": "q", "answers": ["x", "!"]},
        {"id": "a", "question": "q", "answers": ["x"], "solution": "x"},
        ["a"],
    ],
)
def test_a_line_that_is_no_item_is_refused_with_file_and_line(tmp_path, line):
    path = written(tmp_path, {"id": "z", "question": "q", "answers": ["x"]}, line)
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 2: .*expected"):
        load_items(str(path))


@pytest.mark.parametrize("line", ["hello", '{"id": "a",', "[", '{"id": "a", "id": "b"}'])
def test_a_line_that_is_no_json_is_refused_with_an_item_that_would_be(tmp_path, line):
    (tmp_path / "mine.jsonl").write_text(f"{line}\n")
    with pytest.raises(UsageError, match=r'mine\.jsonl, line 1: not JSON \(.*\); expected an object .*"answers"'):
        load_items(str(tmp_path / "mine.jsonl"))


def test_an_absent_an_empty_and_a_doubled_battery_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--battery nowhere: expected general, a JSONL file"):
        load_items("nowhere")
    with pytest.raises(UsageError, match="it has no item"):
        load_items(str(written(tmp_path)))
    item = {"id": "a", "question": "q", "answers": ["x"]}
    with pytest.raises(UsageError, match="two items have the id 'a'"):
        load_items(str(written(tmp_path, item, item)))


def test_a_number_that_begins_with_its_point_is_that_number(tmp_path):
    path = written(tmp_path, {"id": "a", "question": "half? \u2028 of one", "answers": [".5"]})
    path.write_text(path.read_text().replace("\\u2028", "\u2028"), encoding="utf-8")
    (item,) = load_items(str(path))
    assert [item.is_right(reply) for reply in ("0.5", ".5.", "5", "")] == [True, True, False, False]


@given(st.text())
def test_normalising_twice_changes_nothing_more_but_articles(said):
    once = normalised(said)
    assert once == once.strip()
    assert normalised(said.upper()) == normalised(said.upper().casefold())
    assert Item("a", "q", answers=(said or "x",)).is_right(said or "x")


@given(st.integers(2, len(LETTERS)), st.data())
def test_only_the_letter_of_the_right_choice_is_right(count, data):
    place = data.draw(st.integers(0, count - 1))
    item = Item("a", "q", choices=tuple(map(str, range(count))), answer=place)
    assert [letter for letter in LETTERS if item.is_right(letter)] == [LETTERS[place]]
    assert all(re.fullmatch(item.grammar, letter) for letter in LETTERS[:count])
    assert not any(re.fullmatch(item.grammar, letter) for letter in LETTERS[count:])
