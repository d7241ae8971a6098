"""A source of facts that plays a script: what panels, magics and their tests see instead of a cluster.

Keeps the contract of ``Engine.subscribe_facts``: deltas come from a thread of its own, the first is a snapshot, later
facts about a key replace earlier ones, at most one delta an interval.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator

from raybook.base.facts import Fact, FactDelta, Row


class ScriptedFacts:
    """Facts pushed by hand (``publish``) or played by a thread (``play``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], Row] = {}
        self._version = 0
        self._callbacks: list[Callable[[FactDelta], None]] = []
        self._stopping = threading.Event()
        self._players: list[threading.Thread] = []

    def subscribe_facts(self, callback: Callable[[FactDelta], None]) -> Callable[[], None]:
        """As Engine.subscribe_facts; the snapshot comes at once, from the calling thread."""
        with self._lock:
            self._callbacks.append(callback)
            snapshot = [Fact(kind, key, row) for (kind, key), row in self._rows.items()]
            callback(FactDelta(0, self._version, snapshot, reset=True))

        def unsubscribe() -> None:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

        return unsubscribe

    def publish(self, *facts: Fact) -> None:
        """Tell every subscriber."""
        with self._lock:
            since, self._version = self._version, self._version + 1
            for fact in facts:
                if fact.row is None:
                    self._rows.pop((fact.kind, fact.key), None)
                else:
                    self._rows[fact.kind, fact.key] = fact.row
            for callback in list(self._callbacks):
                callback(FactDelta(since, self._version, list(facts)))

    def play(self, script: Iterable[list[Fact]], interval_s: float) -> threading.Thread:
        """Publish one step of the script each interval, from a daemon thread, until it ends or ``close``."""
        thread = threading.Thread(target=self._play, args=(script, interval_s), name="scripted-facts", daemon=True)
        self._players.append(thread)
        thread.start()
        return thread

    def close(self) -> None:
        """End the players."""
        self._stopping.set()
        for thread in self._players:
            thread.join()

    def _play(self, script: Iterable[list[Fact]], interval_s: float) -> None:
        for facts in script:
            if self._stopping.wait(interval_s):
                return
            self.publish(*facts)


NODE = "a1b2c3d4e5f60718"


def sweep_script(trials: int = 16, steps: int = 12, seed: int = 7) -> Iterator[list[Fact]]:
    """A cluster at work: three functions, two actors, objects, log lines and a sweep whose trials learn."""
    rng = random.Random(seed)
    tick = 0
    reached = [0] * trials
    quality = [0.5 + 0.48 * rng.random() for _ in range(trials)]
    history: list[list[float]] = [[] for _ in range(trials)]
    while min(reached) < steps:
        tick += 1
        for index in range(trials):
            if reached[index] < steps and index < 4 + sum(step >= steps for step in reached):
                reached[index] += 1
                value = quality[index] * (1 - 0.7 ** reached[index]) + 0.02 * rng.random()
                history[index].append(value)
        yield [*_cluster_facts(tick), *_sweep_facts(reached, history, quality, steps)]


def _cluster_facts(tick: int) -> list[Fact]:
    done = min(400, tick * 17)
    return [
        Fact(
            "node",
            NODE,
            {
                "node_id": NODE,
                "alive": True,
                "address": "127.0.0.1",
                "pid": 4242,
                "resources_total": {"CPU": 8.0, "GPU": 1.0, "memory": float(16 << 30)},
                "resources_available": {"CPU": 8.0 - tick % 7, "GPU": 0.5, "memory": float(12 << 30)},
                "cpu_percent": 55.0,
                "memory_used_bytes": 5 << 30,
            },
        ),
        Fact("task_group", "square", _group("square", 400, done, 8, 0, 2_100.0)),
        Fact("task_group", "tokenize", _group("tokenize", 120, min(120, tick * 5), 2, min(3, tick // 8), 310_000.0)),
        Fact("task_group", "load_<shard>", _group("load_<shard>", 64, min(64, tick * 3), 1, 0, 48_000.0)),
        Fact("actor", "ac01", _actor("ac01", "Counter", "", "ALIVE", 0, tick * 40)),
        Fact(
            "actor",
            "ac02",
            _actor("ac02", "ParameterServer", "ps", "ALIVE" if tick % 9 else "RESTARTING", tick // 9, tick),
        ),
        Fact("store", NODE, {"used_bytes": tick * (31 << 20), "capacity_bytes": 4 << 30, "objects": tick * 12}),
        Fact("object", "0b", {"object_id": "0b", "size_bytes": 310 << 20, "owner_pid": 4243, "name": "load"}),
        Fact(
            "log", str(tick), {"source": "stdout", "pid": 5001, "name": "square", "line": f"step {tick} of the script"}
        ),
    ]


def _group(name: str, total: int, done: int, running: int, failed: int, mean_us: float) -> Row:
    running = min(running, total - done)
    return {
        "name": name,
        "pending": total - done - running,
        "running": running,
        "finished": done - failed,
        "failed": failed,
        "cancelled": 0,
        "mean_us": mean_us,
    }


def _actor(actor_id: str, class_name: str, name: str, state: str, restarts: int, calls: int) -> Row:
    return {
        "actor_id": actor_id,
        "class_name": class_name,
        "name": name,
        "state": state,
        "pid": 5000 + restarts,
        "node_id": NODE,
        "restarts": restarts,
        "calls_pending": calls % 5,
        "calls_done": calls,
    }


def _sweep_facts(reached: list[int], history: list[list[float]], quality: list[float], steps: int) -> list[Fact]:
    states = [_trial_state(index, step, steps) for index, step in enumerate(reached)]
    ended = sum(state in ("TERMINATED", "STOPPED") for state in states)
    peaks = [max(points, default=0.0) for points in history]
    best = peaks.index(max(peaks))
    record = {
        "name": "digits",
        "total": len(reached),
        "running": states.count("RUNNING"),
        "done": ended,
        "errored": states.count("ERROR"),
        "best_trial": f"digits_{best:05d}",
        "best_value": peaks[best],
    }
    facts = [Fact("experiment", "digits-run-1", record)]
    for index, state in enumerate(states):
        facts.append(
            Fact(
                "trial",
                f"digits_{index:05d}",
                {
                    "experiment": "digits",
                    "trial_id": f"digits_{index:05d}",
                    "name": f"train_digits_{index:05d}",
                    "state": state,
                    "config": {"lr": 0.1 * (1 - quality[index]), "width": 32 + 16 * index, "activation": "relu"},
                    "iteration": reached[index],
                    "metric_name": "accuracy",
                    "mode": "max",
                    "last": history[index][-1] if history[index] else None,
                    "best": peaks[index] or None,
                    "history": list(history[index]),
                    "started_unix_ms": None,
                    "ended_unix_ms": None,
                    "error": "ValueError: <b>lr</b> is too high" if state == "ERROR" else None,
                    "seconds": 4.0 * reached[index],
                },
            )
        )
    return facts


def _trial_state(index: int, step: int, steps: int) -> str:
    if not step:
        return "PENDING"
    if step < steps:
        return "RUNNING"
    return "ERROR" if index == 5 else "STOPPED" if index % 4 == 3 else "TERMINATED"
