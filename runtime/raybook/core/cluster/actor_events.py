"""What the actor table is told and what it asks for: its events (past tense) and effects (verbs).

Kept apart from the table because the shell that executes effects needs only these.
"""

from __future__ import annotations

import msgspec

from raybook.base.specs import ActorSpec
from raybook.protocol.messages.gcs import ActorInfo, ActorStateReport


class CreationRequested(msgspec.Struct, frozen=True):
    """Somebody wants an actor. ``request`` names the question, so that its answer finds the way back."""

    request: int
    spec: ActorSpec
    get_if_exists: bool = False


class KillRequested(msgspec.Struct, frozen=True):
    actor_id: bytes
    no_restart: bool = True
    graceful: bool = False
    reason: str = ""


class StateReported(msgspec.Struct, frozen=True):
    """A raylet says what became of an actor that was placed on it."""

    report: ActorStateReport


class PlacementAnswered(msgspec.Struct, frozen=True):
    """The node took the actor into its queue, or says that it can never hold it; or, ``recalled``, gave it back unbegun."""

    actor_id: bytes
    incarnation: int
    node_id: bytes
    accepted: bool
    reason: str = ""
    recalled: bool = False


class OwnerLost(msgspec.Struct, frozen=True):
    client_id: bytes
    reason: str = ""


class JobEnded(msgspec.Struct, frozen=True):
    job_id: bytes
    reason: str = ""


class NodeJoined(msgspec.Struct, frozen=True):
    """There is more to choose from: what waits for a feasible node looks again."""

    node_id: bytes


class NodeLost(msgspec.Struct, frozen=True):
    """drained: it had been announced, so what lived there costs no restart."""

    node_id: bytes
    reason: str = ""
    drained: bool = False


class NodeDraining(msgspec.Struct, frozen=True):
    """It will leave: actors that may live again begin elsewhere, each when its calls are done."""

    node_id: bytes
    reason: str


class GroupCreated(msgspec.Struct, frozen=True):
    """All bundles of a placement group are there: its actors can be placed."""

    group_id: bytes


class GroupRemoved(msgspec.Struct, frozen=True):
    group_id: bytes
    reason: str = ""


class InventoryTaken(msgspec.Struct, frozen=True):
    """Which actors a node really runs, asked after the GCS came back from its store."""

    node_id: bytes
    actor_ids: tuple[bytes, ...]


class WatchRequested(msgspec.Struct, frozen=True):
    node_id: bytes
    actor_ids: tuple[bytes, ...]
    watch: bool = True


class Place(msgspec.Struct, frozen=True):
    """Queue the actor on this node. ``restarts``: earlier lives."""

    node_id: bytes
    spec: ActorSpec
    incarnation: int
    restarts: int


class StopOn(msgspec.Struct, frozen=True):
    """End one life of an actor on this node, or take it out of the node's queue."""

    node_id: bytes
    actor_id: bytes
    incarnation: int
    graceful: bool
    reason: str


class Publish(msgspec.Struct, frozen=True):
    """The actor's row changed: tell these nodes, and whoever looks at the event table."""

    info: ActorInfo
    nodes: tuple[bytes, ...]


class PersistActor(msgspec.Struct, frozen=True):
    """Write the actor's record down before anything after this effect becomes visible."""

    actor_id: bytes


class ForgetActor(msgspec.Struct, frozen=True):
    """The oldest dead actors leave the table and the store."""

    actor_id: bytes


class AnswerCreation(msgspec.Struct, frozen=True):
    """``existing``: the actor that had the name already, None when a new one was made."""

    request: int
    existing: ActorSpec | None = None


class RefuseCreation(msgspec.Struct, frozen=True):
    """``code`` is the exception class that the creator raises."""

    request: int
    code: str
    text: str
