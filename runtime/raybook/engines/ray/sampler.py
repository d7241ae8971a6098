"""Sampler: looks at a Ray cluster while somebody looks at panels, and puts what it sees on the board.

Never more than one look a second, and never more than one part in fifty of a core: a look that took long is followed by a
longer pause. A look that fails (the cluster ends, an agent is busy) leaves the last picture.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import ray
from ray._private.internal_api import node_stats
from ray._private.state import state as ray_state

from raybook.base.facts import Fact
from raybook.base.resources import OBJECT_STORE_MEMORY, to_user
from raybook.engines.ray import questions
from raybook.engines.ray.board import Board
from raybook.engines.ray.rows import task_facts, task_rows

PAUSE_S = 1.0
SHARE = 0.02
"""Of a core, at most."""
NODES_MAX = 16
"""Nodes whose stores are asked in one look, one after the other in turns."""
KINDS = frozenset({"node", "actor", "task", "task_group", "store", "placement_group"})

log = logging.getLogger(__name__)


class Sampler:
    """One thread while at least one subscription is there."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._stores: dict[str, Fact] = {}
        self._turn = 0
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._looking = threading.Lock()
        self._looked_at = -PAUSE_S

    def start(self) -> None:
        """Somebody looks. Idempotent."""
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name="raybook-ray-sampler")
            self._thread.start()

    def pause(self) -> None:
        """Nobody looks."""
        self._wanted.clear()

    def close(self) -> None:
        """No look after this; blocks until a running one is over, two seconds at most."""
        self._stopped.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(2.0)

    def look(self) -> None:
        """One look, now, unless the last one is less than a second old. Blocks for as long as Ray takes."""
        with self._looking:
            if time.monotonic() - self._looked_at >= PAUSE_S and not self._stopped.is_set():
                try:
                    self._board.replace(KINDS, self._picture())
                finally:
                    self._looked_at = time.monotonic()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            if self._stopped.is_set():
                return
            began_s = time.thread_time()
            try:
                self.look()
            except Exception:
                # Whatever Ray's insides raise: a panel that stands still is no reason to end anything.
                log.debug("A look at Ray failed.", exc_info=True)
            self._stopped.wait(max(PAUSE_S, (time.thread_time() - began_s) / SHARE))

    def _picture(self) -> list[Fact]:
        nodes = questions.nodes()
        facts = [Fact("node", node.node_id.hex(), _node_row(node)) for node in nodes]
        facts += [Fact("actor", info.actor_id.hex(), _actor_row(info)) for info in questions.actors()]
        facts += [Fact("placement_group", info.spec.group_id.hex(), _group_row(info)) for info in questions.groups()]
        facts += task_facts(task_rows(ray_state._get_all_task_events()))
        return facts + self._look_at_stores()

    def _look_at_stores(self) -> list[Fact]:
        """Of some nodes in turn; the others as they were."""
        alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"])
        here = {node["NodeID"] for node in alive}
        self._stores = {key: fact for key, fact in self._stores.items() if key in here}
        count = min(NODES_MAX, len(alive))
        for offset in range(count):
            node = alive[(self._turn + offset) % len(alive)]
            found = _store_row(node)
            if found is not None:
                self._stores[node["NodeID"]] = Fact("store", node["NodeID"], found)
        self._turn += count
        return list(self._stores.values())


def _store_row(node: dict[str, Any]) -> dict[str, Any] | None:
    """None when the node does not tell: it may go at any time, and gRPC is an extra of Ray's."""
    try:
        stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], False).store_stats
    except Exception:
        log.debug("A node did not tell of its store.", exc_info=True)
        return None
    return {
        "used_bytes": stats.object_store_bytes_used,
        "capacity_bytes": stats.object_store_bytes_avail or int(node["Resources"].get(OBJECT_STORE_MEMORY, 0)),
        "objects": stats.num_local_objects,
    }


def _node_row(node: Any) -> dict[str, Any]:
    return {
        "node_id": node.node_id.hex(),
        "alive": node.alive,
        "address": node.ip,
        "hostname": node.hostname,
        "is_head": node.is_head,
        "resources_total": to_user(node.resources_total),
        "resources_available": to_user(node.resources_available),
        "death": node.death_reason,
    }


def _actor_row(info: Any) -> dict[str, Any]:
    return {
        "actor_id": info.actor_id.hex(),
        "class_name": info.class_name,
        "name": info.name,
        "namespace": info.namespace,
        "state": info.state,
        "pid": info.pid,
        "node_id": info.node_id.hex(),
        "restarts": info.incarnation,
        "death": info.death,
        "detached": info.detached,
    }


def _group_row(info: Any) -> dict[str, Any]:
    return {
        "group_id": info.spec.group_id.hex(),
        "name": info.spec.name,
        "state": info.state,
        "strategy": info.spec.strategy,
        "bundles": [to_user(bundle.shape) for bundle in info.spec.bundles],
        "nodes": [],
    }
