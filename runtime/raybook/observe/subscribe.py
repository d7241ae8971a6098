"""Feed: keeps a mirror up to date from an engine's subscription and hands out views of it, from any thread.

The engine's thread applies deltas; readers copy the tables under the same lock and build the view outside it, so a slow
reader holds nobody up and an interrupted one leaves nothing torn (only the engine's thread writes).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from raybook.base.facts import Fact
from raybook.observe.fields import integer_of
from raybook.observe.history import Curve, Rates
from raybook.observe.mirror import Mirror, Tables
from raybook.observe.schema import View
from raybook.observe.trials import experiment_named_by, trial_step, trial_value
from raybook.observe.view import Caps, Label, build_view

RUNNING = "RUNNING"

FactsListener = Callable[[list[Fact], bool], None]
"""Called with the facts of one delta and whether they are a whole snapshot."""


class FactSource(Protocol):
    """The one thing a feed needs of an engine."""

    def subscribe_facts(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        """Deliver FactDelta records from a thread of the engine until the returned function is called."""


class WorkerNote(NamedTuple):
    """What a worker process is known for. ``started_ms``: when its latest task began, 0.0 when none is known."""

    name: str
    started_ms: float


class Feed:
    """One subscription and what has been learnt from it. Listeners run on the engine's thread: they must only take
    note and return."""

    def __init__(self, source: FactSource, name: str = "", listener: FactsListener | None = None) -> None:
        self._lock = threading.Lock()
        self._mirror = Mirror()
        self._rates = Rates()
        self._curves: dict[str, Curve] = {}
        self._label = Label(name=name)
        self._listeners: tuple[FactsListener, ...] = () if listener is None else (listener,)
        self._unsubscribe: Callable[[], None] | None = source.subscribe_facts(self._take)

    def listen(self, listener: FactsListener) -> Callable[[], None]:
        """Call ``listener`` for every delta until the returned function is called."""
        self._listeners = (*self._listeners, listener)

        def stop() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)

        return stop

    @property
    def version(self) -> int:
        """Grows with every delta; 0 before the first."""
        return self._mirror.version

    @property
    def state(self) -> str:
        """RUNNING, STOPPED, LEFT or LOST."""
        return self._label.state

    def changed_since(self, version: int) -> frozenset[str]:
        """The kinds of facts that changed after ``version``."""
        with self._lock:
            return self._mirror.changed_since(version)

    def subjects(self) -> frozenset[tuple[str, str]]:
        """What may get a panel of its own: sweeps that have trials, as the trials name them, and progress bars. Cost: a walk
        over trials and bars, far below that of a view."""
        with self._lock:
            named = {("experiment", experiment_named_by(row)) for row in self._mirror.rows("trial").values()}
            keys = {(kind, key) for kind in ("experiment", "progress") for key in self._mirror.rows(kind)}
            return frozenset(named | keys)

    def view(self, caps: Caps | None = None) -> View:
        """What is known now. Cost: O(rows); the lock is held for a shallow copy only."""
        now_ms = time.time() * 1_000
        with self._lock:
            tables, version, label = self._mirror.tables(), self._mirror.version, self._label
            rates = self._rates.now(now_ms) if label.state == RUNNING else {}
            curves = {key: list(curve.points) for key, curve in self._curves.items()}
        return build_view(tables, version, label, rates, curves, now_ms, caps)

    def tables(self) -> dict[str, dict[str, dict]]:
        """A picture of the raw rows, for the timeline and for exports."""
        return self.fact_tables()

    def fact_tables(self) -> Tables:
        """The same, as the tables that views are built from."""
        with self._lock:
            return self._mirror.tables()

    def wait_until(self, is_true: Callable[[View], bool], timeout_s: float) -> bool:
        """Block until a view satisfies the question, looking again at every delta. False when time is up."""
        changed = threading.Event()
        stop_listening = self.listen(lambda facts, is_snapshot: changed.set())
        deadline = time.monotonic() + timeout_s
        try:
            while not is_true(self.view()):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not changed.wait(left_s):
                    return is_true(self.view())
                changed.clear()
            return True
        finally:
            stop_listening()

    def workers(self) -> dict[int, WorkerNote]:
        """What each worker process does or did last, by pid: the latest task that it began, or the actor it is. Cost:
        O(tasks)."""
        tables = self.tables()
        notes: dict[int, WorkerNote] = {}
        for row in tables.get("actor", {}).values():
            notes[integer_of(row, "pid")] = WorkerNote(str(row.get("name") or row.get("class_name") or ""), 0.0)
        for row in tables.get("task", {}).values():
            pid, started_ms = integer_of(row, "worker_pid"), float(integer_of(row, "started_ms"))
            known = notes.get(pid)
            if known is None or started_ms >= known.started_ms:
                name = known.name if known is not None and not known.started_ms else str(row.get("name") or "")
                notes[pid] = WorkerNote(name, started_ms)
        return notes

    def end(self, state: str = "STOPPED") -> None:
        """Stop listening and keep the last picture under that state. Idempotent."""
        unsubscribe, self._unsubscribe = self._unsubscribe, None
        self._label = msgspec.structs.replace(self._label, state=state)
        if unsubscribe is not None:
            unsubscribe()

    def _take(self, delta: Any) -> None:
        now_ms = time.time() * 1_000
        with self._lock:
            facts = self._mirror.apply(delta)
            for fact in facts:
                self._note(fact, now_ms)
        for listener in self._listeners:
            listener(facts, delta.reset)

    def _note(self, fact: Fact, now_ms: float) -> None:
        """Remember what the table of latest rows forgets."""
        row = fact.row
        if row is None:
            self._rates.forget(f"{fact.kind}:{fact.key}")
            self._curves.pop(fact.key, None)
        elif fact.kind == "task_group":
            ended = sum(integer_of(row, name) for name in ("finished", "failed", "cancelled"))
            self._rates.note("task_group:" + fact.key, ended, now_ms)
        elif fact.kind == "progress":
            self._rates.note("progress:" + fact.key, integer_of(row, "done"), now_ms)
        elif fact.kind == "actor":
            self._rates.note("actor:" + fact.key, integer_of(row, "calls_done"), now_ms)
        elif fact.kind == "trial":
            value = trial_value(row)
            if value is not None:
                self._curves.setdefault(fact.key, Curve()).note(trial_step(row), value)
