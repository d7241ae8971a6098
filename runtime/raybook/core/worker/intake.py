"""Intake: the tasks that a worker has taken in and not begun, and what becomes of them when somebody wants them back.

    a push of the bound lease                queued; bounced while the worker is blocked, or when the lease is revoked
    stolen by their owner                    the newest are bounced
    the running task blocks in get           all are bounced, and the CPU is lent out
    the raylet asks the lease back           agreed when nothing of it runs or waits here
        … to drain it                        all are bounced, and agreed when the running task has ended
    their owner is out of reach              dropped
    the worker is to end                     all are bounced, and so is what still comes

Knows nothing of what tasks do, of threads or sockets. Work is taken out of ``work`` at its front by whoever runs it,
perhaps in another thread; everything here happens on the I/O thread. Invariants: a task that was taken in is answered
exactly once, by a reply or a bounce; ``accepted`` counts what came in, ``settled`` what was answered, each written by
one thread, so the worker is idle exactly when they are equal; pushes of a revoked lease never run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from raybook.protocol.messages.raylet import Blocked, RevokeAnswer, RevokeLease, Unblocked
from raybook.protocol.messages.worker import BindLease, PushTasks, TasksBounced

EPOCH_MAX = (1 << 63) - 1
"""Later than every lease."""


class Caller(Protocol):
    """Who pushed something: one connection."""

    client_id: bytes


class Intake:
    """One per worker. send_peer(client id, message) and to_raylet(message): deliver, on the I/O thread. is_actor:
    whether the worker has become one; its calls are not given back."""

    __slots__ = (
        "_is_actor",
        "_revoked_epoch",
        "_send_peer",
        "_to_raylet",
        "_unbound_epoch",
        "accepted",
        "blocked",
        "bound_epoch",
        "draining_epoch",
        "is_retiring",
        "settled",
        "work",
    )

    def __init__(
        self,
        send_peer: Callable[[bytes, Any], None],
        to_raylet: Callable[[Any], None],
        is_actor: Callable[[], bool],
    ) -> None:
        self.work: deque[tuple[Any, Any]] = deque()
        """(Caller, task or call), or (None, an order of the raylet)."""
        self.accepted = 0
        self.settled = 0
        self.bound_epoch = 0
        self.blocked = False
        self.is_retiring = False
        """The worker ends after what runs now, and is about to say so: it is of no use to the next."""
        self._revoked_epoch = 0
        self.draining_epoch = 0
        """Lease that the raylet waits for, 0 for none."""
        self._unbound_epoch = 0
        """Newest lease that was asked back before its owner had been heard of."""
        self._send_peer = send_peer
        self._to_raylet = to_raylet
        self._is_actor = is_actor

    # In

    def bind(self, message: BindLease) -> bool:
        """An owner may push from now on. False when that lease has been revoked already."""
        if message.epoch <= self._revoked_epoch:
            return False
        self.bound_epoch = message.epoch
        return True

    def take(self, caller: Caller, message: PushTasks) -> bool:
        """Tasks were pushed. False when they went back at once."""
        epoch = message.epoch
        if epoch != self.bound_epoch or epoch <= self._revoked_epoch or self.blocked:
            reason = "blocked" if self.blocked else "revoked"
            bounced = TasksBounced([spec.task_id for spec in message.tasks], epoch, reason)
            self._send_peer(caller.client_id, bounced)
            return False
        self.accepted += len(message.tasks)
        append = self.work.append
        for spec in message.tasks:
            append((caller, spec))
        return True

    def add(self, caller: Caller | None, items: list[Any]) -> None:
        """Calls of an actor, or orders of the raylet (caller None): they are never refused."""
        self.accepted += len(items)
        append = self.work.append
        for item in items:
            append((caller, item))

    def is_idle(self) -> bool:
        """Whether nothing runs or waits here, and the worker may be given to somebody else."""
        return self.accepted == self.settled and not self._is_actor() and not self.is_retiring

    # Back

    def _taken_back(self, count: int) -> None:
        # Counted down on the accepting side: each counter has one writing thread.
        self.accepted -= count

    def steal(self, caller: Caller, count: int) -> None:
        """Bounce up to ``count`` unstarted tasks of this caller, newest first. Always answered, perhaps with none."""
        taken: list[bytes] = []
        work = self.work
        while len(taken) < count:
            try:
                item = work.pop()
            except IndexError:
                break
            if item[0] is not caller:
                work.append(item)
                break
            taken.append(item[1].task_id)
        self._taken_back(len(taken))
        self._send_peer(caller.client_id, TasksBounced(taken, self.bound_epoch, "stolen"))

    def withdraw(self, task_id: bytes) -> Any:
        """Take an unstarted task out because it was cancelled; its spec, None when it is not here or has begun."""
        for item in list(self.work):
            if item[0] is not None and item[1].task_id == task_id:
                with suppress(ValueError):  # It has begun meanwhile, in another thread.
                    self.work.remove(item)
                    self._taken_back(1)
                    return item[1]
        return None

    def bounce_unstarted(self, reason: str) -> None:
        """Give every unstarted task back to who pushed it."""
        by_peer: dict[bytes, list[bytes]] = {}
        while self.work:
            caller, item = self.work.pop()
            if caller is None:
                self.work.append((caller, item))
                break
            by_peer.setdefault(caller.client_id, []).append(item.task_id)
            self._taken_back(1)
        for client_id, task_ids in by_peer.items():
            self._send_peer(client_id, TasksBounced(task_ids[::-1], self.bound_epoch, reason))

    def bounce_early(self, caller: Caller, task_id: bytes) -> None:
        """A task was begun whose argument should have been made here before it, and was not. It is settled already."""
        self._send_peer(caller.client_id, TasksBounced([task_id], self.bound_epoch, "argument"))
        self.answer_drain()

    def on_caller_gone(self, client_id: bytes) -> None:
        """A caller is gone: what it pushed and has not started is dropped."""
        kept = [item for item in self.work if item[0] is None or item[0].client_id != client_id]
        dropped = len(self.work) - len(kept)
        if dropped:
            self.work.clear()
            self.work.extend(kept)
            self._taken_back(dropped)

    # What the raylet wants

    def on_revoke(self, message: RevokeLease) -> None:
        """Agree when nothing of the lease runs or waits here. One that is to be drained gives back what has not
        started, and agrees when the running task has ended. A lease so new that its owner has not been heard of is
        kept once: its first tasks are on their way."""
        if message.epoch > self.bound_epoch and message.epoch != self._unbound_epoch:
            self._unbound_epoch = message.epoch
            self._to_raylet(RevokeAnswer(message.epoch, False))
            return
        is_actor = self._is_actor()
        idle = self.is_idle()
        if idle or (message.drain and not is_actor):
            self._revoked_epoch = max(self._revoked_epoch, message.epoch)
        if idle or not message.drain or is_actor:
            self._to_raylet(RevokeAnswer(message.epoch, idle))
            return
        self.bounce_unstarted("revoked")
        self.draining_epoch = message.epoch
        self.answer_drain()

    def answer_drain(self) -> None:
        """Something was settled: tell the raylet, if it waits for that."""
        if self.draining_epoch and self.is_idle():
            self._to_raylet(RevokeAnswer(self.draining_epoch, True))
            self.draining_epoch = 0

    def close(self) -> None:
        """This process takes no more work: what it has not begun, and what is still on its way, goes back."""
        self._revoked_epoch = EPOCH_MAX
        self.bounce_unstarted("revoked")

    def lend(self) -> None:
        """The running task waits in get: give back what it would hold up, lend out its CPU."""
        self.blocked = True
        self._to_raylet(Blocked())
        self.bounce_unstarted("blocked")

    def unlend(self) -> None:
        """The wait is over."""
        if self.blocked:
            self.blocked = False
            self._to_raylet(Unblocked())

    # What there is

    def story(self, task_id: bytes) -> str:
        """Where a task is here, in one line; "" when it does not wait here."""
        for place, (caller, item) in enumerate(self.work):
            if caller is not None and item.task_id == task_id:
                return f"number {place + 1} of {len(self.work)} in the queue of the worker"
        return ""

    def check_invariants(self) -> None:
        """Call between two steps of everybody."""
        waiting = sum(caller is not None for caller, _ in self.work)
        assert self.accepted - self.settled >= waiting, "more work waits than was taken in"
        assert not (self.blocked and waiting and not self._is_actor()), "a blocked worker keeps work"
