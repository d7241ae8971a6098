"""Commands: what buttons do to a cluster, by POST to the Jupyter server and from there to the cluster's GCS.

No kernel takes part, so a button works while a cell runs. Each command is a function of the cluster and of the request's
JSON, which is checked by its type; what it returns are the answer's fields, of which
``said`` is for people.

Errors: 400 for a body that is none of the command's, 404 for no such cluster or command, 409 when the cluster refuses, 504
when it does not answer; the body has ``what`` happened and what to do ``next``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from raybook.observe import find_cluster
from raybook.observe.ending import end_head
from raybook.observe.remote import CommandRefused, OwnerProcess, RemoteCluster, start_time
from raybook_kernel.server.nodes import scale_to

STOP_S = 5.0
LOOK_S = 0.05


class Cancel(msgspec.Struct):
    """Tasks by id, or those of a cell (of a kernel), or all (of a kernel)."""

    task_ids: list[str] = []
    cell: str | int = ""
    kernel_id: str = ""
    all: bool = False
    force: bool = False


class Kill(msgspec.Struct):
    actor_id: str
    no_restart: bool = True


class TrialCommand(msgspec.Struct):
    """config: of a clone, what is different."""

    run_id: str
    trial_id: str
    config: dict[str, Any] = {}


class Scale(msgspec.Struct):
    nodes: int


class HandOver(msgspec.Struct):
    """To the kernel with this id, of this Jupyter server."""

    kernel_id: str


class Idle(msgspec.Struct):
    """seconds: after which a cluster that nothing works on ends; 0: never."""

    seconds: float


class Nothing(msgspec.Struct):
    pass


async def cancel(remote: RemoteCluster, body: Cancel) -> dict[str, Any]:
    cell = f"In[{body.cell}]" if isinstance(body.cell, int) else body.cell
    if not (body.task_ids or cell or body.all):
        raise ValueError("Say which tasks: task_ids, a cell, or all.")
    wish: dict[str, Any] = {"force": body.force}
    if body.task_ids:
        wish["task_ids"] = body.task_ids
    elif cell:
        wish["cell"] = cell
    else:
        wish["all"] = True
    if body.kernel_id:
        wish["kernel_id"] = body.kernel_id
    count = await remote.cancel(**wish)
    return {"cancelled": count, "said": f"Cancelled {count} {'task' if count == 1 else 'tasks'}."}


async def kill(remote: RemoteCluster, body: Kill) -> dict[str, Any]:
    await remote.kill_actor(body.actor_id, body.no_restart)
    return {"said": "The actor is being killed."}


def trial_command(verb: str) -> Callable[[RemoteCluster, TrialCommand], Awaitable[dict[str, Any]]]:
    """An order for the controller whose sweep it is."""

    async def command(remote: RemoteCluster, body: TrialCommand) -> dict[str, Any]:
        answers = await remote.order(verb, run_id=body.run_id, trial_id=body.trial_id, config=body.config)
        if not answers:
            raise CommandRefused(
                f"No running sweep of this cluster knows trial {body.trial_id} of {body.run_id}; it may be over."
            )
        errors = [str(answer["error"]) for answer in answers if answer.get("error")]
        if errors:
            raise CommandRefused("; ".join(errors))
        return {"answers": answers, "said": f"{verb.partition('-')[0].capitalize()} was asked for."}

    return command


async def scale(remote: RemoteCluster, body: Scale) -> dict[str, Any]:
    count = await scale_to(remote, body.nodes)
    return {"nodes": count, "said": f"The cluster has {count} {'node' if count == 1 else 'nodes'} that take work."}


async def persist(remote: RemoteCluster, body: Nothing) -> dict[str, Any]:
    await remote.set_life(None)
    return {"said": "The cluster stays until it is stopped."}


async def idle_timeout(remote: RemoteCluster, body: Idle) -> dict[str, Any]:
    if body.seconds < 0:
        raise ValueError(f"A timeout is a number of seconds, or 0 for none; got {body.seconds}.")
    await remote.set_idle_timeout(body.seconds)
    return {
        "said": f"The cluster ends when idle for {body.seconds:g} s." if body.seconds else "It ends by itself no more."
    }


async def hand_over(remote: RemoteCluster, body: HandOver, pid: int | None) -> dict[str, Any]:
    """pid: of that kernel's process, None when there is no such kernel."""
    started = start_time(pid) if pid is not None else None
    if pid is None or started is None:
        raise CommandRefused(f"This Jupyter server runs no kernel {body.kernel_id}.")
    await remote.set_life(OwnerProcess(pid, started, body.kernel_id))
    return {"said": "The cluster ends with that notebook's kernel now."}


async def stop(remote: RemoteCluster, body: Nothing) -> dict[str, Any]:
    """Ask, wait, then insist: the answer comes when the cluster is out of the registry."""
    cluster_id = remote.record.cluster_id
    loop = asyncio.get_running_loop()
    try:
        await remote.stop("somebody asked for it in Jupyter")
        deadline = loop.time() + STOP_S
        while find_cluster(cluster_id) is not None and loop.time() < deadline:
            await asyncio.sleep(LOOK_S)
    except ConnectionError:
        pass  # It does not listen; its processes are asked below.
    if find_cluster(cluster_id) is not None and not await loop.run_in_executor(None, end_head, remote.record):
        raise CommandRefused(f"The cluster {remote.record.title} (pid {remote.record.head_pid}) did not end.")
    return {"said": "The cluster has ended."}


COMMANDS: dict[str, tuple[type, Callable[[RemoteCluster, Any], Awaitable[dict[str, Any]]]]] = {
    "cancel": (Cancel, cancel),
    "kill": (Kill, kill),
    "stop-trial": (TrialCommand, trial_command("stop-trial")),
    "pause-trial": (TrialCommand, trial_command("pause-trial")),
    "resume-trial": (TrialCommand, trial_command("resume-trial")),
    "clone-trial": (TrialCommand, trial_command("clone-trial")),
    "scale": (Scale, scale),
    "stop": (Nothing, stop),
    "persist": (Nothing, persist),
    "idle-timeout": (Idle, idle_timeout),
}
"""Command → what its JSON is, and what does it."""
HAND_OVER = "hand-over"
"""The one command that has to know a kernel: which process it is."""
COMMAND_NAMES = (*COMMANDS, HAND_OVER)
