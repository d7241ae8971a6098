"""Values: each result is the right one, each error has a cause, and no code runs more often than it may.

Right errors: of user code that raises (its own or an argument's), of what was cancelled, and, once something has gone
wrong, those that say so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from raybook.base.ids import task_of
from raybook.protocol.messages.worker import TaskSpec
from raybook.sim.checkers.violation import Violation

if TYPE_CHECKING:
    from raybook.sim.process import Process
    from raybook.sim.user import Got
    from raybook.sim.world import World

LOSSES = frozenset(
    {"WorkerCrashedError", "ActorDiedError", "ActorUnavailableError", "OwnerDiedError", "ObjectLostError"}
)
"""What a fault may cause."""
NODE_LOSSES = frozenset(
    {
        "ObjectLostError",
        "ObjectReconstructionFailedMaxAttemptsExceededError",
        "TaskUnschedulableError",
        "ActorUnschedulableError",
    }
)
"""What the death of a node may cause."""
GROUP_ENDS = frozenset({"TaskPlacementGroupRemoved", "ActorPlacementGroupRemoved"})


class Values:
    """One per world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledger = world.ledger

    def got(self, process: Process, key: bytes, got: Got, via: frozenset[bytes], actor_id: bytes = b"") -> None:
        """User code has read an object. via: whose hands it came through. actor_id: for its ``__init__``, whose arguments
        go when nobody wants it."""
        error = got.error
        if process.node.node_id in self._ledger.dead_nodes:
            # It has not heard that others hold it for dead, and have freed what it refers to; nobody listens to it.
            return
        if error is not None and actor_id and not any(handle.key == actor_id for handle in self._ledger.handles):
            return
        if error is None:
            self._ledger.count("value")
            expected = self._ledger.expected.get(key)
            if expected != got.digest:
                text = f"{process.name} read {got.digest} for {key.hex()}, which is {expected}"
                raise Violation("values", text, key)
            return
        self._ledger.count(error.code)
        if not self._is_right(key, error.code, error.text, via):
            text = f"{process.name} got {error.code} for {key.hex()} without a cause: {error.text}"
            raise Violation("values", text, key)

    def _is_right(self, key: bytes, code: str, text: str, via: frozenset[bytes]) -> bool:
        entry = self._ledger.tasks.get(task_of(key))
        if code == "task":
            return "ObjectStoreFullError" in text or (entry is not None and (entry.raises or self._is_tainted(text)))
        if code == "TaskCancelledError":
            return entry is not None and (entry.is_cancelled or self._world.has_cancelled)
        if code in ("ActorDiedError", "ActorUnavailableError") and self._world.has_killed:
            return True
        if code == "OwnerDiedError":
            gone = {process.hex() for process in self._ledger.crashed | self._ledger.ended_actors}
            if "is out of reach from here" in text:
                return bool(self._world.network.broken)
            named = re.search("process ([0-9a-f]{16}), has died", text)
            return named is not None and named[1] in gone
        if code in NODE_LOSSES and self._ledger.dead_nodes:
            return True
        if code in ("TaskUnschedulableError", "ActorUnschedulableError") and "about to leave" in text:
            return any(node.drain.why for node in self._world.nodes.values())
        if code in GROUP_ENDS:
            return self._world.has_removed_group
        if code == "ObjectLostError":
            return "At least one" in text or not self._ledger.crashed.isdisjoint(via)
        return code in LOSSES and (self._world.faults.is_disturbed or bool(self._ledger.crashed))

    def _is_tainted(self, text: str) -> bool:
        """An argument failed of something that is right by itself."""
        return self._world.has_cancelled or self._world.has_killed or bool(self._ledger.crashed)

    def begins(self, process: Process, spec: TaskSpec) -> None:
        """The code of a task is about to run."""
        entry = self._ledger.tasks[spec.task_id]
        entry.runs += 1
        entry.ran_on.append(process.client_id)
        if entry.runs > entry.runs_max > 0:
            text = (
                f"`{entry.name}` ({spec.task_id.hex()}) runs for the {entry.runs}th time; {entry.runs_max} are allowed"
            )
            raise Violation("values", text, spec.task_id)
