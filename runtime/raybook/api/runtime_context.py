"""Runtime context: who and where the running code is. Reads the task context and the engine; changes nothing."""

from __future__ import annotations

import json
import os
from typing import Any

from raybook.api.actor_handle import ActorHandle
from raybook.api.context import current_engine
from raybook.api.placement_group import get_current_placement_group
from raybook.api.public_ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID, WorkerID
from raybook.api.state import nodes
from raybook.api.strategies import captured
from raybook.base.environments import as_user_dict, environment_of
from raybook.base.resources import GPU, to_user
from raybook.base.runtime_env import RuntimeEnv
from raybook.base.task_context import CURRENT_TASK, ActorContext, TaskContext
from raybook.engines.engine import Engine

OTHER_ACCELERATORS = ("TPU", "neuron_cores", "HPU", "NPU", "RBLN", "FURIOSA", "MBLT", "TTNPU")
"""Resources that Ray hands out by id, and raybook by amount."""


class NotInAnActor(RuntimeError, AssertionError):
    """Something was asked that only an actor has. Ray asserts some of these, and programs expect either."""


class RuntimeContext:
    """A view: every method answers for the task that asks. Ids are hexadecimal strings, None where there is none."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_job_id(self) -> str:
        """The id of the job (one driver's work)."""
        return self._engine.job_id.hex()

    def get_node_id(self) -> str:
        """The id of the node this runs on."""
        return self._engine.node_id.hex()

    def get_worker_id(self) -> str:
        """The id of this process."""
        return self._engine.client_id.hex()

    def get_task_id(self) -> str | None:
        """The id of the running task or actor call; None in a driver."""
        task = CURRENT_TASK.get()
        return task.task_id.hex() if task is not None and task.task_id else None

    def get_task_name(self) -> str | None:
        """Its name."""
        task = CURRENT_TASK.get()
        return task.name if task is not None else None

    def get_attempt_number(self) -> int:
        """How often this task was tried before."""
        task = CURRENT_TASK.get()
        return task.attempt if task is not None else 0

    def get_actor_id(self) -> str | None:
        """The id of the actor this runs in."""
        actor = _actor()
        return actor.actor_id.hex() if actor is not None else None

    def get_actor_name(self) -> str | None:
        """The name of the actor this runs in: "" when it has none, None outside actors."""
        actor = _actor()
        return actor.name if actor is not None else None

    @property
    def current_actor(self) -> ActorHandle:
        """A handle of the actor this runs in. It does not keep the actor alive, here or where it is passed: an actor
        that holds itself would never end. RuntimeError outside actors."""
        actor = _actor()
        if actor is None or actor.state is None:
            raise RuntimeError("This method is only available in an actor: current_actor.")
        return ActorHandle(actor.state.weakened(), self._engine)

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor has lived before. RuntimeError (also an AssertionError, as in Ray) outside actors."""
        actor = _actor()
        if actor is None:
            raise NotInAnActor("was_current_actor_reconstructed is only there inside a method of an actor.")
        return actor.restarts > 0

    @property
    def namespace(self) -> str:
        """The namespace in which names of actors are looked up."""
        return self._engine.namespace

    def get_assigned_resources(self) -> dict[str, float]:
        """What the running task or actor holds, by resource; empty in a driver."""
        task = CURRENT_TASK.get()
        return to_user(task.assignment.resources) if task is not None and task.assignment is not None else {}

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The ids of the accelerators assigned here, as strings, by kind. raybook hands out GPUs alone."""
        return {GPU: [str(index) for index in assigned_gpus()], **{kind: [] for kind in OTHER_ACCELERATORS}}

    def get_placement_group_id(self) -> str | None:
        """The id of the placement group this runs in; None outside of groups."""
        group = get_current_placement_group()
        return None if group is None else group.id.hex()

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of this process, with what it inherited; {} for the plain one."""
        return as_user_dict(environment_of(self._engine.environment))

    def get_runtime_env_string(self) -> str:
        """The same as JSON."""
        return json.dumps(self.runtime_env)

    @property
    def gcs_address(self) -> str:
        """Where the GCS serves."""
        return self._engine.gcs_address

    def get_session_name(self) -> str:
        """The name of the session's folder."""
        return os.path.basename(self._engine.session_dir)

    def get_temp_dir(self) -> str:
        """The folder of all sessions."""
        return os.path.dirname(self._engine.session_dir)

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this node (one round trip)."""
        own = self.get_node_id()
        return next((dict(node["Labels"]) for node in nodes() if node["NodeID"] == own), {})

    def is_canceled(self) -> bool:
        """Whether somebody cancelled this task, for code that looks now and then. RuntimeError in a driver and in async
        actors, where a cancel arrives as asyncio's own."""
        task = CURRENT_TASK.get()
        if task is None:
            raise RuntimeError("is_canceled() is only there inside a task; a driver cannot be cancelled.")
        if task.actor is not None and task.actor.is_async:
            raise RuntimeError("is_canceled() is not for async actors: there a cancel raises asyncio.CancelledError.")
        return task.is_cancelled

    def get_task_function_name(self) -> str | None:
        """Module and qualified name of the function or method that runs; None in a driver."""
        task = CURRENT_TASK.get()
        if task is None:
            return None
        module, name = (getattr(task.function, each, None) for each in ("__module__", "__qualname__"))
        return f"{module}.{name}" if name else task.name

    def get_resource_ids(self) -> dict[str, list[str]]:
        """As ``get_accelerator_ids``."""
        return self.get_accelerator_ids()

    # Ray's older names: objects instead of strings.

    @property
    def job_id(self) -> JobID:
        """As ``get_job_id``, as an id."""
        return JobID(self._engine.job_id)

    @property
    def node_id(self) -> NodeID:
        """As ``get_node_id``, as an id."""
        return NodeID(self._engine.node_id)

    @property
    def worker_id(self) -> WorkerID:
        """As ``get_worker_id``, as an id."""
        return WorkerID(self._engine.client_id)

    @property
    def task_id(self) -> TaskID:
        """As ``get_task_id``, as an id; nil in a driver."""
        text = self.get_task_id()
        return TaskID.from_hex(text) if text else TaskID.nil()

    @property
    def actor_id(self) -> ActorID | None:
        """As ``get_actor_id``, as an id; None outside actors."""
        text = self.get_actor_id()
        return ActorID.from_hex(text) if text else None

    @property
    def current_placement_group_id(self) -> PlacementGroupID | None:
        """As ``get_placement_group_id``, as an id."""
        text = self.get_placement_group_id()
        return PlacementGroupID.from_hex(text) if text else None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks that are submitted from here run in the placement group of this one."""
        return captured() is not None

    def get(self) -> dict[str, Any]:
        """The ids that are there, in one dict."""
        known: dict[str, Any] = {
            "job_id": self.job_id,
            "node_id": self.node_id,
            "namespace": self.namespace,
            "task_id": self.task_id if self.get_task_id() else None,
            "actor_id": self.actor_id,
        }
        return {name: value for name, value in known.items() if value is not None}

    def __repr__(self) -> str:
        return "RuntimeContext(" + ", ".join(f"{name}={value!r}" for name, value in self.get().items()) + ")"


def get_runtime_context() -> RuntimeContext:
    """Who and where this code is; starts raybook if need be."""
    return RuntimeContext(current_engine())


def get_gpu_ids() -> list[int]:
    """The GPUs assigned to this task or actor; empty in a driver. Starts raybook if need be."""
    current_engine()
    return assigned_gpus()


def assigned_gpus() -> list[int]:
    """As ``get_gpu_ids``, without an engine."""
    task: TaskContext | None = CURRENT_TASK.get()
    if task is None or task.assignment is None:
        return []
    return [instance[0] for instance in task.assignment.instances.get(GPU, ())]


def _actor() -> ActorContext | None:
    task = CURRENT_TASK.get()
    return task.actor if task is not None else None
