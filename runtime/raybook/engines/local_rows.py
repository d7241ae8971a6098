"""Local rows: how the actors and tasks of local mode look in the state API and in the timeline."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from raybook.engines.local_actors import LocalActor
from raybook.engines.local_tasks import Ended, LocalCall
from raybook.protocol.messages import gcs


def actor_info(actor: LocalActor) -> gcs.ActorInfo:
    """One actor as the GCS would list it."""
    return gcs.ActorInfo(
        actor_id=actor.state.actor_id,
        class_name=actor.state.class_name,
        state=actor.life,
        name=actor.state.name,
        namespace=actor.state.namespace,
        pid=os.getpid(),
        incarnation=actor.restarts,
        death=actor.death.text if actor.death is not None else "",
        detached=actor.state.detached,
        resources=dict(actor.options.resources),
    )


def task_event(call: LocalCall, ended: Ended) -> dict[str, Any]:
    """One run as a Chrome-trace event."""
    end_us = ended.started_us + ended.run_us if ended.started_us else time.time_ns() // 1000
    return {
        "name": call.name,
        "cat": "task",
        "ph": "X",
        "ts": end_us - ended.run_us,
        "dur": ended.run_us,
        "pid": os.getpid(),
        "tid": threading.get_ident(),
        "args": {"task_id": call.task_id.hex(), "failed": ended.error is not None},
    }
