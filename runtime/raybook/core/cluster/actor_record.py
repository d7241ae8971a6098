"""Actor record: everything the cluster knows of one actor, and the views of it that others get to see.

Also the form in which an actor is stored. Decides nothing; ``actor_table`` writes it.
"""

from __future__ import annotations

import msgspec

from raybook.base.errors import ACTOR_DIED, INIT_FAILED
from raybook.base.facts import ACTOR_ALIVE, ACTOR_DEAD
from raybook.base.specs import ActorSpec
from raybook.protocol.messages.gcs import ActorInfo, ActorStateReport

RESTARTS_FOREVER = -1
STORY_LINES_MAX = 32
KILLED_BY_USER = "The actor is dead because it was killed by `ray.kill`."
NODE_DIED = "The actor is dead because its node has died."
ALL_HANDLES_GONE = "The actor is dead because all references to the actor were removed."
_SAID_ALONE = frozenset({"ActorUnschedulableError", "RuntimeEnvSetupError"})
"""Codes of actors that could never live: there was no death to describe."""


class ActorRecord(msgspec.Struct):
    """One actor. ``incarnation`` numbers its lives, ``restarts_used`` those that count against ``max_restarts``."""

    spec: ActorSpec
    state: str
    incarnation: int = 0
    restarts_used: int = 0
    node_id: bytes = b""
    """Where it lives or is queued; b"" while it waits for a feasible node."""
    accepted: bool = False
    info: ActorInfo | None = None
    """The row others see, rebuilt at every change."""
    death: str = ""
    death_payload: bytes = b""
    death_code: str = ""
    """Exception class that calls raise once it is dead; "" for ActorDiedError."""
    pid: int = 0
    waiting: str = ""
    ending: str = ""
    """Why it ends after its queued calls; such an actor has no name and no further life."""
    moving: str = ""
    """Why its node drains, while the next life is to begin elsewhere."""
    refusals: dict[bytes, str] = {}
    """Nodes that said they can never hold this life of it, with their reasons."""
    story: list[str] = []

    def tell(self, what: str, now_ms: int) -> None:
        """Add a line to the story; the first one, its creation, stays."""
        if len(self.story) >= STORY_LINES_MAX:
            del self.story[1]
        self.story.append(f"{now_ms} ms: {what}")


def row_of(actor: ActorRecord) -> ActorInfo:
    """The row that others see. Its endpoint is the one the present row has, for an actor that is ALIVE."""
    spec = actor.spec
    limit = spec.max_restarts
    alive = actor.state == ACTOR_ALIVE
    return ActorInfo(
        actor_id=spec.actor_id,
        class_name=spec.class_name,
        state=actor.state,
        name=spec.name,
        namespace=spec.namespace,
        job_id=spec.job_id,
        node_id=actor.node_id,
        endpoint=actor.info.endpoint if alive and actor.info is not None else None,
        pid=actor.pid if alive or actor.state == ACTOR_DEAD else 0,
        incarnation=actor.incarnation,
        restarts_left=RESTARTS_FOREVER if limit == RESTARTS_FOREVER else limit - actor.restarts_used,
        death=actor.death,
        death_payload=actor.death_payload,
        detached=spec.detached,
        waiting=actor.waiting,
        resources=spec.resources,
        death_code=actor.death_code,
        moving=bool(actor.moving),
    )


def death_text(info: ActorInfo) -> str:
    """What every call of a dead actor fails with. Its first line and the phrases of the last are Ray's: people and
    programs look for them."""
    if info.death_payload:
        return f"{INIT_FAILED}{info.death}"
    if info.death_code in _SAID_ALONE:
        return info.death
    lines = [ACTOR_DIED, f"\tclass_name: {info.class_name}", f"\tactor_id: {info.actor_id.hex()}"]
    lines += [f"\tpid: {info.pid}"] if info.pid else []
    lines += [f"\tname: {info.name}"] if info.name else []
    lines += [f"\tnamespace: {info.namespace}"] if info.namespace else []
    lines.append(info.death)
    if info.class_name and not info.pid:
        lines.append("The actor never ran - it was cancelled before it started running.")
    return "\n".join(lines)


def ended_because(report: ActorStateReport) -> str:
    """The reason of a death that a raylet reports."""
    if report.creation_failed:
        return report.reason
    return f"The actor is dead because its worker process has died. {report.reason}".rstrip()


def moves_because(reason: str) -> str:
    """Why a life ends on a node that drains."""
    return f"Its node is being drained ({reason}); the actor begins anew on another one."


def name_taken(holder: ActorSpec) -> str:
    """Why an actor of the same name cannot be made."""
    return (
        f"The name {holder.name!r} is already taken in namespace {holder.namespace!r} by actor {label_of(holder)}. "
        f"Choose another name, pass get_if_exists=True, or end the other actor first."
    )


def label_of(spec: ActorSpec) -> str:
    """Class, name and id, for messages."""
    named = f" {spec.name!r}" if spec.name else ""
    return f"{spec.class_name}{named} ({spec.actor_id.hex()})"


def without_creation(spec: ActorSpec) -> ActorSpec:
    """The spec without the bytes that only its worker needs."""
    return msgspec.structs.replace(spec, creation=b"")
