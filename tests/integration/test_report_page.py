"""`report.html` in a real headless Chromium: it opens, says what it should, and runs nothing but its own script."""

import math
from itertools import pairwise

import pytest
from support.chromium import Chromium
from support.recorded_run import write_recorded

from capvec.directions.direction import Direction
from capvec.publish.export import export
from dev.browser import NAMES, find_browser

pytestmark = pytest.mark.integration

HOSTILE = (
    "</script><img src=x onerror=window.hacked=1><svg onload=window.hacked=1>",
    "<!-- <script>window.hacked=1</script>",
    "\u2028window.hacked=1\u2029",
    "</style><style>body{display:none}</style>",
    '"><a href="javascript:window.hacked=1">click</a>',
)
PHONE, DESK = 360, 1280


def say(spec, step):
    """All say the same at first; then every config says something of its own, and all of it hostile."""
    return "```bash\nls\n```" if step == 0 else f"{spec.config} says {step} {''.join(HOSTILE)}"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "r"
    write_recorded(folder, say=say)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    program = find_browser()
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed (`make test` installs Debian's as root)")
    browser = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(params=[(DESK, False), (DESK, True), (PHONE, False), (PHONE, True)], ids=str)
def opened(request, browser, page):
    width, dark = request.param
    browser.open(page, width=width, dark=dark)
    return browser, width, dark


def choose(browser, ident, value):
    """As a person chooses an entry of a select."""
    browser.ask(f"(s => {{ s.value = {value!r}; s.dispatchEvent(new Event('change')); }})({ident})")


def text(browser, selector):
    return browser.ask(f"[...document.querySelectorAll({selector!r})].map(one => one.innerText)")


def test_it_opens_with_charts_on_any_screen_without_a_complaint_or_a_request(opened):
    browser, width, dark = opened
    shown = browser.ask(
        "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')]"
        ".filter(s => s.getBoundingClientRect().width > 0).map(s => s.getBoundingClientRect().width))"
    )
    assert len(shown) >= 4
    assert all(len(widths) == 1 and 300 < widths[0] < width for widths in shown)  # one of the two is shown, and fits
    assert browser.ask("document.documentElement.scrollWidth") == width  # no scrolling sideways
    colour = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(20, 23, 27)") == dark
    ink = browser.ask("getComputedStyle(document.querySelector('svg text.label')).fill")
    assert (ink == "rgb(231, 234, 238)") == dark  # the charts follow
    assert browser.complaints == []
    assert browser.requests == []


def test_no_label_of_a_chart_runs_over_its_edge(opened):
    browser, _, _ = opened
    over = browser.ask(
        "[...document.querySelectorAll('svg')].filter(s => s.getBoundingClientRect().width > 0).flatMap(s => "
        "[...s.querySelectorAll('text')].filter(t => { const b = t.getBBox(), v = s.viewBox.baseVal; "
        "return b.x < -1 || b.x + b.width > v.width + 1 || b.y < -1 || b.y + b.height > v.height + 1; })"
        ".map(t => t.textContent))"
    )
    assert over == []


def test_nothing_that_a_model_said_runs_or_becomes_an_element(opened):
    browser, _, _ = opened
    replies = text(browser, "pre.reply")
    assert any(HOSTILE[0] in reply for reply in replies)
    assert any(HOSTILE[-1] in reply for reply in replies)
    assert browser.ask("document.querySelectorAll('#steps img, #steps svg, #steps a, #steps style').length") == 0
    assert browser.ask("getComputedStyle(document.body).display") == "block"
    assert browser.ask("typeof window.hacked") == "undefined"


def test_the_policy_stops_a_script_even_if_one_got_in(browser, page):
    browser.open(page)
    browser.ask(
        "new Promise(done => { const s = document.createElement('script');"
        "try { s.text = 'window.hacked = 1'; document.body.append(s); } catch {} setTimeout(done, 50); })"
    )
    assert browser.ask("typeof window.hacked") == "undefined"
    assert browser.complaints  # the browser said that it blocked it


def test_the_viewer_marks_where_two_configs_part(browser, page):
    browser.open(page)
    assert text(browser, "#steps .pair h4")[:2] == ["Step 1", "Step 2: they diverge here, the replies differ"]
    assert "step 2: the replies differ" in text(browser, "#comparison")[0]
    assert text(browser, "#steps .parting .who") == ["baseline", "steered-L1-a2"]
    assert text(browser, "#steps mark") == []  # nothing common comes before what differs
    choose(browser, "left", "random1-L1-a2")
    choose(browser, "right", "random2-L1-a2")
    assert [mark.split(" ")[0] for mark in text(browser, "#steps mark")] == ["1-L1-a2", "2-L1-a2"]


def test_the_viewer_switches_task_attempt_and_configs(browser, page):
    browser.open(page)
    choose(browser, "task", "task1")
    choose(browser, "attempt", "2")
    choose(browser, "right", "negated-L1-a4")
    replies = text(browser, "#steps .parting pre.reply")
    assert [reply.split(" says ")[0] for reply in replies] == ["baseline", "negated-L1-a4"]
    assert browser.ask("document.querySelector('#steps details').innerText").startswith("Prompt of both")
    assert "Do task1." in browser.ask("document.querySelector('#steps details').textContent")
    choose(browser, "left", "negated-L1-a4")
    assert "identical" in text(browser, "#comparison")[0]
    assert browser.ask("jump.disabled") is True
    assert browser.complaints == []


def test_a_mark_of_the_matrix_opens_its_trial(browser, page):
    browser.open(page)
    browser.ask("document.querySelector('[aria-label^=\"task2, steered-L1-a4, attempt 2\"]').click()")
    browser.wait_for("task.value === 'task2'")
    assert browser.ask("[task, attempt, left, right].map(s => s.value)") == ["task2", "2", "baseline", "steered-L1-a4"]
    assert browser.ask("document.getElementById('trajectories').getBoundingClientRect().top") < 200


def test_a_link_that_means_nothing_changes_nothing(browser, page):
    browser.open(page)
    for place in ("#trial/none/1/baseline/zero-L1", "#trial/task0/1/baseline", "#trial/%E0%A4%A/1/a/b", "#x"):
        browser.ask(f"location.hash = {place!r}")
    browser.ask("new Promise(done => setTimeout(done, 50))")
    assert browser.ask("task.value") == "task0"
    assert browser.complaints == []


def test_the_viewer_works_from_the_keyboard(browser, page):
    browser.open(page)
    browser.ask("document.getElementById('after').focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask("task.value") == "task1"
    browser.ask("task.focus()")
    browser.press("ArrowDown", 40)
    assert browser.ask("task.value") == "task2"
    browser.ask("jump.focus()")
    browser.press("Enter", 13, "\r")
    assert browser.ask("document.activeElement.id") == "parting"


@pytest.mark.parametrize(
    "name", ["matrix", "pass-rate", "difference", "dose-response", "matched-controls", "auc-by-layer"]
)
def test_a_chart_as_a_file_of_its_own_opens_with_every_text_inside(browser, page, name):
    browser.open(page.parent / "plots" / f"{name}.svg")
    over = browser.ask(
        "(all => [...document.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect(); "
        "return b.left < all.left - 1 || b.right > all.right + 1 || b.top < all.top - 1 || b.bottom > all.bottom + 1; "
        "}).map(t => t.textContent))(document.documentElement.getBoundingClientRect())"
    )
    assert over == []
    assert browser.ask("document.querySelectorAll('text').length") > 3
    assert browser.complaints == []


def test_names_of_configs_over_the_matrix_meet_neither_each_other_nor_its_marks(browser, page):
    browser.open(page.parent / "plots" / "matrix.svg")
    lowest = browser.ask(
        "Math.max(...[...document.querySelectorAll('text[transform]')].map(t => t.getBoundingClientRect().bottom))"
    )
    highest = browser.ask(
        "Math.min(...[...document.querySelectorAll('rect.solved, rect.unsolved')]"
        ".map(t => t.getBoundingClientRect().top))"
    )
    assert lowest < highest
    # Across the way they lean, their lines are farther apart than a letter is high.
    turns = browser.ask("[...document.querySelectorAll('text[transform]')].map(t => t.getAttribute('transform'))")
    angle, places = float(turns[0].split()[0].removeprefix("rotate(")), [float(turn.split()[1]) for turn in turns]
    assert min(b - a for a, b in pairwise(places)) * math.sin(math.radians(angle)) > 12


def test_an_exported_page_opens_as_the_runs_does(browser, page, tmp_path):
    direction = Direction.read(page.parent / "vectors" / "dir.safetensors")
    for suffix in ("pt", "gguf"):
        direction.save(page.parent / "vectors" / f"dir.{suffix}")
    export(page.parent, tmp_path / "out", license_id="mit", say=lambda _: None)
    browser.open(tmp_path / "out" / "report.html")
    assert "step 2: the replies differ" in text(browser, "#comparison")[0]
    assert browser.complaints == []
    assert browser.requests == []
