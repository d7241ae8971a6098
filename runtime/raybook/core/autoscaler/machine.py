"""Autoscaler: decides which nodes to add and which to remove, from what the GCS and the provider say.

It reacts to what waits, to ``request_resources`` and to the bounds of the node types, and never to how busy anything is. A
node goes when nothing has run, waited or lain on it for the idle time, when nothing that waits would go there, and when
its raylet agrees at that moment. Knows nothing of providers' ways, clocks or threads; what is laid where is the planner's.

Invariants: no launch beyond a type's largest number or the cluster's; no removal below a type's least number; nothing is
asked of a provider that has not said what it has; a node that joined is not removed before its idle time; one request, one
set of nodes, however often the provider is asked what it has. Source: Ray's autoscaler v2 (an instance has a state, and
what is wanted is compared with what is there, again and again), and its first version's ``upscaling_speed``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from raybook.core.autoscaler import events as ev
from raybook.core.autoscaler import words
from raybook.core.autoscaler.fleet import (
    ASKED,
    DRAINING,
    ENDING,
    JOINED,
    LEAVING,
    PENDING,
    RETIRING,
    RUNNING,
    STARTING,
    Fleet,
    Instance,
)
from raybook.core.autoscaler.planner import Plan, Planner
from raybook.core.autoscaler.report import bounds_of, is_idle, status_of
from raybook.core.autoscaler.settings import LAUNCHES_MIN, Settings
from raybook.core.autoscaler.sketch import Place, Sketch
from raybook.core.autoscaler.steadiness import Steadiness
from raybook.protocol.messages.scaling import (
    INSTANCE_LABEL,
    AutoscalerStatus,
    ClusterLoad,
    ShapeCount,
)

REMEMBERED_MAX = 16
"""Decisions and failures that are shown."""
FAILURE_SHOWN_MS = 30 * 60_000
"""Ray shows failures of the last half hour, too."""


class Rest(msgspec.Struct):
    """A type whose launches failed ``failures`` times in a row. text: of the last one."""

    failures: int
    until_ms: int
    text: str


class Statistics(msgspec.Struct, frozen=True):
    """How many instances are in which state."""

    asked: int
    starting: int
    running: int
    retiring: int
    draining: int
    ending: int


class Autoscaler:
    """The machine; see the module. name: in front of its requests' numbers, so that those of an autoscaler that ran before
    are not taken for its own."""

    def __init__(self, settings: Settings, name: str = "r") -> None:
        self.settings = settings
        self.name = name
        self._fleet = Fleet()
        self._steady = Steadiness(settings.patience_ms)
        self._load: ClusterLoad | None = None
        self._listed = False
        self._fresh = False
        self._trouble = ""
        self._plan = Plan()
        self._resting: dict[str, Rest] = {}
        self._absent: dict[int, int] = {}
        """Instances whose node the GCS does not mention → since when."""
        self._kept: dict[int, tuple[int, str]] = {}
        """Instances whose node did not want to go → (when to ask again, why it did not)."""
        self._said: dict[str, bool] = {}
        self._failures: deque[tuple[int, str]] = deque(maxlen=REMEMBERED_MAX)
        self._decisions: deque[tuple[int, str]] = deque(maxlen=REMEMBERED_MAX)
        self._requests = 0
        self._effects: list[Any] = []
        self._now_ms = 0
        self._edges: dict[type, Callable[[Any], None]] = {
            ev.ClusterSeen: self._cluster_seen,
            ev.InstancesSeen: self._instances_seen,
            ev.ProviderFailed: self._provider_failed,
            ev.CreateAnswered: self._create_answered,
            ev.LaunchFailed: self._launch_failed,
            ev.TerminateAnswered: self._terminate_answered,
            ev.RetireAnswered: self._retire_answered,
            ev.SettingsChanged: self._settings_changed,
        }

    def handle(self, events: Iterable[Any], now_ms: int) -> list[Any]:
        """Apply events in order, then what time brings; decide anew when the cluster was looked at. Cost: 0.1 ms with ten
        nodes, 4 ms with a thousand (benchmarks/autoscaler.py)."""
        self._now_ms = now_ms
        for event in events:
            self._edges[type(event)](event)
        self._elapse()
        if self._fresh and self._listed and self._load is not None:
            self._fresh = False
            self._decide(self._load)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline_ms(self) -> int | None:
        return self._fleet.next_deadline_ms()

    # --- what is seen -------------------------------------------------------------------------------------------------

    def _cluster_seen(self, event: ev.ClusterSeen) -> None:
        self._load = event.load
        self._fresh = True
        self._match(event.load)

    def _match(self, load: ClusterLoad) -> None:
        """Nodes find their instances, and instances lose their nodes."""
        nodes = {node.node_id: node for node in load.nodes}
        for node in load.nodes:
            instance = self._fleet.named(node.labels.get(INSTANCE_LABEL, "")) if node.alive else None
            if instance is not None and instance.state == STARTING:
                instance.node_id, instance.joined_ms = node.node_id, self._now_ms
                self._fleet.move(instance, RUNNING, self._now_ms, f"joined as node {node.node_id.hex()}")
                self._resting.pop(instance.node_type, None)
        for instance in self._fleet:
            if instance.state not in JOINED:
                continue
            seen = nodes.get(instance.node_id)
            if seen is not None and seen.alive:
                self._absent.pop(instance.number, None)
            elif seen is not None:
                died = instance.state != DRAINING
                self._take_down(instance, f"its node died: {seen.death}" if died else instance.why)
            elif self._now_ms - self._absent.setdefault(instance.number, self._now_ms) >= self.settings.absence_ms:
                self._take_down(instance, "the cluster does not know its node any more")

    def _instances_seen(self, event: ev.InstancesSeen) -> None:
        self._listed = True
        self._trouble = ""
        there: dict[str, bool] = {}
        for provided in event.instances:
            there[provided.instance_id] = True
            if self._fleet.named(provided.instance_id) is None:
                deadline_ms = self._now_ms + self.settings.join_timeout_ms
                self._fleet.listed(provided, self._now_ms, deadline_ms)
        for instance in self._fleet:
            if instance.instance_id and instance.instance_id not in there:
                self._vanished(instance)
        if self._load is not None:
            self._match(self._load)

    def _vanished(self, instance: Instance) -> None:
        """The provider does not list it any more."""
        self._forget([instance])
        if instance.state == STARTING:
            self._failed(instance.node_type, f"{instance.label} vanished before it joined")
        elif instance.state in (RETIRING, DRAINING):
            self._decided(f"Removed {instance.label} ({instance.node_type}): {instance.why}.")
        elif instance.state == RUNNING:
            self._tell(ev.WARNING, f"{instance.label} ({instance.node_type}) is gone: the provider has ended it.")

    def _provider_failed(self, event: ev.ProviderFailed) -> None:
        if event.text != self._trouble:
            self._trouble = event.text
            self._tell(ev.WARNING, f"The provider does not say which nodes it has, so none are added: {event.text}")

    def _settings_changed(self, event: ev.SettingsChanged) -> None:
        self.settings = event.settings
        self._steady.window_ms = event.settings.patience_ms
        self._fresh = self._load is not None
        self._decided(f"New bounds: {'; '.join(bounds_of(self._fleet, self.settings))}.")

    # --- answers ------------------------------------------------------------------------------------------------------

    def _create_answered(self, event: ev.CreateAnswered) -> None:
        lost = self._fleet.of_request(event.request) if event.error else []
        if lost:
            self._forget(lost)
            self._failed(lost[0].node_type, f"{len(lost)} × {lost[0].node_type}: {event.error}")

    def _launch_failed(self, event: ev.LaunchFailed) -> None:
        lost = self._fleet.asked(event.node_type, event.request)[: event.count]
        if lost:
            self._forget(lost)
            self._failed(event.node_type, f"{len(lost)} × {event.node_type}: {event.error}")

    def _terminate_answered(self, event: ev.TerminateAnswered) -> None:
        instance = self._fleet.named(event.instance_id)
        if instance is None or instance.state != ENDING or not event.error:
            return
        instance.deadline_ms = self._now_ms + self._backoff_ms(instance.tries)
        self._fleet.tell(instance, self._now_ms, f"the provider did not take it down: {event.error}")
        self._failures.append((self._now_ms, f"{instance.label} could not be taken down: {event.error}"))

    def _retire_answered(self, event: ev.RetireAnswered) -> None:
        instance = self._fleet.named(event.instance_id)
        if instance is None or instance.state != RETIRING or instance.attempt != event.attempt:
            return
        if event.accepted:
            self._fleet.move(instance, DRAINING, self._now_ms, "agreed to go")
        else:
            self._stays(instance, event.reason)

    def _stays(self, instance: Instance, reason: str) -> None:
        self._fleet.move(instance, RUNNING, self._now_ms, f"stays: {reason}")
        self._kept[instance.number] = (self._now_ms + self.settings.retire_timeout_ms, reason)

    # --- time ---------------------------------------------------------------------------------------------------------

    def _elapse(self) -> None:
        for instance in self._fleet:
            if instance.deadline_ms is None or instance.deadline_ms > self._now_ms:
                continue
            waited = words.seconds(self._now_ms - instance.since_ms)
            if instance.state == ASKED:
                self._forget([instance])
                self._failed(instance.node_type, f"the provider has made no {instance.node_type} within {waited}")
            elif instance.state == STARTING:
                self._take_down(instance, f"it has not joined the cluster within {waited}")
                self._failed(instance.node_type, f"{instance.label} has not joined the cluster within {waited}")
            elif instance.state == RETIRING:
                self._stays(instance, f"no answer within {waited}")
            else:
                self._terminate(instance)

    def _failed(self, node_type: str, text: str) -> None:
        """A launch came to nothing. Several of one request are one failure: the type rests already."""
        known = self._resting.get(node_type)
        if known is None or known.until_ms <= self._now_ms:
            failures = 1 if known is None else known.failures + 1
            until_ms = self._now_ms + self._backoff_ms(failures - 1)
            self._resting[node_type] = Rest(failures, until_ms, text)
        self._failures.append((self._now_ms, text))
        pause = words.seconds(self._resting[node_type].until_ms - self._now_ms)
        self._tell(ev.WARNING, f"A launch failed: {text}. The next try is in {pause}, if it is wanted then.")

    def _backoff_ms(self, earlier: int) -> int:
        return min(self.settings.backoff_ms << min(earlier, 16), self.settings.backoff_ms_max)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decide(self, load: ClusterLoad) -> None:
        sketch, whole = self._sketches(load)
        planner = Planner(
            self.settings, self._fleet.counts(), self._fleet.counts(*LEAVING), self._rests(), sketch, whole
        )
        planner.least()
        planner.request(load.requested)
        waiting = _merged(load)
        counts: dict[Any, int] = {group.group_id: 1 for group in load.groups}
        counts.update((key, each.count) for key, each in waiting.items())
        steady = self._steady.look(counts, self._now_ms)
        for group in load.groups:
            if group.group_id in steady:
                planner.group(group)
        planner.tasks(
            msgspec.structs.replace(each, count=steady[key]) for key, each in waiting.items() if key in steady
        )
        self._plan = planner.plan
        if not self._trouble:
            self._launch(self._plan)
        self._say_impossible()
        used = {id(place.instance): True for place in (*sketch, *whole) if place.is_used and place.instance is not None}
        self._shrink(load, used)

    def _sketches(self, load: ClusterLoad) -> tuple[Sketch, Sketch]:
        """The nodes there are and those on their way, with what is free, and as if they were empty."""
        sketch, whole = Sketch(), Sketch()
        nodes = {node.node_id: node for node in load.nodes if node.alive}
        leaving = {each.node_id: True for each in self._fleet if each.state in LEAVING}
        ours = {each.node_id: each for each in self._fleet if each.state == RUNNING}
        # Nodes that cannot be removed first: what lies there holds no node that could go.
        ordered = sorted(nodes.values(), key=lambda node: (node.node_id in ours, not node.busy))
        for node in ordered:
            if node.node_id not in leaving and not node.draining:
                mine = ours.get(node.node_id)
                name = mine.node_type if mine is not None else ""
                sketch.add(Place(name, node.total, dict(node.available), node.labels, node.node_id, mine))
                whole.add(Place(name, node.total, dict(node.total), node.labels, node.node_id, mine))
        for each in self._fleet:
            node_type = self.settings.type_named(each.node_type)
            if each.state in PENDING and node_type is not None:
                for one in (sketch, whole):
                    total = dict(node_type.resources)
                    one.add(Place(node_type.name, total, dict(total), node_type.labels, instance=each))
        return sketch, whole

    def _rests(self) -> dict[str, str]:
        found = {}
        for name, rest in self._resting.items():
            if rest.until_ms > self._now_ms:
                pause = words.seconds(rest.until_ms - self._now_ms)
                found[name] = f"the last launch of a {name} failed ({rest.text}), and the next try is in {pause}"
        return found

    def _launch(self, plan: Plan) -> None:
        pending = sum(each.state in PENDING for each in self._fleet)
        running = sum(each.state == RUNNING for each in self._fleet)
        allowed = max(LAUNCHES_MIN, int(self.settings.upscaling_speed * running)) - pending
        for launch in plan.launches:
            count = launch.count if launch.is_urgent else min(launch.count, max(0, allowed))
            allowed -= count
            if count:
                self._requests += 1
                request = f"{self.name}{self._requests}"
                deadline_ms = self._now_ms + self.settings.launch_timeout_ms
                self._fleet.ask(request, launch.node_type, count, self._now_ms, deadline_ms)
                self._effects.append(ev.CreateNodes(request, launch.node_type, count))
                self._decided(f"Adds {count} × {launch.node_type}, because {launch.why}.")
            if count < launch.count:
                self._plan.unmet.append(
                    f"{launch.count - count} more × {launch.node_type} are wanted, and come when those on their way have "
                    f"joined (upscaling_speed {self.settings.upscaling_speed:g})."
                )

    def _say_impossible(self) -> None:
        """Once, until it is asked for no more."""
        said, self._said = self._said, dict.fromkeys(self._plan.impossible, True)
        for text in self._plan.impossible:
            if text not in said:
                self._tell(ev.WARNING, text)

    # --- shrinking ----------------------------------------------------------------------------------------------------

    def _shrink(self, load: ClusterLoad, used: dict[int, bool]) -> None:
        """Remove what has been idle for its time and is wanted by nobody; of too many, also what is idle at all."""
        nodes = {node.node_id: node for node in load.nodes if node.alive}
        active = self._fleet.counts(*LEAVING)
        total = sum(active.values())
        for instance in self._fleet:
            if instance.state == STARTING and self._is_surplus(instance, active, total):
                self._take_down(instance, "there are more nodes than the bounds allow")
                active[instance.node_type] -= 1
                total -= 1
        idle = [each for each in self._fleet if each.state == RUNNING and is_idle(nodes.get(each.node_id))]
        idle.sort(key=lambda each: (-nodes[each.node_id].idle_ms, -each.number))
        for instance in idle:
            node_type = self.settings.type_named(instance.node_type)
            surplus = self._is_surplus(instance, active, total)
            least = node_type.min_nodes if node_type is not None else 0
            if active[instance.node_type] <= least or (id(instance) in used and not surplus):
                continue
            idle_ms = min(nodes[instance.node_id].idle_ms, self._now_ms - instance.joined_ms)
            wait_ms = self.settings.idle_timeout_of(node_type) if node_type is not None else 0
            if self._kept.get(instance.number, (0, ""))[0] > self._now_ms or (idle_ms < wait_ms and not surplus):
                continue
            why = "there are more nodes than the bounds allow" if surplus else f"idle for {words.seconds(idle_ms)}"
            instance.attempt += 1
            instance.why = why
            self._fleet.move(instance, RETIRING, self._now_ms, why, self._now_ms + self.settings.retire_timeout_ms)
            self._effects.append(ev.RetireIfIdle(instance.instance_id, instance.node_id, instance.attempt, why))
            active[instance.node_type] -= 1
            total -= 1

    def _is_surplus(self, instance: Instance, active: dict[str, int], total: int) -> bool:
        node_type = self.settings.type_named(instance.node_type)
        most = node_type.max_nodes if node_type is not None else 0
        return active[instance.node_type] > most or total > self.settings.max_nodes

    def _take_down(self, instance: Instance, why: str) -> None:
        instance.why = why
        self._fleet.move(instance, ENDING, self._now_ms, why, self._now_ms + self.settings.end_timeout_ms)
        self._decided(f"Removes {instance.label} ({instance.node_type}): {why}.")
        self._terminate(instance)

    def _terminate(self, instance: Instance) -> None:
        instance.tries += 1
        instance.deadline_ms = self._now_ms + self.settings.end_timeout_ms
        self._effects.append(ev.TerminateNode(instance.instance_id, instance.why))

    def _forget(self, instances: Iterable[Instance]) -> None:
        gone = list(instances)
        self._fleet.forget(gone)
        for each in gone:
            self._absent.pop(each.number, None)
            self._kept.pop(each.number, None)

    def _decided(self, text: str) -> None:
        self._decisions.append((self._now_ms, text))
        self._effects.append(ev.Tell(ev.INFO, text))

    def _tell(self, severity: str, text: str) -> None:
        self._effects.append(ev.Tell(severity, text))

    # --- looking ------------------------------------------------------------------------------------------------------

    @property
    def is_eager(self) -> bool:
        """Whether something waits or is on its way: a look soon is worth it."""
        load = self._load
        waits = load is not None and bool(load.waiting or load.groups)
        return waits or any(each.state != RUNNING for each in self._fleet)

    def status(self) -> AutoscalerStatus:
        """What it sees and has decided, for people."""
        status = status_of(self._fleet, self.settings, self._load, self._plan, self._now_ms)
        status.failures = [text for at_ms, text in self._failures if self._now_ms - at_ms < FAILURE_SHOWN_MS]
        status.decisions = [text for _, text in self._decisions]
        status.trouble = self._trouble
        return status

    def statistics(self) -> Statistics:
        states = [each.state for each in self._fleet]
        return Statistics(*(states.count(state) for state in (*PENDING, *JOINED, ENDING)))

    def story(self, key: bytes) -> str:
        """What happened to an instance; key: its name, encoded."""
        return self._fleet.story(key.decode())

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant."""
        self._fleet.check_invariants()
        assert self._listed or not len(self._fleet), "Something was asked of a provider that has not said what it has."
        for name, rest in self._resting.items():
            assert rest.failures > 0 and rest.text, f"{name} rests for nothing."


def _key_of(waiting: ShapeCount) -> Any:
    fallbacks = tuple(tuple(sorted(other.labels.items())) for other in waiting.fallbacks)
    return (tuple(sorted(waiting.shape.items())), tuple(sorted(waiting.labels.items())), fallbacks)


def _merged(load: ClusterLoad) -> dict[Any, ShapeCount]:
    """What waits, whichever node told of it."""
    found: dict[Any, ShapeCount] = {}
    for each in load.waiting:
        key = _key_of(each)
        known = found.get(key)
        count = each.count + (known.count if known is not None else 0)
        found[key] = msgspec.structs.replace(each, count=count)
    return found
