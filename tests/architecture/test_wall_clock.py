"""No verdict depends on what the wall clock shows: somebody may set it while the cluster runs.

Of the rooms that decide who is alive, what has timed out and what is retried, only those named here may read it, each for
something that is shown to people or compared with nothing but itself.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from raybook.io import clock
from raybook.io.clock import anchored_clock

RUNTIME = Path(clock.__file__).resolve().parents[1]
ROOMS = "base protocol core io gcs raylet worker session head autoscaler".split()
WALL_CLOCK = frozenset({"time", "time_ns", "now", "utcnow", "today"})

MENTIONED = re.compile(r"\b(time|datetime|date)\.(time|time_ns|now|utcnow|today|datetime|date)\b|from time import")

MAY_READ_IT = {
    "io/certificates.py": "when certificates begin and end to be valid",
    "io/clock.py": "once, as the anchor of a clock that goes on by itself",
    "io/session_dir.py": "the age of a folder that nobody has claimed, which is in the file system's time",
    "worker/core_process.py": "when tasks began and ended, for the timeline",
    "worker/facts.py": "how long tasks that run have run, for panels",
    "head/embedded.py": "when the cluster was made, for people",
}


def reads_wall_clock(source: str) -> bool:
    """Whether ``time.time``, ``time.time_ns`` or ``datetime.now`` and its kin are mentioned."""
    if not MENTIONED.search(source):
        return False  # Most files; parsing all takes seconds.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if owner in ("time", "datetime", "date") and node.attr in WALL_CLOCK:
                return True
    return bool(re.search(r"from time import .*\btime(_ns)?\b", source))


def test_only_those_read_the_wall_clock_that_say_what_for():
    readers = {
        str(path.relative_to(RUNTIME))
        for room in ROOMS
        for path in (RUNTIME / room).rglob("*.py")
        if reads_wall_clock(path.read_text())
    }
    assert readers - MAY_READ_IT.keys() == set(), "These read the wall clock; take a monotonic one, or say what for."


def test_the_clock_of_the_daemons_does_not_follow_when_the_machine_is_set(monkeypatch: pytest.MonkeyPatch):
    now_ms = anchored_clock()
    before = now_ms()
    for wrong in (0, 4_000_000_000_000_000_000):
        monkeypatch.setattr(clock.time, "time_ns", lambda wrong=wrong: wrong)
        assert 0 <= now_ms() - before < 60_000
