"""Marks lie where the numbers are: each chart's SVG is parsed, and its coordinates are turned back into data."""

import math
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import arms

from capvec.directions.ranking import LayerRank, Ranking
from capvec.records import Config, ControlOf, Interval, Outcome
from capvec.report.charts.canvas import Chart, Scale, padded, spread
from capvec.report.charts.configs import differences, pass_rates
from capvec.report.charts.dose_response import dose_response
from capvec.report.charts.layers import auc_by_layer
from capvec.report.charts.matched_controls import matched_controls
from capvec.report.charts.matrix import task_by_config
from capvec.report.html.environment import svg
from capvec.stats.matched_controls import MatchedComparison, rank
from capvec.stats.summary import summarise
from capvec.steering import Steer
from capvec.tasks.splits import UNKNOWN

pytestmark = pytest.mark.unit

SVG = "{http://www.w3.org/2000/svg}"
WIDTHS = pytest.mark.parametrize("width", [800, 336])


PLAIN = summarise(arms(x=(1, 2)), ["x"], baseline="x").configs[0]


def row(name, solved, n, low, high, **more):
    rates = {"pass_rate": solved / n, "wilson": Interval(low, high)}
    means = {"parse_fail_per_run": 0.5, "no_cmd_per_run": 2.0, "mean_steps": 6.0}
    return replace(PLAIN, config=name, solved=solved, n=n, **{**rates, **means, **more})


ROWS = [row("baseline", 5, 10, 0.2, 0.8), row("steered-L3-a4", 9, 10, 0.6, 0.98)]
KINDS = {"baseline": "baseline", "steered-L3-a4": "steered"}


def drawn(chart: Chart):
    return ET.fromstring(svg(chart))


def having(root, tag, *classes):
    return [one for one in root.iter(f"{SVG}{tag}") if set(classes) <= set(one.get("class", "").split())]


def at(element, *names):
    return tuple(float(element.get(name)) for name in names)


def back(ticks):
    """Pixels → numbers, from the chart's own ticks: what a reader goes by."""
    (value, place), (other, elsewhere) = ticks[0], ticks[-1]
    return lambda pixel: value + (pixel - place) / (elsewhere - place) * (other - value)


def ticks(root, axis, anchor):
    found = [one for one in having(root, "text", "tick") if one.get("text-anchor") == anchor]
    shift = 4 if axis == "y" else 0  # a number at the left stands 4 px below its line
    return [(float(one.text.replace("−", "-")), float(one.get(axis)) - shift) for one in found]


def trial(task, config, attempt, outcome):
    return Outcome("r", task, config, None, None, attempt, 0, outcome)


@WIDTHS
def test_pass_rates_and_their_intervals_lie_where_the_axis_says(width):
    root = drawn(pass_rates(ROWS, KINDS, "baseline", width))
    across = back(ticks(root, "x", "middle"))
    dots = {one.get("class"): across(float(one.get("cx"))) for one in root.iter(f"{SVG}circle")}
    assert dots == pytest.approx({"baseline": 0.5, "steered": 0.9}, abs=1e-3)
    spans = [tuple(map(across, at(one, "x1", "x2"))) for one in having(root, "line", "interval")]
    assert spans == [pytest.approx((0.2, 0.8), abs=1e-3), pytest.approx((0.6, 0.98), abs=1e-3)]
    assert across(float(having(root, "line", "reference")[0].get("x1"))) == pytest.approx(0.5, abs=1e-3)
    texts = [one.text for one in root.iter(f"{SVG}text")]
    assert {"baseline", "steered-L3-a4", "5/10", "9/10"} <= set(texts)


def test_a_config_without_a_valid_trial_has_no_mark():
    nothing = row("dead", 0, 1, 0.0, 1.0, pass_rate=None, wilson=None)
    assert len(having(drawn(pass_rates([*ROWS, nothing], KINDS, "baseline", 800)), "circle")) == 2


@WIDTHS
def test_a_change_is_drawn_with_its_interval_over_the_band_that_would_not_matter(width):
    compared = summarise(arms(baseline=(2, 20), s=(16, 20)), ["baseline", "s"]).configs[1]
    effect = replace(compared.effect, difference=0.2, interval=Interval(-0.1, 0.5))
    rows = [
        ROWS[0],
        replace(ROWS[1], effect=effect, verdict=replace(compared.verdict, name="improves", equivalence_margin=0.15)),
    ]
    root = drawn(differences(rows, width))
    across = back(ticks(root, "x", "middle"))
    assert across(float(having(root, "circle", "good")[0].get("cx"))) == pytest.approx(0.2, abs=1e-3)
    (line,) = having(root, "line", "interval")
    assert tuple(map(across, at(line, "x1", "x2"))) == pytest.approx((-0.1, 0.5), abs=1e-3)
    x, wide = at(having(root, "rect", "band")[0], "x", "width")
    assert (across(x), across(x + wide)) == pytest.approx((-0.15, 0.15), abs=1e-3)


def test_nothing_is_drawn_of_verdicts_or_controls_that_are_not_on_record():
    assert differences(ROWS, 800) is None
    assert matched_controls([], 800) is None


def config(alpha, **changes):
    steers = (Steer(3, "h", alpha),)
    return replace(Config(f"steered-L3-a{alpha:g}", "steered", steers, layer=3, alpha=alpha), **changes)


DOSES = (
    Config("baseline", "baseline"),
    config(2.0),
    config(4.0),
    config(-4.0, name="negated-L3-a4", kind="control", control=ControlOf("negated", ("steered-L3-a4",))),
)
RESPONSES = [
    row("baseline", 5, 10, 0.2, 0.8),
    row("steered-L3-a2", 6, 10, 0.3, 0.8, no_cmd_per_run=1.0),
    row("steered-L3-a4", 9, 10, 0.6, 0.98, no_cmd_per_run=3.5),
    row("negated-L3-a4", 1, 10, 0.02, 0.4, no_cmd_per_run=0.0),
]


@WIDTHS
def test_a_response_over_dose_is_drawn_at_its_alphas_in_every_panel_reverse_included(width):
    root = drawn(dose_response(RESPONSES, DOSES, "baseline", width))
    dots = having(root, "circle", "s0")
    assert len(dots) == 4 * 3  # panels × (α = −4, 2, 4)
    # Ticks come panel by panel; the first panel's numbers at the left run from 0 to 1.
    left, below = ticks(root, "y", "end"), ticks(root, "x", "middle")
    up = back([tick for tick in left[:5] if tick[0] in (0.0, 1.0)])
    first = [tick for tick in below[: len(below) // 4] if tick[0] in (0.0, 5.0, -5.0, 4.0, -4.0, 2.0, -2.0)]
    across = back(first)
    passed = {round(across(float(one.get("cx"))), 2): round(up(float(one.get("cy"))), 2) for one in dots[:3]}
    assert passed == {-4.0: 0.1, 2.0: 0.6, 4.0: 0.9}
    assert len(having(root, "line", "whisker")) == 3  # the pass rate's intervals
    assert len(having(root, "line", "reference")) == 4


def test_one_strength_is_no_dose_response():
    assert dose_response(RESPONSES[:2], DOSES[:2], "baseline", 800) is None


RANKING = Ranking(
    tuple(
        LayerRank(
            layer,
            auc=1.0 - layer / 10,
            margin=1.0,
            ambient_norm=2.0,
            margin_ratio=0.5,
            n_pos=4,
            n_neg=4,
            auc_null_p95=0.8,
            cv_auc=0.6 + layer / 10,
            cv_auc_low=0.5,
            cv_auc_high=0.9,
            cv_auc_null_p95=0.7,
            cv_p_value=0.1,
            p_value=0.1,
            p_corrected=0.1,
            stability_min=None,
            stability_mean=None,
            reference_cosine=None,
        )
        for layer in (2, 0, 1)
    ),
    estimator="mean difference",
    null="30 permutations",
    folds="by task",
)


@WIDTHS
def test_auc_by_layer_lies_over_what_permuted_labels_reach(width):
    root = drawn(auc_by_layer(RANKING, {1}, width))
    up = back(ticks(root, "y", "end"))
    rings, dots = (having(root, "circle", kind)[:-1] for kind in ("insample", "steered"))  # the last is the legend's
    assert [up(float(one.get("cy"))) for one in rings] == pytest.approx([1.0, 0.9, 0.8], abs=1e-3)  # by layer
    assert [up(float(one.get("cy"))) for one in dots] == pytest.approx([0.6, 0.7, 0.8], abs=1e-3)
    lines = having(root, "line", "interval")
    assert [tuple(map(up, at(one, "y1", "y2"))) for one in lines] == [pytest.approx((0.5, 0.9), abs=1e-3)] * 3
    curve = next(one for one in having(root, "path", "null") if "crossed" not in one.get("class"))
    heights = [up(float(point.split(",")[1])) for point in curve.get("d").removeprefix("M").split(" L")]
    assert heights == pytest.approx([0.8] * 5, abs=1e-3)
    x, wide = at(having(root, "rect", "mark")[0], "x", "width")
    assert x + wide / 2 == pytest.approx(float(rings[1].get("cx")), abs=0.02)


def comparison(metric, effect, others):
    place = rank(effect, list(others.values()))
    return MatchedComparison("s", "random", metric, 10, 0, effect, others, rank=place)


@WIDTHS
def test_a_direction_stands_among_its_matched_controls_on_one_axis(width):
    found = [
        comparison(metric, 0.3, {"r1": -0.1, "r2": 0.0}) for metric in ("pass_rate", "parse_fail", "no_cmd", "steps")
    ]
    root = drawn(matched_controls(found, width))
    below = ticks(root, "x", "middle")
    across = back(below[: len(below) // 4])
    controls = [across(float(one.get("cx"))) for one in having(root, "circle", "matched")[:2]]
    assert controls == pytest.approx([-0.1, 0.0], abs=1e-3)
    points = [float(pair.split(",")[0]) for pair in having(root, "polygon", "steered")[0].get("points").split()]
    assert across((min(points) + max(points)) / 2) == pytest.approx(0.3, abs=1e-3)
    assert "0 of 2 random controls" in root.find(f"{SVG}desc").text


CELLS = {
    ("sort", "baseline"): [trial("sort", "baseline", 1, "solved"), trial("sort", "baseline", 2, "unsolved")],
    ("sort", "s"): [trial("sort", "s", 2, "error")],
    ("copy", "baseline"): [trial("copy", "baseline", 1, "solved")],
}
SPLITS = {"trained": ["sort"], "held-out": ["copy"]}


@WIDTHS
def test_every_trial_has_its_mark_in_the_row_of_its_task_the_column_of_its_config_and_the_place_of_its_attempt(width):
    root = drawn(task_by_config(SPLITS, ["baseline", "s"], CELLS, width))
    marks = {one.find(f"{SVG}title").text: one for one in root.iter() if one.find(f"{SVG}title") is not None}
    marks = {tip: one for tip, one in marks.items() if "attempt" in tip}
    assert {tip: one.get("class") for tip, one in marks.items()} == {
        "sort, baseline, attempt 1: solved": "solved",
        "sort, baseline, attempt 2: unsolved": "unsolved",
        "sort, s, attempt 2: infrastructure error": "error",
        "copy, baseline, attempt 1: solved": "solved",
    }
    rows = {one.text: float(one.get("y")) - 4 for one in having(root, "text", "label") if one.text in ("sort", "copy")}
    heads = {one.text: float(one.get("x")) for one in root.iter(f"{SVG}text") if one.get("transform")}
    assert set(heads) == {"baseline", "s"}
    places = {tip: middle(one) for tip, one in marks.items()}
    for tip, (x, y) in places.items():
        task, config, attempt = tip.partition(":")[0].split(", ")
        assert y == pytest.approx(rows[task], abs=0.1)
        assert (x < heads[config]) == (attempt == "attempt 1")  # of two attempts the first is left of the middle
        assert abs(x - heads[config]) < min(abs(x - other) for name, other in heads.items() if name != config)
    assert len(having(root, "line", "absent")) == 1  # copy under s
    assert [one.text for one in having(root, "text", "panel")] == ["trained", "held-out"]
    assert "s 0 of 0 solved, 1 errors" in root.find(f"{SVG}desc").text


def middle(mark):
    if mark.get("points"):
        pairs = [tuple(map(float, pair.split(","))) for pair in mark.get("points").split()]
        return tuple(sum(axis) / len(pairs) for axis in zip(*pairs, strict=True))
    x, y, width, height = at(mark, "x", "y", "width", "height")
    return x + width / 2, y + height / 2


@pytest.mark.parametrize(("configs", "attempts"), [(2, 1), (12, 5), (40, 3)])
def test_a_matrix_of_any_size_keeps_its_marks_apart_and_inside(configs, attempts):
    names = [f"orthogonal{number}-L29-a4" for number in range(configs)]
    cells = {("a-task", name): [trial("a-task", name, n + 1, "solved") for n in range(attempts)] for name in names}
    chart = task_by_config({UNKNOWN: ["a-task"]}, names, cells, 860)
    root = drawn(chart)
    spans = sorted((x, x + wide) for x, wide in (at(one, "x", "width") for one in having(root, "rect", "solved")))
    spans.remove((3.0, 13.0))  # the legend's
    assert len(spans) == configs * attempts
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[0][0] > 0
    assert spans[-1][1] <= chart.width
    assert not having(root, "text", "panel")
    for one in root.iter(f"{SVG}text"):
        if turn := one.get("transform"):  # where the name begins: its end, turned back
            angle, x, y = (float(part) for part in turn.removeprefix("rotate(").removesuffix(")").split())
            long = len(one.text) * 7.2
            assert x - long * math.cos(math.radians(angle)) >= 0
            assert y - long * math.sin(math.radians(angle)) >= 0


@WIDTHS
def test_every_chart_keeps_inside_its_frame_and_tells_its_title_and_description(width):
    for chart in (
        pass_rates(ROWS, KINDS, "baseline", width),
        dose_response(RESPONSES, DOSES, "baseline", width),
        auc_by_layer(RANKING, {1}, width),
        matched_controls([comparison("pass_rate", 0.3, {"r1": -0.1})], width),
        task_by_config(SPLITS, ["baseline", "s"], CELLS, width),
    ):
        root = drawn(chart)
        names = root.get("aria-labelledby").split()
        assert [one.get("id") for one in (root.find(f"{SVG}title"), root.find(f"{SVG}desc"))] == names
        assert root.get("role") == "img"
        for one in root.iter():
            for name, most in (("cx", chart.width), ("x1", chart.width), ("x2", chart.width), ("y1", chart.height)):
                assert 0 <= float(one.get(name, 0)) <= most
        assert "var(" not in svg(chart)  # light colours are baked in


def test_a_name_that_is_markup_is_text_in_the_chart():
    bad = "<script>alert(1)</script>"
    root = drawn(pass_rates([row(bad, 1, 2, 0.1, 0.9)], {bad: "steered"}, "baseline", 800))
    assert not list(root.iter(f"{SVG}script"))
    assert bad in [one.text for one in root.iter(f"{SVG}text")]


def test_the_style_of_a_file_has_no_variable_left():
    drawing = svg(pass_rates(ROWS, KINDS, "baseline", 800))
    assert "var(" not in drawing
    assert "#0072b2" in drawing


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=9), st.booleans())
def test_a_padded_scale_holds_its_values_and_its_ticks(values, zero):
    scale = padded(values, 10.0, 200.0, zero=zero)
    assert all(10 - 1e-6 <= scale(value) <= 200 + 1e-6 for value in values)
    assert all(scale.low - 1e-6 <= tick <= scale.high + 1e-6 for tick in scale.ticks(5))


def test_ticks_are_round():
    assert Scale(0, 1, 0, 1).ticks(5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(-0.27, 0.4, 0, 1).ticks(4) == [-0.2, 0.0, 0.2, 0.4]


def test_labels_at_the_ends_of_lines_do_not_lie_on_each_other():
    assert spread([50.0, 10.0, 52.0], 13.0, 0.0, 100.0) == [50.0, 10.0, 63.0]
    assert spread([95.0, 96.0, 97.0], 13.0, 0.0, 100.0) == [74.0, 87.0, 100.0]


@given(st.lists(st.floats(-50, 150), min_size=1, max_size=20))
def test_labels_stay_inside_their_panel_as_far_apart_as_there_is_room_and_in_their_order(places):
    moved = spread(places, 13.0, 0.0, 100.0)
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in moved)
    room = min(13.0, 100 / max(1, len(places) - 1))
    order = sorted(range(len(places)), key=places.__getitem__)
    assert all(moved[after] - moved[before] >= room - 1e-9 for before, after in pairwise(order))


def at_layers(count, **changes):
    """Configs at α = 1 and 2 of as many layers, and rows of them that all lie at the lower end of every panel."""
    configs = [
        replace(
            config(alpha), name=f"s-L{layer}-a{alpha:g}", layer=layer, steers=(Steer(layer, "h", alpha),), **changes
        )
        for layer in range(count)
        for alpha in (1.0, 2.0)
    ]
    nothing = {"parse_fail_per_run": 0.0, "no_cmd_per_run": 0.0, "mean_steps": 0.0}
    return configs, [row("baseline", 5, 10, 0.2, 0.8), *(row(one.name, 0, 10, 0.0, 0.3, **nothing) for one in configs)]


@WIDTHS
def test_labels_of_many_lines_end_above_the_axis_of_their_panel(width):
    configs, rows = at_layers(5)
    root = drawn(dose_response(rows, [DOSES[0], *configs], "baseline", width))
    panels = [float(one.get("y")) for one in having(root, "text", "panel")]
    labels = [float(one.get("y")) for one in having(root, "text", "end")]
    assert len(labels) == 4 * 5
    # A panel is 190 px high and its title stands 14 px below its top; ticks stand 26 px above its bottom.
    for number, title in enumerate(panels):
        assert max(labels[5 * number : 5 * number + 5]) <= title - 14 + 190 - 26 - 8


@WIDTHS
def test_dots_at_one_strength_stand_beside_each_other_each_on_its_interval(width):
    configs, rows = at_layers(3)
    root = drawn(dose_response(rows, [DOSES[0], *configs], "baseline", width))
    for number in range(3):
        dots = [float(one.get("cx")) for one in having(root, "circle", f"s{number}")[:2]]
        whiskers = [float(one.get("x1")) for one in having(root, "line", "whisker", f"s{number}")]
        assert dots == pytest.approx(whiskers)
    places = {float(having(root, "circle", f"s{number}")[0].get("cx")) for number in range(3)}
    assert len(places) == 3


def along(name, direction, *alphas):
    return [replace(config(a), name=f"{name}-L3-a{a:g}", steers=(Steer(3, direction, a),)) for a in alphas]


@pytest.mark.parametrize(
    ("configs", "labels"),
    [
        ([*along("skill", "0123456789", 1.0, 2.0), *along("format", "abcdef0123", 1.0)], ["skill L3", "format L3"]),
        ([*along("s", "0123456789", 1.0, 2.0), *along("s", "abcdef0123", 3.0)], ["012345 L3", "abcdef L3"]),
    ],
)
def test_no_line_joins_configs_of_different_directions(configs, labels):
    root = drawn(dose_response([row(one.name, 5, 10, 0.2, 0.8) for one in configs], configs, "baseline", 800))
    assert [len(having(root, "circle", f"s{number}")) for number in (0, 1)] == [2 * 4, 1 * 4]  # in four panels
    assert [one.text for one in having(root, "text", "end")[:2]] == labels
