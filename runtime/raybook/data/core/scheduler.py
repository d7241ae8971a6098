"""Scheduler of streaming execution: decides which operator starts its next task. Pure; sees counts and bytes only.

It knows nothing of tasks, refs or time: the executor shows it a view of each operator and asks `choose`. Rules, in order:
an operator must have an input, a free slot of its own (its concurrency, an actor), and room in the budgets of CPUs, GPUs
and bytes; among those that have, the one nearest to the consumer goes first, because what it takes in frees memory.

Invariants: CPUs and GPUs asked for by running tasks stay within the limits, but for one task when nothing runs; bytes in
flight stay within the budget, but for one task when nothing runs and the consumer waits (so that a plan whose single
block is larger than the budget ends). The reason why an operator did not run is always one of `REASONS`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RUNNING = "running"
NO_INPUT = "no input"
DONE = "done"
CONCURRENCY = "concurrency"
RESOURCES = "resources"
MEMORY = "memory budget"
OWN_SHARE = "own share of memory"
REASONS = (RUNNING, NO_INPUT, DONE, CONCURRENCY, RESOURCES, MEMORY, OWN_SHARE)


@dataclass
class OperatorView:
    """What the scheduler sees of one operator. Bytes are estimates for what has not run yet.

    tasks_ready: tasks that could start now, were there room. slots_free: of its own (None: no limit of its own).
    cpus, gpus: what one task asks for. running: tasks in flight. running_bytes: what they are expected to put out.
    queued_bytes: its output that nobody has taken yet, and what waits at its consumers. bytes_per_task: expected output
    of the next task. is_done: will never start another. counts_memory: it puts blocks into the store.
    """

    index: int
    tasks_ready: int = 0
    slots_free: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    running: int = 0
    running_bytes: int = 0
    queued_bytes: int = 0
    bytes_per_task: int = 0
    is_done: bool = False
    counts_memory: bool = True


@dataclass
class Limits:
    """What all operators may use together. bytes: of the store. cpu_slack: tasks beyond the CPUs that may wait in
    workers' queues, so that no worker idles while the driver looks away."""

    cpus: float
    gpus: float
    bytes: float
    reserved_ratio: float = 0.5
    cpu_slack: float = 1.0


@dataclass
class Scheduler:
    """Chooses, and remembers why it did not. One for each execution."""

    limits: Limits
    reasons: dict[int, str] = field(default_factory=dict)
    """By operator: why it did not start a task when last looked at."""
    held_back: dict[int, dict[str, int]] = field(default_factory=dict)
    """By operator: how often each reason held it back."""

    def choose(self, views: list[OperatorView], consumer_holds: bool = False) -> int | None:
        """Index of the operator whose next task to start, or None. views: in topological order, sources first.
        consumer_holds: there is output that the consumer has yet to take; then it is he who goes on, not one more task.

        Cost: one pass over the operators.
        """
        cpus = sum(view.cpus * view.running for view in views)
        gpus = sum(view.gpus * view.running for view in views)
        used = sum(view.queued_bytes + view.running_bytes for view in views if view.counts_memory)
        is_idle = not any(view.running for view in views) and not consumer_holds
        counting = [view for view in views if view.counts_memory and not view.is_done]
        share = self.limits.bytes * self.limits.reserved_ratio / max(1, len(counting))
        shared_left = self._shared_left(counting, share)
        chosen: int | None = None
        for view in reversed(views):
            reason = self._reason(view, cpus, gpus, used, share, shared_left)
            if reason in (MEMORY, OWN_SHARE, RESOURCES) and is_idle and chosen is None:
                reason = RUNNING  # Nothing else can go on: one task more than the budget, or none ever.
            self._remember(view.index, reason)
            if reason == RUNNING and chosen is None:
                chosen = view.index
        return chosen

    def _shared_left(self, counting: list[OperatorView], share: float) -> float:
        """What is left of the part of the budget that no operator has to itself."""
        beyond = sum(max(0.0, view.queued_bytes + view.running_bytes - share) for view in counting)
        return self.limits.bytes - share * len(counting) - beyond

    def _reason(
        self, view: OperatorView, cpus: float, gpus: float, used: float, share: float, shared_left: float
    ) -> str:
        if view.is_done:
            return DONE
        if not view.tasks_ready:
            return NO_INPUT
        if view.slots_free is not None and view.slots_free <= 0:
            return CONCURRENCY
        if view.cpus and cpus + view.cpus > self.limits.cpus + self.limits.cpu_slack * min(view.cpus, 1.0):
            return RESOURCES
        if view.gpus and gpus + view.gpus > self.limits.gpus:
            return RESOURCES
        if not view.counts_memory:
            return RUNNING
        if used + view.bytes_per_task > self.limits.bytes:
            return MEMORY
        own = view.queued_bytes + view.running_bytes
        if own + view.bytes_per_task > share and view.bytes_per_task > shared_left and own:
            return OWN_SHARE
        return RUNNING

    def _remember(self, index: int, reason: str) -> None:
        self.reasons[index] = reason
        if reason not in (RUNNING, NO_INPUT, DONE):
            counts = self.held_back.setdefault(index, {})
            counts[reason] = counts.get(reason, 0) + 1

    def explanation(self, index: int) -> str:
        """The reason that held an operator back most often, for `stats`; "" when nothing did."""
        counts = self.held_back.get(index)
        if not counts:
            return ""
        reason, times = max(counts.items(), key=lambda one: one[1])
        return f"{reason} ({times} times)"
