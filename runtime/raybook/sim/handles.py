"""Handles: the references that user code of a simulated process has in its hands, and what it was told of each.

A handle is what an ObjectRef or an actor handle is to the owner machines: one count, given back once. The *ledger* knows
all of them in all processes, which no shipped machine does; checkers compare. Decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from raybook.base.specs import PlacementGroupSpec, RefInfo

if TYPE_CHECKING:
    from raybook.sim.process import Process


class Handle:
    """One reference in one process. via: processes through whose hands it came; if one of them crashes on the way, the
    reference may be lost with it."""

    __slots__ = ("address", "is_open", "key", "ledger", "process", "via")

    def __init__(self, ledger: Ledger, process: Process, key: bytes, address: str, via: frozenset[bytes]) -> None:
        self.ledger = ledger
        self.process = process
        self.key = key
        self.address = address
        self.via = via
        self.is_open = process.is_alive
        if self.is_open:
            ledger.handles[self] = None

    def drop(self) -> None:
        """Give the count back. Idempotent."""
        if self.is_open:
            self.is_open = False
            del self.ledger.handles[self]
            self.process.append(self.key)

    def lost(self) -> None:
        """Its process has died."""
        if self.is_open:
            self.is_open = False
            del self.ledger.handles[self]

    def info(self) -> RefInfo:
        """As it travels."""
        return RefInfo(self.key, self.address)


class TaskEntry(msgspec.Struct):
    """What is known of one submitted task or call, whoever runs it."""

    name: str
    runs_max: int
    """Times that its code may begin at most."""
    runs: int = 0
    ran_on: list[bytes] = []
    raises: bool = False
    """Its code raises, or an argument's did: an error of user code is a right answer."""
    is_cancelled: bool = False


class Ledger:
    """What truly happened."""

    def __init__(self) -> None:
        self.handles: dict[Handle, None] = {}
        self.expected: dict[bytes, int] = {}
        """Object id → the digest that its value must have."""
        self.tasks: dict[bytes, TaskEntry] = {}
        self.crashed: set[bytes] = set()
        """Processes that were killed or crashed; those that left in good order are not here."""
        self.ended_actors: set[bytes] = set()
        """Actors that ended in good order: their objects went with them, as Ray has it."""
        self.dead_nodes: dict[bytes, str] = {}
        """Nodes that the GCS has declared dead, with its reason, and those that have ended."""
        self.groups: dict[bytes, PlacementGroupSpec] = {}
        """Placement groups that were ever asked for."""
        self.ends: dict[str, int] = {}
        """How results ended, by what: a run in which nothing happens shows here."""

    def process_gone(self, process: Process) -> None:
        """Its references are gone with it."""
        for handle in [handle for handle in self.handles if handle.process is process]:
            handle.lost()

    def count(self, what: str) -> None:
        """One more end of this kind."""
        self.ends[what] = self.ends.get(what, 0) + 1
