"""Local testing mode: an application in this process, without a cluster: the same handles, for unit tests.

Deployments are constructed here, once each; calls run on one event loop in a thread of its own, as they would on replicas'
loops. There is no HTTP, no scaling, no limit to requests.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, NoReturn

import cloudpickle

from raybook.exceptions import RayTaskError
from raybook.serve.build_app import replace_applications, unique_name
from raybook.serve.context import RequestContext, RequestIds, request_context
from raybook.serve.deployment import Application
from raybook.serve.exceptions import RayServeException, RequestCancelledError
from raybook.serve.handle import DeploymentHandle
from raybook.serve.handle_options import HandleOptions
from raybook.serve.response import DeploymentResponse, DeploymentResponseGenerator
from raybook.serve.user_callable import UserCallable, is_stream

_THREADS = 64
_new_request_id = RequestIds()


class LocalLoop:
    """The loop that all deployments of one application run on."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="raybook-serve-local", daemon=True).start()

    def run(self, coroutine: Any) -> concurrent.futures.Future[Any]:
        """Start a coroutine there."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)


class LocalHandle(DeploymentHandle):
    """A DeploymentHandle of a deployment in this process."""

    def __init__(
        self, name: str, app_name: str, user: UserCallable, loop: LocalLoop, options: HandleOptions | None = None
    ) -> None:
        super().__init__(name, app_name, handle_options=options or HandleOptions())
        self._user = user
        self._local_loop = loop

    def _with(self, options: HandleOptions) -> DeploymentHandle:
        return LocalHandle(self.deployment_name, self.app_name, self._user, self._local_loop, options)

    def _init(self, **options: Any) -> None:
        """Nothing to find."""

    def running_replicas_populated(self) -> bool:
        """It is here."""
        return True

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """The call begins on the application's loop."""
        request_id = request_context.get().request_id or _new_request_id()
        context = RequestContext("", request_id, self.app_name, self.handle_options.multiplexed_model_id)
        if self.handle_options.stream:
            return LocalResponseGenerator(self, args, kwargs, context)
        future = self._local_loop.run(_call(self._user, self.handle_options.method_name, args, kwargs, context))
        return LocalResponse(future, request_id)

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> Any:
        """The one replica that there is."""
        return _Broadcast(getattr(self, method_name).remote(*args, **kwargs))

    def __reduce__(self) -> NoReturn:
        raise TypeError("A handle of local testing mode stays in its process.")

    __hash__ = DeploymentHandle.__hash__


class _Broadcast:
    """A broadcast's results in local testing mode."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """A list of one."""
        try:
            return [self._response.result(timeout_s=timeout_s)]
        except Exception as error:
            if not return_exceptions:
                raise
            return [error]

    async def results_async(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """The same, awaited."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            None, lambda: self.results(timeout_s=timeout_s, return_exceptions=return_exceptions)
        )


async def _call(user: UserCallable, name: str, args: tuple, kwargs: dict[str, Any], context: RequestContext) -> Any:
    request_context.set(context)
    args = tuple([await _value(each) for each in args])
    kwargs = {key: await _value(each) for key, each in kwargs.items()}
    result = await user.call(name, args, kwargs)
    if is_stream(result):
        raise TypeError(
            f"Method '{name}' returned a generator. You must use `handle.options(stream=True)` to call generators on a "
            "deployment."
        )
    return result


async def _value(argument: Any) -> Any:
    return await argument if isinstance(argument, LocalResponse) else argument


class LocalResponse(DeploymentResponse):
    """A value that is computed in this process."""

    def __init__(self, future: concurrent.futures.Future[Any], request_id: str) -> None:
        self._future = future
        self._request_id = request_id
        self._is_cancelled = False

    @property
    def request_id(self) -> str:
        """As everywhere."""
        return self._request_id

    def cancel(self) -> None:
        """The coroutine gets CancelledError."""
        self._is_cancelled = True
        self._future.cancel()

    def cancelled(self) -> bool:
        """Whether ``cancel`` was called."""
        return self._is_cancelled

    async def _get(self) -> Any:
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            if self._is_cancelled:
                raise RequestCancelledError(self._request_id) from None
            raise

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """The value; TimeoutError."""
        try:
            return self._future.result(timeout_s)
        except concurrent.futures.TimeoutError:
            if self._future.done():
                raise
            raise TimeoutError("Timed out waiting for the result.") from None
        except concurrent.futures.CancelledError:
            raise RequestCancelledError(self._request_id) from None

    async def _to_object_ref(self) -> NoReturn:
        raise NotImplementedError("Converting by-value DeploymentResponses to ObjectRefs is not supported.")

    def _to_object_ref_sync(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("Converting by-value DeploymentResponses to ObjectRefs is not supported.")

    def __repr__(self) -> str:
        return f"LocalResponse(request_id={self._request_id!r})"


class LocalResponseGenerator(DeploymentResponseGenerator):
    """A stream that is computed in this process, an item at a time."""

    def __init__(self, handle: LocalHandle, args: tuple, kwargs: dict[str, Any], context: RequestContext) -> None:
        self._loop = handle._local_loop
        self._context = context
        self._items = self._open(handle, args, kwargs)

    async def _open(self, handle: LocalHandle, args: tuple, kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        request_context.set(self._context)
        args = tuple([await _value(each) for each in args])
        name = handle.handle_options.method_name
        result = await handle._user.call(name, args, {key: await _value(each) for key, each in kwargs.items()})
        if not is_stream(result):
            raise TypeError(
                f"Called method '{name}' with `handle.options(stream=True)` but it did not return a generator."
            )
        async for item in handle._user.items(result):
            yield item

    @property
    def request_id(self) -> str:
        """As everywhere."""
        return self._context.request_id

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run(self._next()).result()
        except StopAsyncIteration:
            raise StopIteration from None

    async def _next(self) -> Any:
        return await self._items.__anext__()

    async def __anext__(self) -> Any:
        return await asyncio.wrap_future(self._loop.run(self._next()))

    def cancel(self) -> None:
        """No further items."""
        self._loop.run(self._items.aclose())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"LocalResponseGenerator(request_id={self.request_id!r})"


def build_local_app(app: Application, app_name: str) -> LocalHandle:
    """Construct every deployment of an application here; a handle of its ingress. Raises what constructors raise."""
    loop = LocalLoop()
    names: dict[int, str] = {}
    handles: dict[int, LocalHandle] = {}

    def build(each: Application) -> LocalHandle:
        if id(each) in handles:
            return handles[id(each)]
        bound = each._bound_deployment
        name = names[id(each)] = unique_name(bound.name, names.values())
        args = replace_applications(bound.init_args, build)
        kwargs = replace_applications(bound.init_kwargs, build)
        definition = bound.func_or_class
        if inspect.isfunction(definition):
            definition = cloudpickle.loads(cloudpickle.dumps(definition))
        user = UserCallable(definition, args, kwargs, _THREADS)
        loop.run(_construct(user, bound.user_config)).result()
        handles[id(each)] = LocalHandle(name, app_name, user, loop)
        return handles[id(each)]

    return build(app)


async def _construct(user: UserCallable, user_config: Any) -> None:
    await user.construct()
    if user_config is not None:
        if not user.has("reconfigure"):
            raise RayServeException("user_config was given to a deployment that has no `reconfigure` method.")
        await user.call("reconfigure", (user_config,), {})


def is_task_error(error: BaseException) -> bool:
    """Whether an error came from another process: none of local testing mode's does."""
    return isinstance(error, RayTaskError)
