"""Questions: what raybook's API asks its GCS, answered from Ray's. What Ray cannot answer is refused by name."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import ray
from ray._private.state import available_resources_per_node
from ray._private.state import state as ray_state
from ray.core.generated import gcs_pb2
from ray.experimental import internal_kv
from ray.util.placement_group import placement_group_table

from raybook.base.facts import ACTOR_PENDING, GROUP_REMOVED
from raybook.base.resources import shape_of
from raybook.base.specs import Bundle, PlacementGroupSpec
from raybook.engines.engine import ActorHandleState
from raybook.engines.local_rows import only_job
from raybook.engines.ray.rows import task_rows
from raybook.protocol.messages import gcs
from raybook.protocol.messages.survey import TASKS, ProcessAccount, Survey, SurveyReply

SPACE = b"raybook"
_HANDLES = b"handle:"
_HEAD = "node:__internal_head__"


def answer(method: str, request: Any, engine: Any) -> Any:
    """The reply. ValueError, naming the question, for one that belongs to raybook's own runtime."""
    if isinstance(request, gcs.ListNodes):
        return gcs.NodeList(nodes())
    if isinstance(request, gcs.ListActors):
        return gcs.ActorList(actors())
    if isinstance(request, gcs.ListJobs):
        return only_job(engine.job_id, engine.node_id, engine.namespace)
    if isinstance(request, gcs.ClusterStatus):
        alive = [actor for actor in actors() if actor.state == "ALIVE"]
        return gcs.ClusterStatusReply(b"", int(time.time() * 1000), nodes(), len(alive), 1)
    if isinstance(request, gcs.ListWorkers):
        # Ray's raylets tell of their workers to its own agents alone; rows of tasks name theirs.
        return gcs.WorkerList([])
    if isinstance(request, Survey) and request.kind == TASKS:
        return _survey(request.limit, engine)
    if isinstance(request, gcs.GetFacts):
        return gcs.FactsReply(0, 1, engine.facts(), True)
    if isinstance(request, gcs.GetPlacementGroups):
        return gcs.PlacementGroupList(groups())
    if isinstance(request, gcs.GetPlacementGroup):
        wanted = [
            info
            for info in groups()
            if (
                info.spec.group_id == request.group_id
                if request.group_id
                else info.spec.name == request.name and info.state != GROUP_REMOVED
            )
        ]
        return gcs.PlacementGroupReply(wanted[0] if wanted else None)
    if isinstance(request, gcs.KvGet):
        return gcs.KvReply(internal_kv._internal_kv_get(_key(request), namespace=SPACE))
    if isinstance(request, gcs.KvPut):
        was_there = internal_kv._internal_kv_put(_key(request), request.value, request.overwrite, namespace=SPACE)
        return gcs.KvReply(added=not was_there)
    if isinstance(request, gcs.KvDelete):
        return gcs.KvReply(added=bool(internal_kv._internal_kv_del(_key(request), namespace=SPACE)))
    if isinstance(request, gcs.KvKeys):
        start = request.namespace.encode() + b"\0"
        found = internal_kv._internal_kv_list(start + request.prefix, namespace=SPACE)
        return gcs.KvReply(keys=[key.removeprefix(start) for key in found])
    raise ValueError(
        f"{method} is not to be had with engine='ray': it belongs to raybook's own runtime. Ray's dashboard and `ray` "
        "command show what its cluster does."
    )


def remember_handle(state: ActorHandleState) -> None:
    """What ``get_actor`` of another process needs to know of a named actor."""
    told = msgspec.msgpack.encode(msgspec.structs.replace(state, owner_address=""))
    internal_kv._internal_kv_put(_HANDLES + state.actor_id, told, True, namespace=SPACE)


def remembered_handle(actor_id: bytes) -> ActorHandleState | None:
    """None for an actor that raybook did not make."""
    told = internal_kv._internal_kv_get(_HANDLES + actor_id, namespace=SPACE)
    return None if told is None else msgspec.msgpack.decode(told, type=ActorHandleState)


def _key(request: Any) -> bytes:
    return request.namespace.encode() + b"\0" + request.key


def nodes() -> list[gcs.NodeInfo]:
    """Every node that Ray remembers."""
    free = available_resources_per_node()
    return [
        gcs.NodeInfo(
            node_id=bytes.fromhex(node["NodeID"]),
            hostname=node.get("NodeManagerHostname", ""),
            ip=node.get("NodeManagerAddress", ""),
            resources_total=_shape(node.get("Resources", {})),
            resources_available=_shape(free.get(node["NodeID"], {})),
            labels=dict(node.get("Labels", {})),
            is_head=_HEAD in node.get("Resources", {}),
            alive=node["Alive"],
            death_reason=node.get("DeathReasonMessage") or "",
        )
        for node in ray.nodes()
    ]


def _shape(amounts: dict[str, float]) -> dict[str, int]:
    return shape_of({name: amount for name, amount in amounts.items() if not name.startswith("node:")})


def actors() -> list[gcs.ActorInfo]:
    """Every actor that Ray remembers."""
    found = []
    for told in ray_state._connect_and_get_accessor().get_actor_table(None, None):
        row = gcs_pb2.ActorTableData.FromString(told)
        state = gcs_pb2.ActorTableData.ActorState.Name(row.state)
        found.append(
            gcs.ActorInfo(
                actor_id=row.actor_id,
                class_name=row.class_name,
                state=ACTOR_PENDING if state == "DEPENDENCIES_UNREADY" else state,
                name=row.name,
                namespace=row.ray_namespace,
                job_id=row.job_id,
                node_id=row.node_id or row.address.node_id,
                pid=row.pid,
                incarnation=row.num_restarts,
                death=_death(row),
                detached=row.is_detached,
                resources=shape_of(dict(row.required_resources)),
            )
        )
    return found


def _death(row: Any) -> str:
    """Why it died, as Ray puts it."""
    if not row.HasField("death_cause"):
        return ""
    which = row.death_cause.WhichOneof("context")
    return str(getattr(getattr(row.death_cause, which), "error_message", "")) if which else ""


def _survey(limit: int, engine: Any) -> SurveyReply:
    """Ray's GCS keeps the tasks of all processes: one account for them all."""
    rows = sorted(task_rows(ray_state._get_all_task_events()), key=lambda row: -row["created_ms"])
    told = msgspec.msgpack.encode(rows[:limit])
    account = ProcessAccount(engine.client_id, os.getpid(), engine.node_id, told, left_out=max(0, len(rows) - limit))
    return SurveyReply([account])


def groups() -> list[gcs.PlacementGroupInfo]:
    """Every placement group that Ray remembers."""
    found = []
    for group_id, row in placement_group_table().items():
        bundles = [Bundle(_shape(amounts)) for _, amounts in sorted(row["bundles"].items())]
        spec = PlacementGroupSpec(bytes.fromhex(group_id), b"", bundles, row["strategy"], row["name"])
        found.append(gcs.PlacementGroupInfo(spec, row["state"]))
    return found
