"""The board on which panels of a process read what Ray does: deltas a mirror can follow. No Ray is needed for it."""

from __future__ import annotations

from raybook.base.facts import Fact
from raybook.engines.ray.board import Board
from raybook.observe.mirror import Mirror

TASK = frozenset({"task"})


def followed() -> tuple[Board, Mirror]:
    board, mirror = Board(), Mirror()
    board.subscribe(mirror.apply)
    return board, mirror


def test_what_is_published_reaches_a_mirror_that_came_before() -> None:
    board, mirror = followed()

    board.publish([Fact("trial", "a", {"x": 1})])
    board.publish([Fact("trial", "a", {"x": 2}), Fact("trial", "b", {"x": 3})])

    assert mirror.tables().rows("trial") == {"a": {"x": 2}, "b": {"x": 3}} and mirror.gaps == 0


def test_who_comes_later_gets_all_that_is_there() -> None:
    board, _ = followed()
    board.publish([Fact("trial", "a", {"x": 1}), Fact("trial", "b", {"x": 1})])
    board.publish([Fact("trial", "a", None)])
    late = Mirror()

    board.subscribe(late.apply)

    assert late.tables().rows("trial") == {"b": {"x": 1}}


def test_a_new_picture_takes_away_what_is_not_in_it() -> None:
    board, mirror = followed()
    board.publish([Fact("trial", "kept", {})])
    board.replace(TASK, [Fact("task", "a", {"state": "RUNNING"}), Fact("task", "b", {"state": "RUNNING"})])

    board.replace(TASK, [Fact("task", "b", {"state": "FINISHED"})])

    assert mirror.tables().rows("task") == {"b": {"state": "FINISHED"}}
    assert mirror.tables().rows("trial") == {"kept": {}}


def test_a_picture_that_is_the_same_tells_nobody_anything() -> None:
    board, mirror = followed()
    board.replace(TASK, [Fact("task", "a", {"state": "RUNNING"})])
    version = mirror.version

    board.replace(TASK, [Fact("task", "a", {"state": "RUNNING"})])

    assert mirror.version == version


def test_the_last_who_leaves_is_told_so() -> None:
    board = Board()
    first, second = board.subscribe(lambda delta: None), board.subscribe(lambda delta: None)

    assert (first(), second()) == (False, True)
