"""JobConfig: settings of one driver's work, gathered in one object for ``init(job_config=...)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raybook.api.option_checks import check_lifetime
from raybook.base.logging_config import LoggingConfig


class JobConfig:
    """runtime_env and ray_namespace are those of ``init``, which win where both are given. default_actor_lifetime: of
    actors that say nothing; "detached" is refused, because an actor without a name could never be found again.
    metadata: strings kept with the job. jvm_options and code_search_path are Java's, and refused."""

    def __init__(
        self,
        jvm_options: Sequence[str] | None = None,
        code_search_path: Sequence[str] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        _client_job: bool = False,
        metadata: Mapping[str, str] | None = None,
        ray_namespace: str | None = None,
        default_actor_lifetime: str = "non_detached",
        _disable_job_level_lineage_reconstruction: bool = False,
        _py_driver_sys_path: Sequence[str] | None = None,
    ) -> None:
        """ValueError for what raybook does not have."""
        if jvm_options or code_search_path:
            raise ValueError("jvm_options and code_search_path are for Java workers, which raybook does not have.")
        self.runtime_env = dict(runtime_env) if runtime_env is not None else {}
        self.ray_namespace = ray_namespace
        self.metadata = dict(metadata or {})
        self.py_logging_config: LoggingConfig | None = None
        self.py_driver_sys_path = list(_py_driver_sys_path or ())
        self.set_default_actor_lifetime(default_actor_lifetime)

    def set_metadata(self, key: str, value: str) -> None:
        """Keep a string with the job."""
        self.metadata[key] = value

    def set_runtime_env(self, runtime_env: Mapping[str, Any] | None, validate: bool = False) -> None:
        """Replace the runtime environment; it is checked by ``init``."""
        self.runtime_env = dict(runtime_env) if runtime_env is not None else {}

    def set_py_logging_config(self, logging_config: LoggingConfig | None = None) -> None:
        """How Python's logging looks in this driver and its workers. TypeError for another type."""
        if logging_config is not None and not isinstance(logging_config, LoggingConfig):
            raise TypeError(f"logging_config must be a raybook.LoggingConfig, got {type(logging_config)}.")
        self.py_logging_config = logging_config

    def set_ray_namespace(self, ray_namespace: str) -> None:
        """Replace the namespace."""
        self.ray_namespace = ray_namespace

    def set_default_actor_lifetime(self, default_actor_lifetime: str) -> None:
        """ValueError for anything but "non_detached"."""
        check_lifetime("default_actor_lifetime", default_actor_lifetime)
        if default_actor_lifetime == "detached":
            raise ValueError(
                "default_actor_lifetime='detached' is not supported: actors without a name could never be found, or ended, "
                "after this driver. Give each such actor name=... and lifetime='detached'."
            )
        self.default_actor_lifetime = default_actor_lifetime

    @classmethod
    def from_json(cls, job_config_json: Mapping[str, Any]) -> JobConfig:
        """From a dict with ``runtime_env``, ``metadata``, ``ray_namespace``."""
        return cls(
            runtime_env=job_config_json.get("runtime_env"),
            metadata=job_config_json.get("metadata"),
            ray_namespace=job_config_json.get("ray_namespace"),
        )
