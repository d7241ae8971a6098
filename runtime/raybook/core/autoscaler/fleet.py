"""Fleet: every node that was asked for, from the request until the provider has forgotten it.

    ASKED → STARTING → RUNNING ⇄ RETIRING → DRAINING → ENDING → (gone)        and gone from everywhere
    asked of the provider · listed by it · joined the cluster · asked to go if idle · empties itself · being taken down

Books with rules, written by the autoscaler alone; it decides nothing. A node and an instance find each other by the
label that the provider gives its nodes; a request and an instance by the request's id, or, where a provider cannot carry
that (a replica set's pods), by type, the oldest request first. An instance that nobody asked for is taken in: so an
autoscaler that starts anew finds the nodes that are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from raybook.core.autoscaler.events import ProvidedNode

ASKED = "ASKED"
STARTING = "STARTING"
RUNNING = "RUNNING"
RETIRING = "RETIRING"
DRAINING = "DRAINING"
ENDING = "ENDING"

MOVES: dict[str, frozenset[str]] = {
    ASKED: frozenset({STARTING}),
    STARTING: frozenset({RUNNING, ENDING}),
    RUNNING: frozenset({RETIRING, ENDING}),
    RETIRING: frozenset({RUNNING, DRAINING, ENDING}),
    DRAINING: frozenset({ENDING}),
    ENDING: frozenset(),
}
"""Which state may follow which; every one may be followed by nothing."""

PENDING = (ASKED, STARTING)
JOINED = (RUNNING, RETIRING, DRAINING)
LEAVING = (RETIRING, DRAINING, ENDING)
STORY_LINES_MAX = 32


class Instance(msgspec.Struct, eq=False):
    """One node, from its request on. instance_id: the provider's name, "" until it lists it. since_ms: of the state.
    deadline_ms: of the state, if it has one."""

    number: int
    node_type: str
    request: str
    state: str
    since_ms: int
    instance_id: str = ""
    node_id: bytes = b""
    deadline_ms: int | None = None
    joined_ms: int = 0
    """When its node joined: the idle time counts from then at the earliest."""
    attempt: int = 0
    """Of retiring: a late answer names an old one."""
    tries: int = 0
    """How often the provider was asked to take it down."""
    why: str = ""
    """Why it is taken down."""
    story: list[str] = []

    @property
    def label(self) -> str:
        """For people."""
        return self.instance_id or f"{self.node_type} (request {self.request})"


class Fleet:
    """See the module."""

    def __init__(self) -> None:
        self._instances: dict[int, Instance] = {}
        self._by_id: dict[str, Instance] = {}
        self._asked: dict[int, Instance] = {}
        self._next = 0

    def __iter__(self) -> Iterator[Instance]:
        return iter(list(self._instances.values()))

    def __len__(self) -> int:
        return len(self._instances)

    def named(self, instance_id: str) -> Instance | None:
        return self._by_id.get(instance_id)

    def of_request(self, request: str) -> list[Instance]:
        """Those of a request that the provider has not listed yet."""
        return [each for each in self._asked.values() if each.request == request]

    def asked(self, node_type: str, request: str = "") -> list[Instance]:
        """Those of a type that the provider has not listed yet, the oldest first; of one request, if it is named."""
        return [each for each in self._asked.values() if each.node_type == node_type and request in ("", each.request)]

    def of_type(self, node_type: str, *states: str) -> list[Instance]:
        """Those of a type in these states, the oldest first."""
        return [each for each in self._instances.values() if each.node_type == node_type and each.state in states]

    def counts(self, *left_out: str) -> dict[str, int]:
        """How many there are of each type, in all states but these."""
        found: dict[str, int] = {}
        for each in self._instances.values():
            if each.state not in left_out:
                found[each.node_type] = found.get(each.node_type, 0) + 1
        return found

    # --- moves --------------------------------------------------------------------------------------------------------

    def ask(self, request: str, node_type: str, count: int, now_ms: int, deadline_ms: int) -> None:
        """So many were asked for."""
        for _ in range(count):
            self._add(Instance(self._next, node_type, request, ASKED, now_ms, deadline_ms=deadline_ms), now_ms)

    def listed(self, provided: ProvidedNode, now_ms: int, deadline_ms: int) -> Instance:
        """The provider has this one: a request of ours come true, or one that is taken in. deadline_ms: to join by."""
        mine = self.asked(provided.node_type, provided.request)
        if mine:
            instance = mine[0]
            self.move(instance, STARTING, now_ms, "the provider has it", deadline_ms)
        else:
            request = provided.request or "of somebody else"
            instance = Instance(self._next, provided.node_type, request, STARTING, now_ms, deadline_ms=deadline_ms)
            self._add(instance, now_ms)
        instance.instance_id = provided.instance_id
        self._by_id[provided.instance_id] = instance
        return instance

    def move(self, instance: Instance, state: str, now_ms: int, what: str, deadline_ms: int | None = None) -> None:
        """The next state, and what happened."""
        assert state in MOVES[instance.state], f"{instance.label}: {instance.state} → {state} is no move."
        instance.state, instance.since_ms, instance.deadline_ms = state, now_ms, deadline_ms
        self._asked.pop(instance.number, None)
        self.tell(instance, now_ms, f"{state}: {what}" if what else state)

    def forget(self, instances: Iterable[Instance]) -> None:
        """They are no more, or never were."""
        for each in instances:
            del self._instances[each.number]
            self._asked.pop(each.number, None)
            if self._by_id.get(each.instance_id) is each:
                del self._by_id[each.instance_id]

    def tell(self, instance: Instance, now_ms: int, what: str) -> None:
        if len(instance.story) >= STORY_LINES_MAX:
            del instance.story[1]
        instance.story.append(f"{now_ms} ms: {what}")

    def _add(self, instance: Instance, now_ms: int) -> None:
        self._instances[instance.number] = instance
        if instance.state == ASKED:
            self._asked[instance.number] = instance
        self._next += 1
        self.tell(instance, now_ms, f"{instance.state}: a {instance.node_type}, request {instance.request}")

    # --- looking ------------------------------------------------------------------------------------------------------

    def next_deadline_ms(self) -> int | None:
        return min(
            (each.deadline_ms for each in self._instances.values() if each.deadline_ms is not None), default=None
        )

    def story(self, instance_id: str) -> str:
        instance = self._by_id.get(instance_id)
        if instance is None:
            return f"There is no instance {instance_id}."
        return "\n".join([f"Instance {instance.label} is {instance.state}.", *instance.story])

    def check_invariants(self) -> None:
        """Raise AssertionError naming the first broken invariant. Cost: linear."""
        nodes: dict[bytes, str] = {}
        for each in self._instances.values():
            label = each.label
            assert bool(each.instance_id) == (each.state != ASKED), f"{label} is {each.state} with a wrong name."
            if each.instance_id:
                assert self._by_id.get(each.instance_id) is each, f"{label} is filed under another name."
            if each.node_id:
                assert each.node_id not in nodes, f"{label} and {nodes.get(each.node_id)} are one node."
                nodes[each.node_id] = label
            assert (each.deadline_ms is None) == (each.state in (RUNNING, DRAINING)), (
                f"{label} is {each.state}: deadline?"
            )
            assert each.node_id or each.state not in JOINED, f"{label} is {each.state} without a node."
        asked = [each.number for each in self._instances.values() if each.state == ASKED]
        assert asked == list(self._asked), "What was asked for is filed wrongly."
        assert len(self._by_id) == sum(bool(each.instance_id) for each in self._instances.values()), "A name too many."
