"""Actors: one row each, with state, process, restarts and calls."""

from __future__ import annotations

from raybook.observe import STATE_WORDS, ActorRow, View, count_text, rate_text
from raybook_widgets.markup import element, span, text

_TONES = {"ALIVE": "rb-good", "PENDING_CREATION": "rb-run", "RESTARTING": "rb-warn", "DEAD": "rb-dim"}


def render(view: View, rows_max: int) -> str:
    """ "" before the first actor."""
    if not view.actors:
        return ""
    shown = view.actors[:rows_max]
    hidden = view.actors_hidden + len(view.actors) - len(shown)
    summary = " · ".join(f"{count_text(count)} {_word(state)}" for state, count in view.actors_by_state.items())
    head = [span("Actors", "rb-title"), span(summary, "rb-dim rb-small")]
    has_calls = any(actor.calls_done is not None for actor in shown)
    titles = [("Class", ""), ("State", ""), ("Pid", "rb-num"), ("Restarts", "rb-num")]
    titles += [("Waiting", "rb-num"), ("Calls", "rb-num")] if has_calls else []
    header = element("tr", [element("th", title, class_=class_ or None, scope="col") for title, class_ in titles])
    rows = element("tbody", [_row(actor, has_calls) for actor in shown])
    table = element("table", [element("thead", header), rows], class_="rb-table")
    body = [element("div", head, class_="rb-head"), element("div", table, class_="rb-scroll")]
    if hidden:
        body.append(element("div", f"and {hidden} more actors", class_="rb-dim rb-small"))
    return "".join(body)


def _row(actor: ActorRow, has_calls: bool) -> str:
    name = span(actor.class_name, "rb-code")
    if actor.name:
        name += " " + span(f"“{actor.name}”", "rb-dim")
    if actor.stale:
        name += " " + span("old code", "rb-warn rb-small", title=actor.stale)
    rate = span(rate_text(actor.rate_per_s) + " ", "rb-dim rb-small") if actor.rate_per_s else ""
    state = element(
        "span", element("b", text(_word(actor.state))), class_="rb-chip " + _TONES.get(actor.state, "rb-dim")
    )
    cells = [
        element("td", name, class_="rb-wide rb-cut", title=f"{actor.class_name} {actor.actor_id}"),
        element("td", state, title=actor.waiting or None),
        element("td", str(actor.pid) if actor.pid else "–", class_="rb-num"),
        element("td", span(str(actor.restarts), "rb-warn" if actor.restarts else "rb-dim"), class_="rb-num"),
    ]
    if has_calls:
        cells.append(element("td", _count(actor.calls_pending), class_="rb-num"))
        cells.append(element("td", rate + _count(actor.calls_done), class_="rb-num"))
    return element("tr", cells, data_actor=actor.actor_id)


def _count(number: int | None) -> str:
    """A dash where nobody counts."""
    return span("–" if number is None else count_text(number), None if number else "rb-dim")


def _word(state: str) -> str:
    return STATE_WORDS.get(state, state.lower())
