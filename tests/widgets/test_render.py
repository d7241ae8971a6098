"""Rendering: escaped, bounded, deterministic, in the theme's colours only."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from raybook.observe import Caps, View
from raybook_widgets import SECTIONS, render_document, render_section, render_text
from raybook_widgets.markup import element, message_bytes
from raybook_widgets.render import MESSAGE_BYTES_MAX
from raybook_widgets.style import STYLE
from raybook_widgets.tune import sparkline
from tests.widgets.pictures import actor, experiment, group, trial, view_of

HOSTILE = "<img src=x onerror=alert(1)>\"'&<script>"


class Page(HTMLParser):
    """Reads markup as a browser would: tags with attributes, text, and whether every tag is closed."""

    VOID = frozenset({"img", "br", "hr", "input"})

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_view() -> View:
    return view_of(
        group(HOSTILE, finished=1, running=2, failed=3, cancelled=1, mean_us=10),
        actor(HOSTILE, class_name=HOSTILE, name=HOSTILE, state=HOSTILE),
        experiment(name=HOSTILE),
        trial(HOSTILE, experiment=HOSTILE, name=HOSTILE, metric_name=HOSTILE, config={HOSTILE: HOSTILE}, error=HOSTILE),
        *view_facts_of_a_store(),
        name=HOSTILE,
    )


def view_facts_of_a_store():
    from raybook.base.facts import Fact

    return (
        Fact("store", "n", {"used_bytes": 10, "capacity_bytes": 100, "objects": 1}),
        Fact("object", HOSTILE, {"object_id": HOSTILE, "size_bytes": 10, "name": HOSTILE}),
        Fact("node", "n", {"resources_total": {HOSTILE: 1.0}, "resources_available": {}}),
    )


def full_view(trials: int = 16, points: int = 60) -> View:
    history = [number / points for number in range(points)]
    return view_of(
        *(group(f"function_{n}", finished=n * 10, running=3, pending=5, mean_us=2_000) for n in range(30)),
        *(actor(f"a{n}") for n in range(40)),
        *(trial(f"t{n}", last=0.5, history=history, config={"lr": 0.1, "note": "x" * 200}) for n in range(trials)),
        caps=Caps(task_groups=1_000, actors=1_000, trials=10_000),
    )


@pytest.mark.parametrize("section", SECTIONS)
def test_what_users_typed_never_becomes_markup(section):
    page = Page(render_section(section, hostile_view()))
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"img", "script"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "onerror=alert(1)" in page.text


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_is_one_root_that_tests_and_styles_can_find(section):
    page = Page(render_section(section, hostile_view()))
    tag, attributes = page.tags[0]
    assert tag == "div"
    assert attributes["class"] == "raybook-panel"
    assert attributes["data-panel"] == section


@pytest.mark.parametrize("section", [section for section in SECTIONS if section != "cluster"])
def test_section_with_nothing_to_show_is_empty(section):
    assert render_section(section, view_of()) == ""


@pytest.mark.parametrize("section", SECTIONS)
def test_message_stays_below_its_limit_however_much_there_is(section):
    view = full_view(trials=2_000)
    markup = render_section(section, view)
    assert 0 < message_bytes(markup) <= MESSAGE_BYTES_MAX
    Page(markup)


def test_names_that_fit_no_message_are_replaced_by_a_note():
    markup = render_section("tasks", full_view(), bytes_max=200)
    assert "too long" in markup


def test_rows_that_do_not_fit_are_counted():
    markup = render_section("tune", full_view(trials=500))
    hidden = int(re.search(r"and (\d+) more trials", markup)[1])
    shown = markup.count("data-trial=")
    assert shown + hidden == 500


def test_same_view_gives_the_same_markup_and_text():
    assert render_document(full_view(), SECTIONS) == render_document(full_view(), SECTIONS)
    assert render_text(full_view(), SECTIONS) == render_text(full_view(), SECTIONS)


def test_colours_come_from_the_theme_only():
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsla?\(", STYLE)
    markup = "".join(render_section(section, full_view()) for section in SECTIONS)
    assert not re.search(r"style=\"[^\"]*(#|rgb|color)", markup)


def test_progress_bar_shows_each_state_by_its_share():
    markup = render_section("tasks", view_of(group("f", finished=50, failed=10, running=20, pending=20)))
    assert 'class="rb-fill-good" style="width:50.00%"' in markup
    assert 'class="rb-fill-bad" style="width:10.00%"' in markup
    assert 'class="rb-fill-run" style="width:20.00%"' in markup
    assert "80 finished" not in markup
    assert "60 / 100" in Page(markup).text


def test_best_trial_is_marked_once():
    view = view_of(experiment(total=3, best_trial="t2"), trial("t1", last=0.1), trial("t2", last=0.9))
    page = Page(render_section("tune", view))
    assert page.text.count("★") == 1
    assert "0/3 trials" in page.text


def test_sparkline_rises_when_the_metric_does():
    page = Page(sparkline([0.0, 0.5, 1.0], (0.0, 1.0), "rb-run"))
    (points,) = [attributes["points"] for tag, attributes in page.tags if tag == "polyline"]
    heights = [float(point.split(",")[1]) for point in points.split()]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] > heights[-1]


@pytest.mark.parametrize("points", [[], [1.0], [1.0, 1.0], [1e300, -1e300, 5.0]])
def test_sparkline_of_odd_points_stays_in_its_box(points):
    page = Page(sparkline(points, (min(points, default=0.0), max(points, default=1.0)), "rb-run"))
    for tag, attributes in page.tags:
        if tag == "polyline":
            assert all(0 <= float(point.split(",")[1]) <= 18 for point in attributes["points"].split())


def test_one_diverging_trial_does_not_flatten_the_others():
    facts = [trial(f"t{n}", last=1.0, history=[number / 59 for number in range(60)]) for n in range(4)]
    facts.append(trial("wild", last=1.0, history=[0.5, 0.5, 1e9]))
    page = Page(render_section("tune", view_of(*facts)))
    lines = [attributes["points"] for tag, attributes in page.tags if tag == "polyline"]
    heights = [float(point.split(",")[1]) for point in lines[0].split()]
    assert max(heights) - min(heights) > 10


def test_text_has_the_same_numbers_as_the_page():
    view = view_of(
        group("square", finished=7, running=2, failed=1),
        experiment(total=4),
        trial("t1", last=0.875, history=[0.1, 0.9]),
    )
    text = render_text(view, SECTIONS)
    page = Page(render_document(view, SECTIONS)).text
    for figure in ("2 running", "1 failed", "0.875", "0/4 trials"):
        assert figure in text
        assert figure in page


def test_attribute_values_are_escaped_by_the_only_function_that_writes_them():
    assert element("i", "", title='a"b<c') == '<i title="a&quot;b&lt;c"></i>'
