"""Responses: what ``handle.remote()`` returns: a value to come (DeploymentResponse), or a stream of them.

A response knows its assignment and the router that has it; taking its result is what ends the request there. It may be
awaited, waited for, cancelled, or passed to another handle's call, which then gets the value itself, not through here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, NoReturn

from raybook.api import cancel as cancel_ref
from raybook.api import get as get_value
from raybook.api.context import DRIVER, current_runtime
from raybook.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayTaskError, TaskCancelledError
from raybook.serve.assignment import REFUSED, WAITING, Assignment
from raybook.serve.exceptions import RayServeException, RequestCancelledError
from raybook.serve.router import Router


class _Response:
    """What both kinds share."""

    def __init__(self, router: Router, assignment: Assignment) -> None:
        self._router = router
        self._assignment = assignment

    @property
    def request_id(self) -> str:
        """The id that logs of the replica name."""
        return self._assignment.request_id

    @property
    def by_reference(self) -> bool:
        """Whether the result is an object that may be passed on by reference: here always."""
        return True

    def cancel(self) -> None:
        """Cancel the request: one that waits is never sent; one that runs gets asyncio's CancelledError. Its result, and
        the rest of its stream, raise RequestCancelledError, or TaskCancelledError when it was running. No effect
        once it is over."""
        assignment = self._assignment
        if assignment.is_cancelled:
            return
        assignment.is_cancelled = True
        if assignment.state == WAITING and self._router.cancel(assignment):
            assignment.refuse(RequestCancelledError(assignment.request_id))
        elif assignment.ref is not None:
            # Not what it submitted: its clean-up may be among that. What it awaits is cancelled by its own CancelledError.
            cancel_ref(assignment.ref, recursive=False)

    def cancelled(self) -> bool:
        """Whether ``cancel`` was called; it may have come too late."""
        return self._assignment.is_cancelled

    def _sent_ref(self, timeout_s: float | None) -> Any:
        """Block until a replica has it; its reference. Raises what refused it."""
        assignment = self._assignment
        if assignment.state == WAITING and not assignment.wait(timeout_s):
            raise TimeoutError("Timed out resolving to ObjectRef.")
        if assignment.state == REFUSED:
            assert assignment.error is not None
            raise assignment.error
        return assignment.ref

    async def _sent_ref_async(self) -> Any:
        assignment = self._assignment
        if assignment.state == WAITING:
            try:
                await assignment.settled()
            except asyncio.CancelledError:
                self.cancel()
                raise
        if assignment.state == REFUSED:
            assert assignment.error is not None
            raise assignment.error
        return assignment.ref

    def _failed(self, error: BaseException) -> BaseException:
        """Book the end of a request that failed; the error to raise."""
        assignment = self._assignment
        if isinstance(error, (ActorDiedError, ActorUnavailableError)) and not isinstance(error, RayTaskError):
            self._router.drop(assignment.slot)
        self._router.finish(assignment)
        if assignment.is_cancelled and isinstance(error, (TaskCancelledError, asyncio.CancelledError)):
            return RequestCancelledError(assignment.request_id)
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}(request_id={self.request_id!r}, {self._assignment.state.lower()})"


class DeploymentResponse(_Response):
    """One value to come. ``await`` it in a deployment, ``.result()`` elsewhere."""

    _value: Any
    _outcome: str = ""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._get().__await__()

    async def _get(self) -> Any:
        if self._outcome:
            return self._again()
        ref = await self._sent_ref_async()
        try:
            value = await ref
        except asyncio.CancelledError:
            # The one who awaits was cancelled, so nobody waits for the answer.
            self.cancel()
            self._router.finish(self._assignment)
            raise
        except Exception as error:  # noqa: BLE001 - it is booked, and raised.
            raise self._keep_error(error) from None
        return self._keep(value)

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """Block until the value is there, at most timeout_s seconds (then TimeoutError; the request goes on).
        Raises what the deployment raised; RuntimeError inside an event loop, where it would block everything."""
        if not _skip_asyncio_check:
            forbid_in_loop("Use `await response` instead.")
        if self._outcome:
            return self._again()
        start_s = time.monotonic() if timeout_s is not None else 0.0
        ref = self._sent_ref(timeout_s)
        try:
            left_s = None if timeout_s is None else max(0.0, timeout_s - (time.monotonic() - start_s))
            value = get_value(ref, timeout=left_s)
        except GetTimeoutError as error:
            if timeout_s is not None and not isinstance(error, RayTaskError):
                raise TimeoutError(
                    f"The result of request {self.request_id} is not there after {timeout_s} s."
                ) from None
            raise self._keep_error(error) from None
        except Exception as error:  # noqa: BLE001 - it is booked, and raised.
            raise self._keep_error(error) from None
        return self._keep(value)

    def _keep(self, value: Any) -> Any:
        self._value, self._outcome = value, "value"
        if not self._assignment.over:
            self._router.finish(self._assignment)
        return value

    def _keep_error(self, error: BaseException) -> BaseException:
        error = self._failed(error)
        self._value, self._outcome = error, "error"
        return error

    def _again(self) -> Any:
        if self._outcome == "error":
            raise self._value
        return self._value

    async def _to_object_ref(self) -> Any:
        """The reference of the result, once a replica has the request: to pass to tasks and actors."""
        return await self._sent_ref_async()

    def _to_object_ref_sync(self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False) -> Any:
        """The same, blocking."""
        if not _allow_running_in_asyncio_loop:
            forbid_in_loop("Use `await response._to_object_ref()` instead.")
        return self._sent_ref(_timeout_s)

    def __reduce__(self) -> NoReturn:
        raise RayServeException(
            "`DeploymentResponse` is not serializable. If you are passing the `DeploymentResponse` in a nested object "
            "(e.g. a list or dictionary) to a downstream deployment handle call, that is not supported. Please only pass "
            "`DeploymentResponse` objects as top level arguments."
        )


class DeploymentResponseGenerator(_Response):
    """A stream of values to come: ``async for`` in a deployment, ``for`` elsewhere."""

    def __await__(self) -> NoReturn:
        raise TypeError(
            "`DeploymentResponseGenerator` cannot be awaited directly. Use `async for` or `await response.__anext__()` "
            "instead."
        )

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        stream = await self._sent_ref_async()
        try:
            ref = await stream.__anext__()
            return await ref
        except StopAsyncIteration:
            self._router.finish(self._assignment)
            raise
        except asyncio.CancelledError:
            self.cancel()
            self._router.finish(self._assignment)
            raise
        except Exception as error:  # noqa: BLE001 - it is booked, and raised.
            raise self._failed(error) from None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        forbid_in_loop("Use `async for` or `await response.__anext__()` instead.")
        stream = self._sent_ref(None)
        try:
            return get_value(next(stream))
        except StopIteration:
            self._router.finish(self._assignment)
            raise
        except Exception as error:  # noqa: BLE001 - it is booked, and raised.
            raise self._failed(error) from None

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> NoReturn:
        """TypeError: a stream has no one result."""
        raise TypeError(
            "`DeploymentResponseGenerator` has no `.result()`: it is a stream of results. Iterate over it, with `for` "
            "outside of deployments and `async for` in them."
        )

    async def _to_object_ref_gen(self) -> Any:
        """The ObjectRefGenerator, once a replica has the request."""
        return await self._sent_ref_async()

    def _to_object_ref_gen_sync(
        self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False
    ) -> Any:
        """The same, blocking."""
        if not _allow_running_in_asyncio_loop:
            forbid_in_loop("Use `await response._to_object_ref_gen()` instead.")
        return self._sent_ref(_timeout_s)


def forbid_in_loop(advice: str) -> None:
    """RuntimeError inside of a running event loop. A notebook's kernel runs cells inside one, and blocking it is what a
    cell does: there it is allowed."""
    running = asyncio._get_running_loop()
    if running is not None and not (current_runtime.mode == DRIVER and _is_in_kernel()):
        raise RuntimeError(f"Sync methods should not be called from within an `asyncio` event loop. {advice}")


def _is_in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"
