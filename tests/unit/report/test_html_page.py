"""The page: text stays text, for any reply, and nothing is hidden without saying so."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.recorded_run import TASKS, write_recorded

from capvec.report.html.environment import environment
from capvec.report.html.viewer import LONGEST_TEXT, embed
from capvec.report.section import Bullets, Code, Column, Link, Markdown, Paragraph, Strong, Table
from capvec.results.run_folder import read_run_folder
from capvec.text import visible

pytestmark = pytest.mark.unit

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script>",
    "\u2028alert(1)\u2029",
    "</textarea></style><style>*{display:none}</style>",
    '"><a href="javascript:alert(1)" onclick=alert(1)>',
    "]]>\x00\ud800",
)


class Reader(HTMLParser):
    """What a browser's parser makes of a page: its tags, its text, and the text of its scripts."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.scripts, self.said, self._in_script = [], [], [], False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data):
        self.said.append(data)
        if self._in_script:
            self.scripts.append(data)


def drawn(block):
    """A block as HTML."""
    template = environment().from_string('{% import "text.html" as draw with context %}{{ draw.block(block, ()) }}')
    return template.render(block=block)


@given(st.text() | st.sampled_from(HOSTILE))
def test_text_never_becomes_markup_and_is_shown_as_it_is_or_as_escapes_where_it_cannot_be_seen(text):
    block = Table((Column(text), Column("n", "right")), (((text, Code(text)), Strong(text)), (Markdown(text), text)))
    found = {tag for tag, _ in Reader(drawn(block)).tags}
    assert found <= {"div", "table", "thead", "tbody", "tr", "th", "td", "code", "strong", "em"}
    for block, tags, shown in (
        (Paragraph((Link("a", text), text)), ["p", "a"], 2 * visible(text)),
        (Bullets((Code(text), (text, Strong(text)))), ["ul", "li", "code", "li", "strong"], 3 * visible(text)),
    ):
        read = Reader(drawn(block))
        assert [tag for tag, _ in read.tags] == tags
        assert "".join(read.said) == shown


@given(st.text() | st.sampled_from(HOSTILE))
def test_data_in_a_script_cannot_end_it(text):
    found = environment().from_string("{{ data | tojson }}").render(data=[text, {text: text}])
    assert "<" not in found
    assert json.loads(found) == [text, {text: text}]


def test_sentences_on_record_become_html_through_a_library():
    said = drawn(Paragraph(Markdown("from `a*b` **bold** [x](http://y) <b> 2 * 3")))
    assert said == "<p>from <code>a*b</code> <strong>bold</strong> [x](http://y) &lt;b&gt; 2 * 3</p>"


def test_a_table_is_a_table_with_its_numbers_flush_right():
    html = drawn(Table((Column("config"), Column("rate", "right")), (("b|c", "0.5"),)))
    assert '<th scope="col" class="n">rate</th>' in html
    assert '<th scope="row">b|c</th><td class="n">0.5</td>' in html
    assert 'aria-label="config, rate" tabindex="0"' in html


def test_no_asterisk_of_the_report_reaches_the_page(page):
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert '<a href="#robustness">Robustness</a>' in shown
    assert "*" not in shown


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Every reply holds all of the hostile texts."""
    folder = tmp_path_factory.mktemp("html") / "r"
    write_recorded(folder, say=lambda spec, step: f"{spec.config} {step} {''.join(HOSTILE)}")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_hostile_reply_is_data_and_nothing_else(page):
    read = Reader(page)
    scripts = [attributes for tag, attributes in read.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "trials"}, {}]
    assert not [attributes for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert not {"img", "iframe", "object", "link", "base", "form"} & {tag for tag, _ in read.tags}
    assert all(attributes["href"].startswith("#") for tag, attributes in read.tags if tag == "a")
    data = json.loads(read.scripts[0])
    assert data["trials"][0]["steps"][0]["reply"].endswith("".join(HOSTILE))


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else(page):
    policy = next(
        attributes["content"]
        for tag, attributes in Reader(page).tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )

    def digest(text):
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    script, style = re.findall(r"<script>(.*?)</script>", page, re.S), re.findall(r"<style>(.*?)</style>", page, re.S)
    assert (len(script), len(style)) == (1, 1)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'", "script-src": digest(script[0]), "style-src": digest(style[0]), "base-uri": "'none'",
        "form-action": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'",
    }  # fmt: skip
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert sink not in script[0]


def test_the_page_has_every_section_and_its_charts(page):
    read = Reader(page)
    idents = [attributes["id"] for tag, attributes in read.tags if tag == "section"]
    assert idents == [
        "error-difference", "verdict", "interpretation", "method", "results", "pass-at-k", "dose-response",
        "robustness", "controls", "task-families", "task-by-config", "direction", "contrast", "caveats", "receipts",
        "gates", "errors", "trajectories",
    ]  # fmt: skip
    figures = {attributes["id"] for tag, attributes in read.tags if tag == "figure"}
    assert {"chart-pass-rate", "chart-dose-response", "chart-auc-by-layer", "chart-matched-controls"} <= figures
    every = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    assert len(every) == len(set(every))
    labelled = [attributes["aria-labelledby"].split() for _, attributes in read.tags if "aria-labelledby" in attributes]
    assert {name for names in labelled for name in names} <= set(every)


def test_a_mark_of_the_matrix_leads_to_its_trial(page):
    links = [attributes for tag, attributes in Reader(page).tags if tag == "a" and "aria-label" in attributes]
    assert len(links) == 60  # 10 configs × 3 tasks × 2 attempts
    wanted = "task2, zero-L1, attempt 2: "
    (link,) = [one for one in links if one["aria-label"].startswith(wanted)]
    assert link["href"] == "#trial/task2/2/baseline/zero-L1"


def test_long_texts_are_cut_in_the_middle_and_the_page_says_so(tmp_path):
    long = "a" * LONGEST_TEXT + "b"
    write_recorded(tmp_path / "r", say=lambda *_: long, keep=lambda spec: spec.attempt == 1, finished=False)
    embedded = embed(tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes)
    reply = embedded.trials[0]["steps"][0]["reply"]
    assert reply == f"{'a' * 2000}\n[… 1 characters left out …]\n{'a' * 1999}b"
    steps = sum(len(trial["steps"]) for trial in embedded.trials)
    assert embedded.cut == steps
    assert f"{steps} texts are longer" in embedded.in_words()


def test_a_thought_is_in_the_page_beside_the_reply(tmp_path):
    plan = write_recorded(tmp_path / "r", finished=False)
    path = plan.trajectory(plan.trials[0].id)
    document = json.loads(path.read_text())
    next(step for step in document["steps"] if "llm_call_count" in step)["reasoning_content"] = "I look."
    path.write_text(json.dumps(document))
    embedded = embed(tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes)
    assert {step["thought"] for trial in embedded.trials for step in trial["steps"]} == {"", "I look."}


def test_a_later_instruction_of_a_task_stands_with_the_reply_to_it_and_not_in_the_opening(tmp_path):
    plan = write_recorded(tmp_path / "r", finished=False)
    path = plan.trajectory(plan.trials[0].id)
    document = json.loads(path.read_text())
    document["steps"].insert(-1, {"source": "user", "message": "Now the next."})
    path.write_text(json.dumps(document))
    embedded = embed(tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes)
    shown = [step.get("instruction") for trial in embedded.trials for step in trial["steps"]]
    assert shown.count("Now the next.") == 1
    assert set(shown) == {None, "Now the next."}
    assert "Now the next." not in embedded.openings


def test_too_many_trials_are_left_out_pair_by_pair_and_counted(tmp_path):
    write_recorded(tmp_path / "r", finished=False)
    folder, outcomes = tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes
    everything = embed(folder, outcomes)
    half = embed(folder, outcomes, largest=len(json.dumps(everything.trials)) // 2)
    assert len(half.trials) + half.too_much == len(everything.trials) == 60
    groups = {(trial["task"], trial["attempt"]) for trial in half.trials}
    assert len(half.trials) == 10 * len(groups)
    assert (TASKS[0].name, 1) in groups
    assert f"{half.too_much} trials are left out" in half.in_words()


def test_a_trial_without_a_readable_trajectory_is_counted(tmp_path):
    write_recorded(tmp_path / "r", finished=False)
    folder, outcomes = tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes
    (folder / f"{outcomes[0].trial}.json").write_text("{")
    (folder / f"{outcomes[1].trial}.json").unlink()
    embedded = embed(folder, outcomes)
    assert (len(embedded.trials), embedded.absent) == (58, 2)
    assert embedded.lost == (outcomes[0].trial, outcomes[1].trial)
    [said] = embedded.lost_in_words(folder)
    assert said.startswith("the trajectories of 2 judged trials are missing or cannot be read")
    assert f"{outcomes[0].trial}.json" in said
    assert "2 trials on record" in embedded.in_words()


def test_a_page_that_is_full_reads_no_more_trajectories_and_counts_those_that_are_whole(tmp_path):
    write_recorded(tmp_path / "r", finished=False, attempts=8)
    folder, outcomes = tmp_path / "r" / "trajectories", read_run_folder(tmp_path / "r").outcomes
    pair = [one for one in outcomes if (one.task, one.attempt) == (TASKS[0].name, 1)]
    # Of 24 (task, attempt)s two fit, the next 20 do not, and the last two are not read.
    (folder / f"{outcomes[-1].trial}.json").write_text("{")
    (folder / f"{outcomes[-2].trial}.json").unlink()
    embedded = embed(folder, outcomes, largest=int(2.5 * len(json.dumps(embed(folder, pair).trials))))
    assert (len(embedded.trials), embedded.too_much, embedded.absent) == (20, 218, 2)
