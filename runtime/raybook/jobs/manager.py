"""Manager: what becomes of each job. One coroutine a job, from submission to end; every change is in the GCS's key-value
table before anybody is told, so that a manager started anew goes on where the last one was.

Runs on the event loop of the jobs server, which is a driver of the cluster. Supervisors are detached actors: a server that
dies ends no job.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from functools import partial
from typing import Any

from raybook.api import get_actor, kill, remote
from raybook.api.context import started_engine
from raybook.api.environment_options import environment_from
from raybook.api.inventory import job_rows
from raybook.api.kv import kv_delete, kv_get, kv_keys, kv_put
from raybook.api.strategies import NodeAffinitySchedulingStrategy
from raybook.api.submitted_job import DRIVERS
from raybook.base.errors import RayActorError, RayError, RuntimeEnvSetupError
from raybook.jobs.records import DriverInfo, JobDetails, JobErrorType, JobInfo, JobStatus, JobType
from raybook.jobs.request import SubmitRequest
from raybook.jobs.supervisor import JobSupervisor, kill_marked

logger = logging.getLogger(__name__)

JOBS = "job_submissions"
"""Key-value namespace: submission id → JobInfo."""
SUPERVISOR_NAMESPACE = "SUPERVISOR_ACTOR_RAY_NAMESPACE"
STOP_VARIABLES = ("RAYBOOK_JOB_STOP_WAIT_TIME_S", "RAY_JOB_STOP_WAIT_TIME_S")
STOP_WAIT_S = 3.0
"""Between SIGTERM and SIGKILL (Ray's default)."""
FAILED_ENVIRONMENT = "Failed to set up runtime environment: "


class JobNotFound(LookupError):
    """There is no such job."""


class JobManager:
    """All jobs of one cluster."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobInfo] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._supervisors: dict[str, Any] = {}

    async def recover(self) -> None:
        """Read what an earlier manager knew, and go on with what has not ended."""
        for key in await _in_thread(kv_keys, JOBS):
            data = await _in_thread(kv_get, JOBS, key)
            if data is not None:
                info = JobInfo.from_json(json.loads(data))
                self._jobs[info.submission_id] = info
                if not info.status.is_terminal():
                    self._begin(self._resume(info))

    # What is asked

    async def submit(self, request: SubmitRequest) -> str:
        """Take a job on; its id. ValueError for an id that is taken."""
        submission = request.submission_id
        if submission in self._jobs:
            raise ValueError(
                f"Job with submission_id {submission} already exists. Please use a different submission_id."
            )
        info = JobInfo(
            JobStatus.PENDING,
            request.entrypoint,
            submission,
            start_time=_now_ms(),
            metadata=request.metadata,
            runtime_env=request.runtime_env,
            entrypoint_num_cpus=request.num_cpus,
            entrypoint_num_gpus=request.num_gpus,
            entrypoint_memory=request.memory,
            entrypoint_resources=request.resources,
            entrypoint_label_selector=request.label_selector,
        )
        self._jobs[submission] = info
        await self._store(info)
        self._begin(self._run(info))
        return submission

    async def stop(self, submission: str) -> bool:
        """End a job; whether it had not ended before. JobNotFound."""
        info = self.find(submission)
        if info.status.is_terminal():
            return False
        supervisor = self._supervisors.get(submission)
        if info.status is JobStatus.PENDING:
            info.become(JobStatus.STOPPED, _now_ms())
            await self._store(info)
            self._end_supervisor(submission)
        elif supervisor is not None:
            self._begin(self._stop_running(supervisor))
        return True

    async def delete(self, submission: str) -> bool:
        """Forget a job that has ended. JobNotFound; RuntimeError for one that has not."""
        info = self.find(submission)
        if not info.status.is_terminal():
            raise RuntimeError(
                f"Attempted to delete job '{submission}', but it is in a non-terminal state {info.status}. Stop it first."
            )
        del self._jobs[submission]
        await _in_thread(kv_delete, JOBS, submission.encode())
        return True

    def find(self, name: str) -> JobInfo:
        """By submission id. JobNotFound."""
        info = self._jobs.get(name)
        if info is None:
            raise JobNotFound(f"Job {name} does not exist")
        return info

    async def details(self, name: str) -> JobDetails:
        """By submission id, or the job id of a driver. JobNotFound."""
        if name in self._jobs:
            return JobDetails.of_submission(self._jobs[name], await self._driver_of(name))
        found = [details for details in await self.all_details() if details.job_id == name]
        if not found:
            raise JobNotFound(f"Job {name} does not exist")
        return found[0]

    async def all_details(self) -> list[JobDetails]:
        """Submissions, and drivers that nobody submitted."""
        own = started_engine().job_id.hex()
        rows = {row["job_id"]: row for row in await _in_thread(job_rows)}
        found = []
        for submission, info in list(self._jobs.items()):
            driver = await self._driver_of(submission, rows)
            if driver is not None:
                rows.pop(driver.id, None)
            found.append(JobDetails.of_submission(info, driver))
        for job_id, row in rows.items():
            if job_id != own:
                found.append(_of_driver(row))
        return found

    async def read_log(self, submission: str, offset: int, size: int) -> bytes:
        """A part of a job's log. JobNotFound."""
        info = self.find(submission)
        if info.log_path and os.path.exists(info.log_path):
            return await _in_thread(_read, info.log_path, offset, size)
        supervisor = self._supervisors.get(submission)
        if supervisor is None or not info.log_path:
            return b""
        try:
            return bytes(await supervisor.read_log.remote(offset, size))
        except RayActorError:
            return b""

    # A job's life

    def _begin(self, life: Any) -> None:
        task = asyncio.get_running_loop().create_task(life)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, info: JobInfo) -> None:
        """From submission to end."""
        environment = _given(info.runtime_env)
        try:
            # Local paths in it mean this machine's; their folders become archives, which takes its time.
            await _in_thread(environment_from, "runtime_env", environment)
        except (ValueError, TypeError, OSError) as error:
            await self._end(
                info, JobStatus.FAILED, FAILED_ENVIRONMENT + str(error), JobErrorType.RUNTIME_ENV_SETUP_FAILURE
            )
            return
        if info.status.is_terminal():
            return
        try:
            supervisor = self._make_supervisor(info, environment)
        except (ValueError, TypeError, RayError) as error:
            text = f"The job's supervisor could not be started: {error}"
            await self._end(info, JobStatus.FAILED, text, JobErrorType.JOB_SUPERVISOR_ACTOR_START_FAILURE)
            return
        await self._follow(info, supervisor)

    async def _resume(self, info: JobInfo) -> None:
        """Of a job that an earlier manager had begun."""
        try:
            supervisor = await _in_thread(get_actor, _actor_name(info.submission_id), SUPERVISOR_NAMESPACE)
        except ValueError:
            if info.status is JobStatus.PENDING:
                await self._run(info)
                return
            await _in_thread(kill_marked, info.submission_id)
            text = "The job's supervisor died while nobody looked after jobs; its command was ended."
            await self._end(info, JobStatus.FAILED, text, JobErrorType.JOB_SUPERVISOR_ACTOR_DIED)
            return
        await self._follow(info, supervisor)

    async def _follow(self, info: JobInfo, supervisor: Any) -> None:
        """From the supervisor's creation to the job's end, from wherever it is."""
        self._supervisors[info.submission_id] = supervisor
        config = {
            "submission_id": info.submission_id,
            "runtime_env": _given(info.runtime_env),
            "metadata": info.metadata or {},
        }
        try:
            where = await supervisor.where.remote()
            info.driver_node_id, info.log_path = where["node_id"], where["log_path"]
            if info.status.is_terminal():
                return
            await supervisor.start.remote(info.entrypoint, config)
            if info.status is JobStatus.PENDING:
                info.become(JobStatus.RUNNING, _now_ms())
                await self._store(info)
            await self._await_end(info, supervisor)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the job ends with it.
            await self._supervisor_failed(info, error)
        finally:
            self._end_supervisor(info.submission_id)

    async def _await_end(self, info: JobInfo, supervisor: Any) -> None:
        outcome = await supervisor.wait.remote()
        info.driver_exit_code = code = outcome["exit_code"]
        if outcome["is_stopped"]:
            await self._end(info, JobStatus.STOPPED)
        elif code == 0:
            await self._end(info, JobStatus.SUCCEEDED)
        else:
            how = f"exit code {code}" if code > 0 else f"signal {-code}"
            text = f"Job entrypoint command failed with {how}, last available logs:\n{outcome['log_tail']}"
            await self._end(info, JobStatus.FAILED, text, JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR)

    async def _supervisor_failed(self, info: JobInfo, error: BaseException) -> None:
        if isinstance(error, RuntimeEnvSetupError) or "runtime environment" in str(error):
            text, kind = FAILED_ENVIRONMENT + str(error), JobErrorType.RUNTIME_ENV_SETUP_FAILURE
        elif isinstance(error, RayActorError):
            text, kind = f"Job supervisor actor died: {error}", JobErrorType.JOB_SUPERVISOR_ACTOR_DIED
            await _in_thread(kill_marked, info.submission_id)
        elif isinstance(error, OSError):
            text, kind = (
                f"The entrypoint command could not be started: {error}",
                JobErrorType.JOB_ENTRYPOINT_COMMAND_START_ERROR,
            )
        else:
            text, kind = f"The job ended by an error: {error}", JobErrorType.JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE
        await self._end(info, JobStatus.FAILED, text, kind)
        if not isinstance(error, Exception):
            raise error

    async def _stop_running(self, supervisor: Any) -> None:
        wanted = next((os.environ[name] for name in STOP_VARIABLES if os.environ.get(name)), STOP_WAIT_S)
        try:
            await supervisor.stop.remote(float(wanted))
        except RayActorError:
            pass  # Its job is told so by the one who waits for it.

    async def _end(
        self, info: JobInfo, status: JobStatus, message: str | None = None, error: JobErrorType | None = None
    ) -> None:
        info.become(status, _now_ms(), message, error)
        if info.submission_id in self._jobs:
            await self._store(info)

    def _end_supervisor(self, submission: str) -> None:
        supervisor = self._supervisors.pop(submission, None)
        if supervisor is not None:
            try:
                kill(supervisor)
            except RayError:
                logger.exception("The supervisor of %s could not be ended.", submission)

    def _make_supervisor(self, info: JobInfo, environment: dict[str, Any]) -> Any:
        options: dict[str, Any] = {
            "name": _actor_name(info.submission_id),
            "namespace": SUPERVISOR_NAMESPACE,
            "lifetime": "detached",
            "num_cpus": info.entrypoint_num_cpus or 0,
            "num_gpus": info.entrypoint_num_gpus or 0,
            "memory": info.entrypoint_memory or 0,
            "resources": info.entrypoint_resources or None,
            "runtime_env": environment or None,
        }
        if info.entrypoint_label_selector:
            options["label_selector"] = info.entrypoint_label_selector
        elif not info.asks_for_resources:
            # Where its package and its log are.
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(started_engine().node_id.hex(), soft=False)
        supervisor = remote(JobSupervisor).options(
            **{name: value for name, value in options.items() if value is not None}
        )
        return supervisor.remote(info.submission_id)

    # What is kept

    async def _store(self, info: JobInfo) -> None:
        await _in_thread(kv_put, JOBS, info.submission_id.encode(), json.dumps(info.to_json()).encode())

    async def _driver_of(self, submission: str, rows: dict[str, Any] | None = None) -> DriverInfo | None:
        job_id = await _in_thread(kv_get, DRIVERS, submission.encode())
        if job_id is None:
            return None
        if rows is None:
            rows = {row["job_id"]: row for row in await _in_thread(job_rows)}
        row = rows.get(job_id.decode())
        return DriverInfo(job_id.decode(), "127.0.0.1", str(row["pid"]) if row else "")


def _of_driver(row: dict[str, Any]) -> JobDetails:
    status = JobStatus.SUCCEEDED if row["ended_ms"] else JobStatus.RUNNING
    return JobDetails(
        JobType.DRIVER,
        status,
        row["entrypoint"],
        job_id=row["job_id"],
        driver_info=DriverInfo(row["job_id"], "127.0.0.1", str(row["pid"])),
        start_time=row["started_ms"],
        end_time=row["ended_ms"] or None,
        driver_node_id=row["node_id"],
        metadata={},
        runtime_env={},
    )


def _given(runtime_env: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (runtime_env or {}).items() if value is not None}


def _actor_name(submission: str) -> str:
    return f"_ray_internal_job_actor_{submission}"


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _in_thread(function: Any, *arguments: Any) -> Any:
    """Round trips block; the loop does not wait for them."""
    return await asyncio.get_running_loop().run_in_executor(None, partial(function, *arguments))
