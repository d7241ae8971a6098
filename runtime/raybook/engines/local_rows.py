"""Local rows: how the actors and tasks of local mode look to the state API."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from raybook.base.facts import TASK_FAILED, TASK_FINISHED
from raybook.engines.local_actors import LocalActor
from raybook.engines.local_tasks import Ended, LocalCall
from raybook.protocol.messages import gcs
from raybook.protocol.messages.survey import TASKS, ProcessAccount, Survey, SurveyReply


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


def only_job(job_id: bytes, node_id: bytes, namespace: str) -> gcs.JobList:
    """This process's work, which is all there is."""
    return gcs.JobList([gcs.JobInfo(job_id, node_id, os.getpid(), namespace, sys.argv[0])])


def task_row(call: LocalCall, ended: Ended) -> dict[str, Any]:
    """One run as its owner would tell of it in a survey."""
    end_us = ended.started_us + ended.run_us if ended.started_us else time.time_ns() // 1000
    return {
        "task_id": call.task_id.hex(),
        "name": call.name,
        "state": TASK_FINISHED if ended.error is None else TASK_FAILED,
        "attempt": 0,
        "parent": "",
        "actor_id": "",
        "call_site": "",
        "worker_pid": os.getpid(),
        "started_ms": (end_us - ended.run_us) // 1000,
        "ended_ms": end_us // 1000,
        "run_us": ended.run_us,
        "job_id": "",
    }


def survey_reply(
    request: Survey, client_id: bytes, node_id: bytes, tasks: Iterable[dict[str, Any]], objects: list[dict[str, Any]]
) -> SurveyReply:
    """This process's account, the only one."""
    rows = list(tasks)[::-1] if request.kind == TASKS else [{**row, "job_id": ""} for row in objects]
    account = ProcessAccount(client_id, os.getpid(), node_id, msgspec.msgpack.encode(rows[: request.limit]))
    return SurveyReply([account])
