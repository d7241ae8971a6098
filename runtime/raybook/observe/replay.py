"""Replay: what if? The recorded tasks run again, on paper, with another number of them at once. Pure; events and a heap.

What is known of a run: when each task was submitted, began and ended, whose child it is, which actor ran it. What is
assumed: a task takes as long as it took; tasks begin in the order of their submission; actors run one call at a time
whatever the number; a task that waited although there was room waited for the task that ended last before it began (its
argument, most likely); a child is submitted as long after its parent's start as it was. Stretches in which nothing ran or
waited (somebody was thinking) count for nothing. Each task counts as one, however many CPUs it asks for.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ROOM_MS = 50.0
"""Waiting as long although there was room is waiting for something; less is the way to a worker."""


@dataclass(frozen=True)
class Run:
    """One task that has ended. Times: milliseconds of one clock. parent: key of the task that submitted it, or "". actor:
    id of the one that ran it, or ""."""

    key: str
    name: str
    created_ms: float
    started_ms: float
    ended_ms: float
    parent: str = ""
    actor: str = ""

    @property
    def took_ms(self) -> float:
        return self.ended_ms - self.started_ms


@dataclass(frozen=True)
class Forecast:
    """tasks: how many were replayed. recorded_ms: what they took. at_once: the most that ran at a time. same_ms: what the
    replay gives for that number, to judge it by. workers, then_ms: what was asked. least_ms: with room for all."""

    tasks: int
    recorded_ms: float
    at_once: int
    same_ms: float
    workers: int
    then_ms: float
    least_ms: float

    @property
    def speedup(self) -> float:
        """How many times as fast; below 1: slower."""
        return self.same_ms / self.then_ms if self.then_ms else 1.0


def runs_of(rows: Iterable[dict[str, Any]]) -> list[Run]:
    """The ended tasks of a survey's rows (``api.survey``) whose times are known."""
    runs = []
    for row in rows:
        ended_ms, run_us = row.get("ended_ms"), row.get("run_us")
        if not ended_ms or run_us is None or not row.get("started_ms"):
            continue
        started_ms = ended_ms - run_us / 1_000
        created_ms = min(row.get("created_ms") or started_ms, started_ms)
        runs.append(
            Run(
                row["task_id"],
                row["name"],
                created_ms,
                started_ms,
                ended_ms,
                row["parent"] or "",
                row["actor_id"] or "",
            )
        )
    return runs


def what_if(runs: Sequence[Run], workers: int) -> Forecast:
    """The same tasks with so many at once. ValueError for no tasks, or fewer workers than one. Cost: 10 µs a task."""
    if workers < 1:
        raise ValueError(f"workers is {workers}; one at least runs tasks.")
    if not runs:
        raise ValueError("No task has ended yet, so there is nothing to replay.")
    phases = _phases(runs)
    at_once = max(_most_at_once([run for run in phase if not run.actor]) for phase in phases) or 1
    plans = [_Plan(phase, at_once) for phase in phases]

    def total(count: int) -> float:
        return sum(plan.replay(count) for plan in plans)

    recorded_ms = sum(max(run.ended_ms for run in phase) - phase[0].created_ms for phase in phases)
    return Forecast(len(runs), recorded_ms, at_once, total(at_once), workers, total(workers), total(len(runs)))


def _phases(runs: Sequence[Run]) -> list[list[Run]]:
    """Cut where everything submitted before had ended."""
    phases: list[list[Run]] = []
    end_ms = float("-inf")
    for run in sorted(runs, key=lambda run: (run.created_ms, run.started_ms, run.key)):
        if run.created_ms >= end_ms:
            phases.append([])
        phases[-1].append(run)
        end_ms = max(end_ms, run.ended_ms)
    return phases


def _most_at_once(runs: Sequence[Run]) -> int:
    steps = sorted(
        [(run.started_ms, 1) for run in runs if run.took_ms] + [(run.ended_ms, -1) for run in runs if run.took_ms]
    )
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


class _Plan:
    """One phase: what each task waits for, read from the record; and the replay."""

    def __init__(self, runs: list[Run], at_once: int) -> None:
        self._runs = runs
        self._begin_ms = runs[0].created_ms
        index = {run.key: number for number, run in enumerate(runs)}
        room = _Room([run for run in runs if not run.actor], at_once)
        ends = sorted((run.ended_ms, number) for number, run in enumerate(runs))
        self._first: list[tuple[float, int]] = []
        """(after the phase's begin, task)."""
        self._after_start: dict[int, list[tuple[float, int]]] = {}
        self._after_end: dict[int, list[tuple[float, int]]] = {}
        for number, run in enumerate(runs):
            before = bisect_right(ends, (run.started_ms, len(runs))) - 1
            if not run.actor and room.between(run.created_ms, run.started_ms) > ROOM_MS and before >= 0:
                ended_ms, cause = ends[before]
                if ended_ms > run.created_ms:
                    self._after_end.setdefault(cause, []).append((run.started_ms - ended_ms, number))
                    continue
            parent = index.get(run.parent)
            if parent is not None and runs[parent].started_ms <= run.created_ms and parent != number:
                after_ms = run.created_ms - runs[parent].started_ms
                self._after_start.setdefault(parent, []).append((after_ms, number))
            else:
                self._first.append((run.created_ms - self._begin_ms, number))

    def replay(self, workers: int) -> float:
        """Milliseconds from the first submission to the last end."""
        runs = self._runs
        events: list[tuple[float, int, int]] = [(at_ms, 1, number) for at_ms, number in self._first]
        """(time, 0 end or 1 submission, task): at the same moment ends come first, then tasks in their order."""
        heapq.heapify(events)
        waiting: list[int] = []
        queues: dict[str, deque[int]] = {}
        free, now_ms = workers, 0.0

        def start(number: int) -> None:
            heapq.heappush(events, (now_ms + runs[number].took_ms, 0, number))
            for after_ms, child in self._after_start.get(number, ()):
                heapq.heappush(events, (now_ms + after_ms, 1, child))

        while events:
            now_ms, is_submission, number = heapq.heappop(events)
            actor = runs[number].actor
            if is_submission and actor:
                queue = queues.setdefault(actor, deque())
                queue.append(number)
                if len(queue) == 1:
                    start(number)
            elif is_submission:
                heapq.heappush(waiting, number)
            else:
                for after_ms, next_one in self._after_end.get(number, ()):
                    heapq.heappush(events, (now_ms + after_ms, 1, next_one))
                if actor:
                    queues[actor].popleft()
                    if queues[actor]:
                        start(queues[actor][0])
                else:
                    free += 1
            while free and waiting:
                free -= 1
                start(heapq.heappop(waiting))
        return now_ms


class _Room:
    """How long there was room for one more task, between two moments of the record."""

    def __init__(self, runs: Sequence[Run], at_once: int) -> None:
        steps = sorted([(run.started_ms, 1) for run in runs] + [(run.ended_ms, -1) for run in runs])
        self._times: list[float] = []
        self._sums: list[float] = []
        self._has_room: list[bool] = []
        now, total = 0, 0.0
        for time_ms, step in steps:
            if self._times and self._has_room[-1]:
                total += time_ms - self._times[-1]
            now += step
            self._times.append(time_ms)
            self._sums.append(total)
            self._has_room.append(now < at_once)

    def between(self, from_ms: float, to_ms: float) -> float:
        return self._until(to_ms) - self._until(from_ms)

    def _until(self, moment_ms: float) -> float:
        """Since before the first task, when there was room for all."""
        if not self._times or moment_ms <= self._times[0]:
            return min(0.0, moment_ms - self._times[0]) if self._times else 0.0
        at = bisect_left(self._times, moment_ms) - 1
        return self._sums[at] + (moment_ms - self._times[at] if self._has_room[at] else 0.0)


def forecast_text(forecast: Forecast) -> str:
    """Three lines for people."""
    return "\n".join(
        [
            f"Recorded: {forecast.tasks:,} tasks in {_seconds(forecast.recorded_ms)}, at most {forecast.at_once} at once "
            f"(the replay gives {_seconds(forecast.same_ms)}).",
            f"With {forecast.workers} at once: {_seconds(forecast.then_ms)}, {_compared(forecast.speedup)}.",
            f"With room for all: {_seconds(forecast.least_ms)}; more workers than that change nothing.",
        ]
    )


def _compared(speedup: float) -> str:
    if 0.97 < speedup < 1.03:
        return "as fast as now"
    return f"about {speedup:.1f} times as fast" if speedup > 1 else f"about {1 / speedup:.1f} times as long"


def _seconds(ms: float) -> str:
    return f"{ms / 1_000:.1f} s" if ms >= 1_000 else f"{ms:.0f} ms"
