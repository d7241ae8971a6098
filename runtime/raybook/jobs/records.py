"""Records: what is known of a job, as the manager keeps it and as clients get it. Names and words are Ray's."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any


class JobStatus(str, Enum):
    """Where a job is. ``is_terminal()``: it will not change any more."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    STOPPED = "STOPPED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    def __str__(self) -> str:
        return self.value

    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in (JobStatus.STOPPED, JobStatus.SUCCEEDED, JobStatus.FAILED)


class JobType(str, Enum):
    """How a job began."""

    SUBMISSION = "SUBMISSION"
    """By the Jobs API."""
    DRIVER = "DRIVER"
    """By a driver that connected."""

    def __str__(self) -> str:
        return self.value


class JobErrorType(str, Enum):
    """Whose fault a FAILED is."""

    RUNTIME_ENV_SETUP_FAILURE = "RUNTIME_ENV_SETUP_FAILURE"
    JOB_SUPERVISOR_ACTOR_START_TIMEOUT = "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
    JOB_SUPERVISOR_ACTOR_START_FAILURE = "JOB_SUPERVISOR_ACTOR_START_FAILURE"
    JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE = "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"
    JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE = "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"
    JOB_SUPERVISOR_ACTOR_DIED = "JOB_SUPERVISOR_ACTOR_DIED"
    JOB_ENTRYPOINT_COMMAND_START_ERROR = "JOB_ENTRYPOINT_COMMAND_START_ERROR"
    JOB_ENTRYPOINT_COMMAND_ERROR = "JOB_ENTRYPOINT_COMMAND_ERROR"

    def __str__(self) -> str:
        return self.value


NOT_STARTED = "Job has not started yet."
WAITING_FOR_RESOURCES = (
    " It may be waiting for resources (CPUs, GPUs, memory, custom resources) to become available: the entrypoint asked for "
    "some."
)
WAITING_FOR_ENVIRONMENT = " It may be waiting for the runtime environment to be set up."
MESSAGES = {
    JobStatus.RUNNING: "Job is currently running.",
    JobStatus.STOPPED: "Job was intentionally stopped.",
    JobStatus.SUCCEEDED: "Job finished successfully.",
    JobStatus.FAILED: "Job failed.",
}


@dataclass
class JobInfo:
    """One submission, as the manager keeps it. Times are Unix milliseconds. log_path: on the supervisor's node."""

    status: JobStatus
    entrypoint: str
    submission_id: str = ""
    message: str | None = None
    error_type: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    metadata: dict[str, str] | None = None
    runtime_env: dict[str, Any] | None = None
    entrypoint_num_cpus: float | None = None
    entrypoint_num_gpus: float | None = None
    entrypoint_memory: int | None = None
    entrypoint_resources: dict[str, float] | None = None
    entrypoint_label_selector: dict[str, str] | None = None
    driver_agent_http_address: str | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None
    log_path: str = ""

    def __post_init__(self) -> None:
        if self.message is None:
            self.message = self._default_message()

    def _default_message(self) -> str:
        if self.status is not JobStatus.PENDING:
            return MESSAGES[self.status]
        text = NOT_STARTED
        if self.asks_for_resources:
            text += WAITING_FOR_RESOURCES
        return text + WAITING_FOR_ENVIRONMENT if self.runtime_env else text

    @property
    def asks_for_resources(self) -> bool:
        """Whether the command itself needs some."""
        return any(
            (self.entrypoint_num_cpus, self.entrypoint_num_gpus, self.entrypoint_memory, self.entrypoint_resources)
        )

    def become(
        self, status: JobStatus, now_ms: int, message: str | None = None, error: JobErrorType | None = None
    ) -> None:
        """The next state. Whoever has ended stays ended."""
        if self.status.is_terminal():
            return
        self.status = status
        self.message = message or MESSAGES[status]
        self.error_type = str(error) if error is not None else None
        if status is JobStatus.RUNNING:
            self.start_time = now_ms
        elif status.is_terminal():
            self.end_time = now_ms

    def to_json(self) -> dict[str, Any]:
        """For storage and the wire."""
        return {**asdict(self), "status": str(self.status)}

    @classmethod
    def from_json(cls, json_dict: dict[str, Any]) -> JobInfo:
        """The other way; fields of later versions are left out."""
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in json_dict.items() if name in known}
        return cls(**{**kept, "status": JobStatus(json_dict["status"])})


@dataclass
class DriverInfo:
    """The latest driver of a job. id: of its job."""

    id: str
    node_ip_address: str
    pid: str


@dataclass
class JobDetails:
    """What clients get. job_id: of the driver; submission_id: None for one that nobody submitted."""

    type: JobType
    status: JobStatus
    entrypoint: str
    job_id: str | None = None
    submission_id: str | None = None
    driver_info: DriverInfo | None = None
    message: str | None = None
    error_type: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    metadata: dict[str, str] | None = None
    runtime_env: dict[str, Any] | None = None
    driver_agent_http_address: str | None = None
    driver_node_id: str | None = None
    driver_exit_code: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the wire."""
        return {**asdict(self), "type": str(self.type), "status": str(self.status)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> JobDetails:
        """The other way; fields of later versions are left out."""
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in data.items() if name in known}
        driver = kept.get("driver_info")
        kept["driver_info"] = DriverInfo(**driver) if driver else None
        return cls(**{**kept, "type": JobType(data["type"]), "status": JobStatus(data["status"])})

    @classmethod
    def of_submission(cls, info: JobInfo, driver: DriverInfo | None) -> JobDetails:
        """Of a job of the Jobs API."""
        known = {field.name for field in fields(cls)}
        shared = {name: value for name, value in vars(info).items() if name in known}
        job_id = driver.id if driver is not None else None
        return cls(**shared, type=JobType.SUBMISSION, job_id=job_id, driver_info=driver)
