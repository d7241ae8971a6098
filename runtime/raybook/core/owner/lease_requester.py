"""Lease requester: which queued task goes to which leased worker, and how many leases to ask for.

One group for each scheduling class, with a queue of resolved tasks and the leases it holds. Short tasks are pipelined
up to ``pipeline_target_us`` of estimated work a worker; a function that was never measured goes alone, and so does a
task that has no retry to lose, or has lost one. A worker that
makes no progress, or says that it is blocked, is *stalled*: its unstarted tasks come back and it gets no more until it
replies. A task whose only missing argument is made by a task in flight is pushed right behind that one: the value never
leaves the worker on its way. Knows nothing of sockets, values or retries.

The end of a lease comes by another socket than the replies of its worker, and may overtake them. So what is in flight
then stays so until its reply or bounce has come or the worker is out of reach (everything it said has been read).

Invariants: a task is in one queue or in flight under one lease; in flight ≤ the depth limit; no push to a stalled
lease. Source: lease reuse is Ray's; adaptive depth and steal-back are ours (a fixed depth delays behind slow tasks).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raybook.base.config import Config
from raybook.base.specs import Job, SchedulingClass
from raybook.core.owner.lease_group import Ended, Group, Lease
from raybook.core.owner.locality import Locality
from raybook.core.owner.records import PushTo, TaskRecord, ToPeer, ToRaylet
from raybook.protocol.messages.raylet import LeaseGranted, LeaseLost, ReturnLease, SetDemand
from raybook.protocol.messages.worker import BindLease, PushTasks, StealTasks

OVERHEAD_US = 10.0
"""Estimated cost of a task in a worker beside the user's code, so that no-ops do not look free."""

STALL_MS = 20
"""A worker with unstarted tasks that has not answered for this long gives them back. Ten times the pipeline target."""

PREFETCH_US_MAX = 15_000.0
"""Functions up to this long have one more task waiting at the worker while there is a backlog, so that it does not idle
for a round trip after each (5 % of a map of 10 ms tasks). Below ``STALL_MS``, so that a worker that
is on time is not stalled."""

LAST_WORDS_MS = 1_000
"""A dead worker's socket that is still open (in a child it forked) is not waited for any longer than this."""

UNREACHABLE_MS = 5_000
"""So much longer than the death of a node takes to be known, a worker out of reach is waited for: without the raylet's
word by then, it is not dead."""

DEMAND_MAX = 1_000
"""More leases than this are never asked for at once: one message, and no node runs more processes."""


class Statistics(msgspec.Struct, frozen=True):
    queued: int
    in_flight: int
    leases: int
    demand: int


class LeaseRequester:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._unreachable_ms = UNREACHABLE_MS + config.health_check_timeout_ms
        self.job = Job()
        self.locality: Locality | None = None
        """Set where there are other nodes."""
        self._groups: dict[SchedulingClass, Group] = {}
        self._last: tuple[SchedulingClass | None, Group | None] = (None, None)
        """The last task's class and group: a loop of calls names the same one, and hashing it costs 0.5 µs."""
        self._by_key: dict[int, Group] = {}
        self._next_key = 0
        self._leases: dict[int, Lease] = {}
        self._ending: dict[int, Lease] = {}
        """Leases that are over, with tasks that may still be answered."""
        self.dirty: dict[int, Group] = {}
        """Groups that changed in this batch in a way that ``act`` should look at."""

    # What happened

    def enqueue(self, record: TaskRecord) -> None:
        """A task whose arguments are all there."""
        if self.locality is not None and record.held is not None:
            self.locality.aim(record)
        what, group = self._last
        if group is None or what is not record.scheduling_class:
            what = record.scheduling_class
            group = self._group_of(record)
            self._last = (what, group)
        group.queue.append(record)
        self.dirty[group.class_key] = group

    def _group_of(self, record: TaskRecord) -> Group:
        group = self._groups.get(record.scheduling_class)
        if group is None:
            group = Group(self._next_key, record.scheduling_class)
            self._next_key += 1
            self._groups[record.scheduling_class] = self._by_key[group.class_key] = group
        return group

    def _forget(self, group: Group) -> None:
        """Nothing waits and no lease is left. Every placement group is a class of its own, so they would pile up."""
        self._last = (None, None)
        self._by_key.pop(group.class_key, None)
        if self._groups.get(group.scheduling_class) is group:
            del self._groups[group.scheduling_class]

    def follow(self, producer: TaskRecord | None, record: TaskRecord) -> None:
        """A task that waits for results of ``producer`` alone: it may be pushed right behind it, on the same worker."""
        if producer is None or producer.actor_id or producer.spec.num_returns < 0:
            return
        if producer.scheduling_class is not record.scheduling_class:
            if producer.scheduling_class != record.scheduling_class:
                return
        lease: Lease | None = producer.lease
        if lease is not None:
            lease.following.append((producer, record))
            lease.group.has_followers = True
            self.dirty[lease.group.class_key] = lease.group
        elif producer.followers is None:
            producer.followers = [record]
        else:
            producer.followers.append(record)

    def requeue(self, record: TaskRecord) -> None:
        """A task that came back unstarted, or is tried again: to the front, it has waited longest."""
        record.lease = None
        group = self._group_of(record)
        group.queue.appendleft(record)
        self.dirty[group.class_key] = group

    def withdraw(self, record: TaskRecord) -> bool:
        """Take a queued task out (it was cancelled). False when it is not queued. Cost: a walk over its queue."""
        group = self._groups.get(record.scheduling_class)
        if group is None:
            return False
        try:
            group.queue.remove(record)
        except ValueError:
            return False
        self.dirty[group.class_key] = group
        return True

    def granted(self, granted: LeaseGranted, now_ms: int, effects: list) -> None:
        """A lease arrived; perhaps of a class that wants none any more, while that word was on its way."""
        group = self._by_key.get(granted.class_key)
        if group is None:
            effects.append(ToRaylet(ReturnLease(granted.lease_id)))
            return
        lease = Lease(group, granted, now_ms)
        group.leases[lease.lease_id] = lease
        group.infeasible = ""
        group.demand_sent = max(0, group.demand_sent - 1)
        self._leases[lease.lease_id] = lease
        self.dirty[group.class_key] = group
        bind = BindLease(lease.epoch, lease.assignment, self.job)
        effects.append(ToPeer(lease.worker.client_id, lease.worker.address, bind))

    def lost(self, message: LeaseLost, now_ms: int) -> list[Ended]:
        """A lease ended. Returns its tasks if they cannot be answered any more; of a worker that died, each may have begun.
        Else they come back by ``bounced``, ``out_of_reach`` or ``overdue``."""
        lease = self._leases.pop(message.lease_id, None)
        if lease is None:
            return []
        group = lease.group
        group.leases.pop(lease.lease_id, None)
        self.dirty[group.class_key] = group
        if lease.in_flight and not lease.out_of_reach:
            lease.lost, lease.lost_ms = message, now_ms
            self._ending[lease.lease_id] = lease
            return []
        return [Ended(message, self._abandon(lease), lease.cut_off)]

    def out_of_reach(self, client_id: bytes, now_ms: int, is_cut_off: bool = False) -> list[Ended]:
        """No more comes from a worker: the unanswered tasks of its ended leases. Those of a lease that has not ended wait
        for the raylet's word on why, but not for ever. is_cut_off: not all that it said has been read."""
        for leases in (self._leases, self._ending):
            for lease in leases.values():
                if lease.worker.client_id == client_id:
                    lease.cut_off = lease.cut_off or is_cut_off
                    if leases is self._leases:
                        lease.out_of_reach, lease.lost_ms = True, now_ms
        return self._abandon_ending(lambda lease: lease.worker.client_id == client_id)

    def overdue(self, now_ms: int) -> list[Ended]:
        """The same for workers that died a while ago, with a socket that somebody else keeps open."""
        return self._abandon_ending(
            lambda lease: lease.lost.died and now_ms - lease.lost_ms >= LAST_WORDS_MS if lease.lost else False
        )

    def _abandon_ending(self, chosen: Callable[[Lease], bool]) -> list[Ended]:
        ended = [lease for lease in self._ending.values() if chosen(lease)]
        for lease in ended:
            del self._ending[lease.lease_id]
        return [Ended(lease.lost, self._abandon(lease), lease.cut_off) for lease in ended if lease.lost is not None]

    @staticmethod
    def _abandon(lease: Lease) -> list[TaskRecord]:
        records = list(lease.in_flight.values())
        lease.in_flight.clear()
        for record in records:
            record.lease = None
            record.stats.in_flight -= 1
        return records

    def answered(self, record: TaskRecord, now_ms: int) -> None:
        """A reply came for a task pushed under a lease."""
        lease: Lease = record.lease
        if lease is None:
            return
        record.lease = None
        in_flight = lease.in_flight
        if in_flight.pop(record.spec.task_id, None) is None:
            return
        lease.stalled = False
        lease.progress_ms = now_ms
        if in_flight:
            self._settle(lease, record)
        else:
            # What ``_settle`` does for the last one.
            record.stats.in_flight -= 1
            lease.cost_us = 0.0
            lease.unmeasured = 0
            lease.idle_since_ms = now_ms
            if self._ending:
                self._ending.pop(lease.lease_id, None)
        group = lease.group
        if group.queue or group.has_followers or len(group.leases) > 1:
            self.dirty[group.class_key] = group

    def bounced(self, record: TaskRecord, blocked: bool) -> None:
        """A worker gave a task back unstarted; it is in no queue now. ``blocked``: the worker waits in get and takes
        nothing for now."""
        lease: Lease = record.lease
        if lease is not None and lease.in_flight.pop(record.spec.task_id, None) is not None:
            self._settle(lease, record)
            if not lease.in_flight:
                self._ending.pop(lease.lease_id, None)
            lease.stealing = False
            lease.stalled = lease.stalled or blocked
            self.dirty[lease.group.class_key] = lease.group

    def steal_answered(self, client_id: bytes) -> None:
        """A worker answered a steal request (perhaps with nothing)."""
        for lease in self._leases.values():
            if lease.worker.client_id == client_id:
                lease.stealing = False
                self.dirty[lease.group.class_key] = lease.group

    @staticmethod
    def _settle(lease: Lease, record: TaskRecord) -> None:
        stats = record.stats
        stats.in_flight -= 1
        stats.changed = True
        if lease.in_flight:
            average = stats.average_us
            if average >= 0:
                lease.cost_us = max(0.0, lease.cost_us - average - OVERHEAD_US)
            lease.unmeasured = max(0, lease.unmeasured - 1) if lease.unmeasured else 0
        else:
            lease.cost_us = 0.0
            lease.unmeasured = 0

    def infeasible(self, class_key: int, text: str) -> int:
        """The cluster can never serve a class; how many tasks wait for it."""
        group = self._by_key.get(class_key)
        if group is None:
            return 0
        group.infeasible = text
        return len(group.queue)

    def refused(self, class_key: int) -> list[TaskRecord]:
        """A class will never run, and its demand is gone; the tasks that queue for it, which end with that."""
        group = self._by_key.get(class_key)
        if group is None:
            return []
        records = list(group.queue)
        group.queue.clear()
        group.demand_sent = 0
        self.dirty[class_key] = group
        return records

    # What to do

    def act(self, now_ms: int, effects: list) -> None:
        """Push what can be pushed, ask for what is missing. Called after each batch of events that changed something."""
        dirty = list(self.dirty.values())
        self.dirty.clear()
        for group in dirty:
            queue = group.queue
            if queue or group.has_followers:
                self._assign(group, now_ms, effects)
            if len(group.leases) > 1 and not queue:
                self._balance(group, now_ms, effects)
            if len(queue) != group.demand_sent:
                self._demand(group, effects)
            if not group.queue and not group.leases:
                self._forget(group)

    def _assign(self, group: Group, now_ms: int, effects: list) -> None:
        queue = group.queue
        if len(queue) == 1 and not group.has_followers and queue[0].followers is None:
            # A loop of sync calls: always this. The first worker that does nothing gets the task.
            for lease in group.leases.values():
                if not (lease.in_flight or lease.stalled or lease.unmeasured or lease.out_of_reach):
                    record = queue.popleft()
                    self._send_off(lease, record)
                    lease.progress_ms = now_ms
                    worker, message = lease.worker, PushTasks(lease.epoch, [record.spec])
                    effects.append(PushTo(worker.client_id, worker.address, message, [record]))
                    return
        usable = [
            lease
            for lease in group.leases.values()
            if not lease.stalled and not lease.unmeasured and not lease.out_of_reach
        ]
        if not usable:
            return
        usable.sort(key=_load)
        share = max(1, -(-(len(queue) + sum(len(lease.in_flight) for lease in usable)) // len(usable)))
        depth_max = min(self._config.pipeline_depth_max, share)
        for lease in usable:
            batch: list[TaskRecord] = []
            if lease.following:
                self._take_followers(lease, batch)
            while queue and self._take(lease, queue[0], depth_max, batch):
                queue.popleft()
                if lease.following:
                    self._take_followers(lease, batch)
            if batch:
                if len(batch) == len(lease.in_flight):
                    lease.progress_ms = now_ms
                message = PushTasks(lease.epoch, [record.spec for record in batch])
                effects.append(PushTo(lease.worker.client_id, lease.worker.address, message, batch))
        group.has_followers = any(lease.following for lease in group.leases.values())

    def _take(self, lease: Lease, record: TaskRecord, depth_max: int, batch: list[TaskRecord]) -> bool:
        """Put one task in flight under a lease, if it may be."""
        in_flight = lease.in_flight
        if in_flight:
            average = record.stats.average_us
            if len(in_flight) >= depth_max or goes_alone(record) or lease.unmeasured:
                return False
            is_next = len(in_flight) == 1 and lease.cost_us <= PREFETCH_US_MAX and average <= PREFETCH_US_MAX
            if lease.cost_us + average > self._config.pipeline_target_us and not is_next:
                return False
        self._send_off(lease, record)
        batch.append(record)
        if record.followers is not None:
            lease.following.extend((record, follower) for follower in record.followers)
            record.followers = None
        return True

    @staticmethod
    def _send_off(lease: Lease, record: TaskRecord) -> None:
        """A task is in flight from here on."""
        stats = record.stats
        average = stats.average_us
        if average < 0 or not record.retries_left or record.spec.attempt:
            # What ``goes_alone`` says.
            lease.unmeasured = 1
        if average >= 0:
            lease.cost_us += average + OVERHEAD_US
        lease.in_flight[record.spec.task_id] = record
        record.lease = lease
        stats.in_flight += 1
        stats.changed = True

    def _take_followers(self, lease: Lease, batch: list[TaskRecord]) -> None:
        """Push what follows a task in flight here. Who follows one that has ended or moved waits or queues already."""
        following = lease.following
        depth_max = self._config.pipeline_depth_max
        while following:
            producer, record = following[0]
            if producer.lease is lease and record.lease is None and record.unresolved > 0 and not record.cancelled:
                if not self._take(lease, record, depth_max, batch):
                    return
            following.popleft()

    def _balance(self, group: Group, now_ms: int, effects: list) -> None:
        """An idle worker beside a backlog: take half of the longest one back."""
        idle = any(not lease.in_flight and not lease.stalled for lease in group.leases.values())
        if not idle:
            return
        longest = max(group.leases.values(), key=_load)
        # Those that follow another task here could not run anywhere else.
        unstarted = sum(not record.unresolved for record in longest.in_flight.values()) - 1
        if unstarted < 1 or longest.stealing or longest.cost_us < 4 * OVERHEAD_US * unstarted:
            return
        longest.stealing = True
        effects.append(ToPeer(longest.worker.client_id, longest.worker.address, StealTasks((unstarted + 1) // 2)))

    def _demand(self, group: Group, effects: list) -> None:
        wanted = min(len(group.queue), DEMAND_MAX)
        sent = group.demand_sent
        if wanted > sent or (wanted == 0 and sent) or wanted < sent // 4:
            group.demand_sent = wanted
            name = group.queue[0].spec.name if group.queue else ""
            effects.append(ToRaylet(SetDemand(group.class_key, group.scheduling_class, wanted, name)))

    def tick(self, now_ms: int, effects: list) -> None:
        """Give idle leases back; take unstarted tasks from workers that make no progress."""
        idle_ms = self._config.lease_idle_ms
        for lease in list(self._leases.values()):
            if not lease.in_flight:
                if now_ms - lease.idle_since_ms >= idle_ms:
                    self._leases.pop(lease.lease_id)
                    lease.group.leases.pop(lease.lease_id)
                    self.dirty[lease.group.class_key] = lease.group
                    effects.append(ToRaylet(ReturnLease(lease.lease_id, worker_broken=lease.out_of_reach)))
            elif lease.out_of_reach:
                if now_ms - lease.lost_ms >= self._unreachable_ms:
                    self._give_up(lease, effects)
            elif len(lease.in_flight) > 1 and not lease.stalled and now_ms - lease.progress_ms >= STALL_MS:
                lease.stalled = True
                lease.stealing = True
                count = len(lease.in_flight) - 1
                effects.append(ToPeer(lease.worker.client_id, lease.worker.address, StealTasks(count)))

    def _give_up(self, lease: Lease, effects: list) -> None:
        """Its worker lives and cannot be talked to: its raylet ends it, and its tasks are those of a dead worker."""
        del self._leases[lease.lease_id]
        lease.group.leases.pop(lease.lease_id, None)
        self.dirty[lease.group.class_key] = lease.group
        effects.append(ToRaylet(ReturnLease(lease.lease_id, worker_broken=True)))
        lease.lost = LeaseLost(lease.lease_id, died=True, reason="nothing could be sent to it, so raybook ended it.")
        lease.lost_ms -= LAST_WORDS_MS
        self._ending[lease.lease_id] = lease

    def next_deadline_ms(self) -> int | None:
        deadlines = []
        for lease in self._leases.values():
            if not lease.in_flight:
                deadlines.append(lease.idle_since_ms + self._config.lease_idle_ms)
            elif lease.out_of_reach:
                deadlines.append(lease.lost_ms + self._unreachable_ms)
            elif len(lease.in_flight) > 1 and not lease.stalled:
                deadlines.append(lease.progress_ms + STALL_MS)
        for lease in self._ending.values():
            if lease.lost is not None and lease.lost.died:
                deadlines.append(lease.lost_ms + LAST_WORDS_MS)
        return min(deadlines) if deadlines else None

    def return_all(self, effects: list) -> None:
        """Shutting down: withdraw all demand."""
        for group in self._by_key.values():
            if group.demand_sent:
                effects.append(ToRaylet(SetDemand(group.class_key, group.scheduling_class, 0)))

    # What there is

    def waiting_reason(self, record: TaskRecord) -> str:
        """Why a queued task has not started, for people."""
        group = self._groups.get(record.scheduling_class)
        if group is None:
            return "its arguments are not ready"
        return group.infeasible or f"it queues for a worker; {len(group.queue)} tasks of its class are queued"

    def statistics(self) -> Statistics:
        return Statistics(
            queued=sum(len(group.queue) for group in self._by_key.values()),
            in_flight=sum(len(lease.in_flight) for leases in (self._leases, self._ending) for lease in leases.values()),
            leases=len(self._leases),
            demand=sum(group.demand_sent for group in self._by_key.values()),
        )

    def check_invariants(self) -> None:
        seen: set[bytes] = set()
        for group in self._by_key.values():
            for record in group.queue:
                assert record.lease is None, "a queued task believes it is in flight"
                assert record.spec.task_id not in seen, "a task is queued twice"
                seen.add(record.spec.task_id)
            for lease in group.leases.values():
                assert self._leases.get(lease.lease_id) is lease, "a group holds a lease that is gone"
                assert len(lease.in_flight) <= self._config.pipeline_depth_max, "pipeline too deep"
                for task_id, record in lease.in_flight.items():
                    assert record.lease is lease, "a task in flight points to another lease"
                    assert task_id not in seen, "a task is both queued and in flight"
                    seen.add(task_id)


def _load(lease: Lease) -> int:
    return len(lease.in_flight)


def goes_alone(record: TaskRecord) -> bool:
    """Of several in flight under a worker that died, nobody knows which had begun, and each is charged with a retry: so what
    has none to lose goes alone, and so does what has been charged, and what was never measured."""
    return record.stats.average_us < 0 or not record.retries_left or record.spec.attempt > 0
