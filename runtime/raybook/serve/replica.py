"""Replica: the actor that holds one instance of a deployment and answers its requests.

    handle_request   one call, one value                     handle_http    one HTTP request, one whole response or the
    handle_stream    one call, a stream of values                           name of a stream, which `http_stream` gives
The methods of group "control" run on a loop of their own, so that code of the user's that blocks hides nothing from the
controller. Invariants: at most `max_ongoing_requests` requests run at once, further ones wait in the order of arrival;
after `prepare_for_shutdown` answers, none runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from raybook.api import get_runtime_context, method
from raybook.api.context import current_engine
from raybook.api.kv import kv_get
from raybook.serve import handover
from raybook.serve.code_pickle import load_with_path
from raybook.serve.context import (
    NO_REQUEST,
    ReplicaContext,
    ReplicaRank,
    RequestContext,
    replica_context,
    request_context,
    set_replica_context,
)
from raybook.serve.core.names import NAMESPACE, DeploymentID, ReplicaID
from raybook.serve.core.target import Settings
from raybook.serve.exceptions import RayServeException, gRPCStatusError
from raybook.serve.grpc_util import RayServegRPCContext
from raybook.serve.request_log import RequestLog
from raybook.serve.user_callable import UserCallable, is_stream

CONTROL = "control"
CONTROL_CALLS = 64
UNIX_PATH_MAX = 108
GIVING_BACK_S = 15.0
"""How long connections may take to be idle; less than the 20 s that a replica has to end, by default."""


class Replica:
    """Made by the controller, which then calls ``initialize`` once."""

    def __init__(self, full_id: str, code_version: str) -> None:
        self._id = ReplicaID.from_full_id_str(full_id)
        self._code_version = code_version
        self._settings = Settings()
        self._loop = asyncio.get_running_loop()
        self._user: UserCallable | None = None
        self._running = 0
        self._limit = 1
        self._line: deque[asyncio.Future[None]] = deque()
        self._last_sample = (0.0, 0)
        self._app_name = self._id.deployment_id.app_name
        self.log = RequestLog(self._id)
        self.http: Any = None
        self._door: Any = None
        self._door_path = ""
        self._direct: Any = None

    @property
    def deployment_id(self) -> DeploymentID:
        """Whose replica this is."""
        return self._id.deployment_id

    @property
    def unique_id(self) -> str:
        """Its name among them."""
        return self._id.unique_id

    # Life

    async def initialize(
        self, blob_key: bytes, settings: Settings, rank: int, world_size: int, takes_http: bool
    ) -> dict[str, Any]:
        """Make the user's object and give it its configuration. takes_http: it will be asked over HTTP. Raises what its
        constructor raises."""
        self._settings, self._limit = settings, settings.max_ongoing_requests
        self.log.configure(settings.logging_config)
        blob = kv_get(NAMESPACE, blob_key)
        if blob is None:
            raise RayServeException(f"The code of {self._id} is not in the cluster's store any more; deploy it again.")
        definition, args, kwargs, ingress = load_with_path(blob)
        if callable(ingress):
            # An ASGI application around the class: it is made here, where starlette is needed, and not before.
            definition = ingress(definition)
        self._user = UserCallable(definition, args, kwargs, self._limit)
        context = ReplicaContext(self._id, None, settings, ReplicaRank(rank), world_size, self._code_version)
        set_replica_context(context)
        if inspect.isclass(definition):
            # The constructor may ask for the context, and so for its own object, that is being made.
            context.servable_object = definition
        await self._user.construct()
        context.servable_object = self._user.instance
        if settings.user_config is not None:
            await self._reconfigure_user(settings.user_config)
        if takes_http:
            self._open_door()
        return self._facts()

    def _open_door(self) -> None:
        """Let the proxies of this machine bring connections (`direct_ingress`)."""
        path = os.path.join(current_engine().session_dir, f"serve-{self.unique_id}")
        if len(path) < UNIX_PATH_MAX:
            self._door_path, self._door = path, handover.listen(path)
            self._loop.add_reader(self._door.fileno(), self._let_in)
            # Not at the top: uvicorn and starlette take 0.2 s to import. Here, while the proxy imports the same, and not
            # while the first request waits.
            from raybook.serve.direct_ingress import DirectIngress, load_http

            load_http()
            self._direct = DirectIngress(self)

    def _let_in(self) -> None:
        assert self._door is not None
        try:
            link, _ = self._door.accept()
        except OSError:
            return
        self._direct.link(link)

    async def _close_door(self) -> None:
        if self._door is not None:
            self._loop.remove_reader(self._door.fileno())
            self._door.close()
            self._door = None
            with contextlib.suppress(OSError):
                os.unlink(self._door_path)
        if self._direct is not None:
            await self._direct.end(GIVING_BACK_S)

    @method(concurrency_group=CONTROL)
    async def facts(self) -> dict[str, Any]:
        """What a controller that has just started asks of replicas that it finds. RuntimeError before `initialize`."""
        if self._user is None or self._user.instance is None:
            raise RuntimeError("This replica has not been initialized.")
        return {**self._facts(), "settings": self._settings}

    def _facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "node_id": get_runtime_context().get_node_id(),
            "door": self._door_path,
            **self._asgi_facts(),
        }

    def _asgi_facts(self) -> dict[str, Any]:
        app = getattr(self._user.instance if self._user else None, "_asgi_app", None)
        return {"docs_path": getattr(app, "docs_url", None)}

    async def reconfigure(self, settings: Settings, rank: int, world_size: int) -> None:
        """New settings for a running replica; the user's ``reconfigure`` is called if its part changed."""
        before, self._settings = self._settings, settings
        self._limit = settings.max_ongoing_requests
        assert self._user is not None
        self._user.resize(self._limit)
        self.log.configure(settings.logging_config)
        context = replica_context()
        if context is not None:
            context.rank, context.world_size, context._deployment_config = ReplicaRank(rank), world_size, settings
        if settings.user_config != before.user_config:
            await self._reconfigure_user(settings.user_config)
        while self._line and self._running < self._limit:
            self._wake_next()

    async def _reconfigure_user(self, user_config: Any) -> None:
        assert self._user is not None
        if not self._user.has("reconfigure"):
            if self._user.instance is None:
                return
            raise RayServeException(
                f"user_config was given to {self._id.deployment_id}, which has no `reconfigure(user_config)` method to "
                "take it. Add one to the class, or leave user_config out."
            )
        await self._user.call("reconfigure", (user_config,), {})

    @method(concurrency_group=CONTROL)
    async def prepare_for_shutdown(self, is_deleted: bool) -> None:
        """Wait until nothing runs, looking every graceful_shutdown_wait_loop_s; then the user's object goes. Of a
        deployment that is_deleted nobody is sent requests any more, and nothing has to be waited for but those that run.
        """
        closing = asyncio.run_coroutine_threadsafe(self._close_door(), self._loop)
        wait_s = self._settings.graceful_shutdown_wait_loop_s
        while True:
            await asyncio.sleep(min(0.02, wait_s) if is_deleted else wait_s)
            if self._running == 0 and not self._line:
                break
        await asyncio.wrap_future(closing)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._let_go(), self._loop))

    async def _let_go(self) -> None:
        user = self._user
        if user is None or user.instance is None:
            return
        for name in ("__serve_shutdown__", "__del__"):
            last = getattr(user.instance, name, None) if not inspect.isfunction(user.instance) else None
            if callable(last):
                try:
                    result = last()
                    if inspect.isawaitable(result):
                        await result
                except Exception:
                    logging.getLogger("ray.serve").exception(
                        "%s of %s raised; the replica ends all the same.", name, self._id
                    )
        # Once is enough: the interpreter's own call of it finds an object of another class.
        if hasattr(type(user.instance), "__del__"):
            try:
                user.instance.__class__ = type("Ended", (), {})
            except TypeError:
                pass

    # Control

    @method(concurrency_group=CONTROL)
    async def watch(self) -> None:
        """Never answers: its end is how the controller learns of this process's."""
        await asyncio.Event().wait()

    @method(concurrency_group=CONTROL)
    async def check_health(self) -> bool:
        """The user's ``check_health``, if there is one, on the loop that requests run on. Raises what it raises."""
        user = self._user
        if user is not None and user.has("check_health"):
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(user.call("check_health", (), {}), self._loop))
        return True

    @method(concurrency_group=CONTROL)
    async def metrics(self) -> dict[str, Any]:
        """What it is doing now."""
        return {"ongoing": self._running + len(self._line), **self.log.statistics(), "custom": await self._custom()}

    async def _custom(self) -> dict[str, float] | None:
        user = self._user
        if user is None or not user.has("record_autoscaling_stats"):
            return None
        future = asyncio.run_coroutine_threadsafe(user.call("record_autoscaling_stats", (), {}), self._loop)
        return await asyncio.wrap_future(future)

    # Requests

    async def _enter(self) -> None:
        """Wait until this request may run."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            else:
                self._line.remove(turn)
            raise

    def _leave(self) -> None:
        self._running -= 1
        if self._line and self._running < self._limit:
            self._wake_next()

    def _wake_next(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                self._running += 1
                turn.set_result(None)
                return

    def _context_of(self, call: tuple, is_http: bool = False) -> None:
        if len(call) > 2:
            _, request_id, model_id, route, app_name = call
            context = RequestContext(route, request_id, app_name or self._app_name, model_id, None, is_http)
        else:
            context = RequestContext("", call[1], self._app_name, is_http_request=is_http)
        request_context.set(context)

    async def handle_request(self, call: tuple, /, *args: Any, **kwargs: Any) -> Any:
        """One call of a method, by a handle. call: (method, request id[, model id, route, application])."""
        if self._running >= self._limit:
            await self._enter()
        else:
            self._running += 1
        start_s = time.perf_counter()
        error: BaseException | None = None
        try:
            self._context_of(call)
            assert self._user is not None
            result = await self._user.call(call[0], args, kwargs)
            if is_stream(result):
                raise TypeError(
                    f"Method '{call[0]}' returned a generator. You must use `handle.options(stream=True)` to call "
                    "generators on a deployment."
                )
            return result
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._leave()
            self.log.note(call, start_s, error)

    async def handle_stream(self, call: tuple, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The same for a method that is a generator."""
        if self._running >= self._limit:
            await self._enter()
        else:
            self._running += 1
        start_s = time.perf_counter()
        error: BaseException | None = None
        try:
            self._context_of(call)
            user = self._user
            assert user is not None
            result = await user.call(call[0], args, kwargs)
            if not (is_stream(result) or hasattr(result, "__anext__") or hasattr(result, "__next__")):
                raise TypeError(
                    f"Called method '{call[0]}' with `handle.options(stream=True)` but it did not return a generator."
                )
            async for item in user.items(result):
                yield item
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._leave()
            self.log.note(call, start_s, error)
            request_context.set(NO_REQUEST)

    # HTTP; what it means is in `http_replica`, which needs starlette and is not imported by replicas that never see any

    def _http(self) -> Any:
        if self.http is None:
            # Not at the top: replicas that are called by handles only need no starlette, which costs 0.1 s to import.
            from raybook.serve.http_replica import HttpReplica

            assert self._user is not None
            self.http = HttpReplica(self._user, self)
        return self.http

    async def handle_http(self, call: tuple, scope: dict[str, Any], body: Any) -> Any:
        """One HTTP request; (status, headers, body), or the name of a stream."""
        if self._running >= self._limit:
            await self._enter()
        else:
            self._running += 1
        start_s = time.perf_counter()
        error: BaseException | None = None
        stays = False
        try:
            self._context_of(call, is_http=True)
            answer = await self._http().respond(call, scope, body)
            stays = type(answer) is str
            return answer
        except BaseException as raised:
            error = raised
            raise
        finally:
            if not stays:
                self._leave()
                self.log.note_http(call, scope, start_s, error)

    async def http_stream(self, name: str) -> AsyncIterator[Any]:
        """The messages of a response that is a stream."""
        async for message in self._http().stream(name):
            yield message

    async def websocket(self, call: tuple, scope: dict[str, Any]) -> AsyncIterator[Any]:
        """What the application sends on one WebSocket."""
        self._running += 1
        start_s = time.perf_counter()
        try:
            self._context_of(call, is_http=True)
            async for message in self._http().websocket(call, scope):
                yield message
        finally:
            self._leave()
            self.log.note_http(call, scope, start_s, None)

    # gRPC

    def _grpc_args(self, call: tuple, metadata: list, peer: str) -> tuple[Any, dict[str, Any]]:
        context = RayServegRPCContext(metadata, peer)
        assert self._user is not None
        _, function = self._user.method(call[0])
        takes_context = "grpc_context" in inspect.signature(function).parameters
        return context, {"grpc_context": context} if takes_context else {}

    async def handle_grpc(self, call: tuple, request: Any, metadata: list, peer: str) -> tuple:
        """One unary gRPC call: (status or None, the answer's bytes, trailing metadata)."""
        async with self._turn(call):
            context, kwargs = self._grpc_args(call, metadata, peer)
            try:
                assert self._user is not None
                result = await self._user.call(call[0], (request,), kwargs)
            except Exception as error:
                status, _ = context.outcome()
                if status is not None:
                    raise gRPCStatusError(error, *status) from error
                raise
            status, trailing = context.outcome()
            return status, result.SerializeToString(), trailing

    async def handle_grpc_stream(self, call: tuple, request: Any, metadata: list, peer: str) -> AsyncIterator[bytes]:
        """One gRPC call that is answered by a stream: the bytes of each message."""
        async with self._turn(call):
            _, kwargs = self._grpc_args(call, metadata, peer)
            user = self._user
            assert user is not None
            async for item in user.items(await user.call(call[0], (request,), kwargs)):
                yield item.SerializeToString()

    @contextlib.asynccontextmanager
    async def _turn(self, call: tuple) -> AsyncIterator[None]:
        """A request's place among those that run, its context and its line in the log."""
        if self._running >= self._limit:
            await self._enter()
        else:
            self._running += 1
        start_s = time.perf_counter()
        error: BaseException | None = None
        try:
            self._context_of(call)
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._leave()
            self.log.note(call, start_s, error)

    async def http_event(self, name: str, message: dict[str, Any]) -> None:
        """What the client sends on one WebSocket, or its end."""
        self._http().client_event(name, message)


def options_of(replica: str, namespace: str) -> dict[str, Any]:
    """Options of a replica's actor, beside the user's."""
    return {
        "name": replica,
        "namespace": namespace,
        "lifetime": "detached",
        "max_restarts": 0,
        "max_concurrency": 100_000,
        "concurrency_groups": {CONTROL: CONTROL_CALLS},
        "allow_out_of_order_execution": True,
    }
