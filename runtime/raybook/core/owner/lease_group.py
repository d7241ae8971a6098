"""Lease group: all tasks of one scheduling class that wait, and the leases on workers that may run them.

Records only; what becomes of them is decided by the lease requester.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from raybook.base.specs import Assignment, Endpoint, SchedulingClass
from raybook.core.owner.records import TaskRecord
from raybook.protocol.messages.raylet import LeaseGranted, LeaseLost


class Lease:
    """One worker on loan."""

    __slots__ = (
        "assignment", "cost_us", "cut_off", "epoch", "following", "group", "idle_since_ms", "in_flight", "lease_id", "lost",
        "lost_ms", "out_of_reach", "progress_ms", "stalled", "stealing", "unmeasured", "worker", "worker_pid",
    )  # fmt: skip

    def __init__(self, group: Group, granted: LeaseGranted, now_ms: int) -> None:
        self.group = group
        self.lease_id = granted.lease_id
        self.epoch = granted.epoch
        self.worker: Endpoint = granted.worker
        self.worker_pid = granted.worker_pid
        self.assignment: Assignment = granted.assignment
        self.in_flight: dict[bytes, TaskRecord] = {}
        self.following: deque[tuple[TaskRecord, TaskRecord]] = deque()
        """(task in flight, task that waits for it alone): to be pushed next, unless one of the two has moved on."""
        self.cost_us = 0.0
        self.unmeasured = 0
        self.stalled = False
        self.stealing = False
        self.progress_ms = now_ms
        self.idle_since_ms = now_ms
        self.out_of_reach = False
        self.cut_off = False
        """The network broke: answers may have been lost on their way, and pushes, too."""
        self.lost: LeaseLost | None = None
        """How the lease ended, while answers of its worker may still come."""
        self.lost_ms = 0
        """Or when its worker went out of reach."""


class Ended(NamedTuple):
    """How a lease ended, and its tasks that will not be answered, in push order. was_cut_off: whether they ran is not known,
    whatever became of the worker."""

    how: LeaseLost
    records: list[TaskRecord]
    was_cut_off: bool = False


class Group:
    """All tasks of one scheduling class."""

    __slots__ = ("class_key", "demand_sent", "has_followers", "infeasible", "leases", "queue", "scheduling_class")

    def __init__(self, class_key: int, scheduling_class: SchedulingClass) -> None:
        self.class_key = class_key
        self.scheduling_class = scheduling_class
        self.queue: deque[TaskRecord] = deque()
        self.leases: dict[int, Lease] = {}
        self.demand_sent = 0
        self.has_followers = False
        """Whether a lease may have tasks that follow another one."""
        self.infeasible = ""
