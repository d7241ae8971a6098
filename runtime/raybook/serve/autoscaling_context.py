"""AutoscalingContext: what a custom autoscaling policy is shown."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from raybook.serve.core.names import DeploymentID


class AutoscalingContext:
    """Of one deployment at one moment. Numbers of requests are over the look-back window; metrics may be given as
    functions, which are then called at first use."""

    def __init__(
        self,
        deployment_id: DeploymentID,
        deployment_name: str,
        app_name: str | None,
        current_num_replicas: int,
        target_num_replicas: int,
        running_replicas: list[Any],
        total_num_requests: float | Callable[[], float],
        total_queued_requests: float | Callable[[], float] | None,
        aggregated_metrics: Any,
        raw_metrics: Any,
        capacity_adjusted_min_replicas: int,
        capacity_adjusted_max_replicas: int,
        policy_state: dict[str, Any],
        last_scale_up_time: float | None,
        last_scale_down_time: float | None,
        current_time: float | None,
        config: Any,
    ) -> None:
        self.deployment_id = deployment_id
        self.deployment_name = deployment_name
        self.app_name = app_name
        self.current_num_replicas = current_num_replicas
        self.target_num_replicas = target_num_replicas
        self.running_replicas = running_replicas
        self.capacity_adjusted_min_replicas = capacity_adjusted_min_replicas
        self.capacity_adjusted_max_replicas = capacity_adjusted_max_replicas
        self.policy_state = policy_state
        self.last_scale_up_time = last_scale_up_time
        self.last_scale_down_time = last_scale_down_time
        self.current_time = current_time
        self.config = config
        self._given = {
            "requests": total_num_requests,
            "queued": total_queued_requests,
            "aggregated": aggregated_metrics,
            "raw": raw_metrics,
        }

    def _value(self, name: str) -> Any:
        value = self._given[name]
        return value() if callable(value) else value

    @cached_property
    def aggregated_metrics(self) -> Any:
        """Custom metrics: name → replica → number."""
        return self._value("aggregated")

    @cached_property
    def raw_metrics(self) -> Any:
        """Custom metrics as they came."""
        return self._value("raw")

    @cached_property
    def total_num_requests(self) -> float:
        """Requests that run or wait."""
        return self._value("requests")

    @cached_property
    def total_queued_requests(self) -> float:
        """Requests that wait with their callers."""
        return self._value("queued")

    @property
    def total_running_requests(self) -> float:
        """The difference."""
        return max(0.0, self.total_num_requests - self.total_queued_requests)
