"""Exceptions of Serve, under Ray's names. All but cancellation are of the family "the service cannot now"."""

from __future__ import annotations

from typing import Any

from raybook.exceptions import TaskCancelledError
from raybook.serve.core.names import DeploymentID


class RayServeException(Exception):
    """What Serve itself reports."""


class gRPCStatusError(RayServeException):
    """An exception of a deployment that had set a gRPC status code before: it travels with the code."""

    def __init__(self, original_exception: BaseException, code: Any = None, details: str | None = None) -> None:
        super().__init__(original_exception, code, details)
        self._original_exception = original_exception
        self._grpc_code = code
        self._grpc_details = details

    @property
    def original_exception(self) -> BaseException:
        """What was raised."""
        return self._original_exception

    @property
    def grpc_code(self) -> Any:
        """The code that the deployment set, if any."""
        return self._grpc_code

    @property
    def grpc_details(self) -> str | None:
        """The details that it set, if any."""
        return self._grpc_details

    def __str__(self) -> str:
        return str(self._original_exception)


class BackPressureError(RayServeException):
    """A handle has ``max_queued_requests`` waiting already; the request was not sent. Try again later, or allow more."""

    def __init__(
        self,
        num_queued_requests: int,
        max_queued_requests: int,
        status_code: int = 503,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(num_queued_requests, max_queued_requests, status_code, retry_after_s)
        self._message = (
            f"Request dropped due to backpressure (num_queued_requests={num_queued_requests}, "
            f"max_queued_requests={max_queued_requests})."
        )
        self._status_code = status_code
        self._retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self._message

    @property
    def message(self) -> str:
        """The text."""
        return self._message

    @property
    def status_code(self) -> int:
        """What HTTP clients get: 503 or 429."""
        return self._status_code

    @property
    def retry_after_s(self) -> float | None:
        """The Retry-After header, in seconds; None: no header."""
        return self._retry_after_s


class RequestCancelledError(RayServeException, TaskCancelledError):
    """The request was cancelled, by ``response.cancel()`` or because its caller was."""

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__(request_id)
        self._request_id = request_id

    def __str__(self) -> str:
        return f"Request {self._request_id} was cancelled." if self._request_id else "Request was cancelled."


class DeploymentUnavailableError(RayServeException):
    """The deployment failed to deploy, or was deleted: there is nobody to answer."""

    def __init__(self, deployment_id: DeploymentID, reason: str = "") -> None:
        super().__init__(deployment_id, reason)
        self._deployment_id = deployment_id
        self._reason = reason or "it failed to deploy"

    @property
    def message(self) -> str:
        """The text."""
        return f"{self._deployment_id} is unavailable because {self._reason}."

    def __str__(self) -> str:
        return self.message


class ReplicaUnavailableError(RayServeException):
    """The chosen replica is gone."""

    def __init__(self, replica_id: str) -> None:
        super().__init__(replica_id)
        self._replica_id = replica_id

    @property
    def message(self) -> str:
        """The text."""
        return f"Replica {self._replica_id} is no longer available."

    def __str__(self) -> str:
        return self.message
