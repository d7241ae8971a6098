"""Composition root of a worker process, as ``head/`` is of the head: wires executor, engine and public API together.

The zygote imports this module before it forks, so that a worker costs a millisecond; ``run`` is called in the child.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from contextlib import suppress
from functools import partial

import msgspec

from raybook.api.connect import attach_engine
from raybook.api.context import WORKER
from raybook.as_ray import install_as_ray
from raybook.base.config import AS_RAY_VARIABLE
from raybook.base.logging_config import LoggingConfig
from raybook.base.specs import Job
from raybook.base.task_context import CURRENT_TASK
from raybook.engines.engine import ActorHandleState
from raybook.engines.native import NativeEngine
from raybook.protocol.messages.zygote import WorkerOptions
from raybook.worker.core_process import CoreProcess
from raybook.worker.executor import WorkerExecutor
from raybook.worker.stdio import MarkedOutput

SWITCH_INTERVAL_S = 0.0005
"""How long user code may keep the I/O thread from the interpreter: at Python's 5 ms one computing task cuts calls to
this worker from 14,000 to 230 a second, at 0.5 ms to 1,400."""


def run(options: WorkerOptions) -> None:
    """Serve until told to exit. Returns for an orderly end, after running exit handlers."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if os.environ.get(AS_RAY_VARIABLE):
        install_as_ray()
    core = CoreProcess(options.raylet_address, options.token, "worker", client_id=options.client_id)
    engine = NativeEngine(core, Job(), environment=options.runtime_env)
    executor = WorkerExecutor(core, engine.values)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, core.deferred.deferrable(signal.default_int_handler))
    executor.decode_handle = _decode_handle
    output = MarkedOutput(lambda: executor.outcome.own_repr)
    output.install()
    executor.set_job = partial(_work_for, engine, output)
    core.executor = executor
    core.on_cluster_lost = _leave
    attach_engine(engine, WORKER)
    executor.outcome.make_ref = engine.make_ref
    core.start()
    executor.run()
    with suppress(SystemExit):
        atexit._run_exitfuncs()
    core.stop()


def _decode_handle(handle: bytes) -> ActorHandleState | None:
    return msgspec.msgpack.decode(handle, type=ActorHandleState) if handle else None


def _work_for(engine: NativeEngine, output: MarkedOutput, job: Job) -> None:
    """Another driver's work comes in: find modules where it finds them."""
    output.set_job(job.job_id)
    if job is not engine.job and job != engine.job:
        if job.logging and job.logging != engine.job.logging:
            LoggingConfig.from_json(job.logging).install(partial(_speaker, engine))
        known = set(sys.path)
        sys.path.extend(path for path in job.import_paths if path not in known)
    engine.set_job(job)


def _speaker(engine: NativeEngine) -> dict[str, str]:
    """Who writes a line of the log."""
    who = {"job_id": engine.job_id.hex(), "worker_id": engine.client_id.hex(), "node_id": engine.node_id.hex()}
    task = CURRENT_TASK.get()
    if task is not None:
        who |= {"task_id": task.task_id.hex(), "task_name": task.name}
        if task.actor is not None:
            who |= {"actor_id": task.actor.actor_id.hex(), "actor_name": task.actor.name}
    return who


def _leave(reason: str) -> None:
    """The raylet is gone, and with it every reason to be here."""
    os._exit(0)
