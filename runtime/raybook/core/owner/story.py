"""Story: what the owner machine knows of one id, as one line for error messages and ``%ray_why``."""

from __future__ import annotations

from typing import Any

from raybook.base.ids import task_of


def explain(owner: Any, key: bytes) -> str:
    """Why an object is not ready. owner: the machine, whose module imports this one."""
    record = owner.tasks.tasks.get(task_of(key))
    if key in owner.objects.values:
        return "it is ready"
    if record is None:
        return "its owner has not answered yet" if owner.exchange.is_coming(key) else "nothing will make it ready"
    if record.unresolved:
        return f"`{record.spec.name}` waits for {record.unresolved} of its arguments"
    if record.lease is not None:
        return f"`{record.spec.name}` runs on worker process {record.lease.worker_pid}"
    if record.actor_id:
        queue = owner.actors.queues.get(record.actor_id)
        state = queue.state if queue is not None else "gone"
        return f"`{record.spec.name}` waits for its actor, which is {state}"
    if record.oom_tries and owner.oom_retries.is_waiting(record):
        return f"`{record.spec.name}` waits to be tried again, after memory ran short ({record.oom_tries} times so far)"
    return f"`{record.spec.name}` waits: {owner.leases.waiting_reason(record)}"
