"""DeploymentHandle: calls of a deployment from Python, past HTTP.

It is a name and options, and may be passed anywhere; the first call in a process finds the router that knows the replicas.
Arguments that are responses of other calls are passed on as references: their values never come through the caller.
"""

from __future__ import annotations

import warnings
from typing import Any

from raybook.api.context import current_engine, current_runtime
from raybook.serve.assignment import REFUSED, WAITING, Assignment
from raybook.serve.broadcast import DeploymentBroadcastResponse
from raybook.serve.context import request_context
from raybook.serve.core.names import DeploymentID
from raybook.serve.handle_options import DEFAULT, HandleOptions
from raybook.serve.hub import Hub, current_hub
from raybook.serve.response import DeploymentResponse, DeploymentResponseGenerator
from raybook.serve.router import Router

__all__ = ["DeploymentBroadcastResponse", "DeploymentHandle", "DeploymentResponse", "DeploymentResponseGenerator"]

_PLAIN = HandleOptions()
_NO_STREAMS = (
    "Streaming deployment handle results cannot be passed to downstream handle calls. Iterate over the response, and pass "
    "its items."
)


class DeploymentHandle:
    """``handle.remote(...)`` calls ``__call__``, ``handle.method.remote(...)`` another method."""

    def __init__(
        self,
        deployment_name: str,
        app_name: str,
        *,
        handle_options: HandleOptions = _PLAIN,
        _router: Router | None = None,
        _hub: Hub | None = None,
    ) -> None:
        self.deployment_id = DeploymentID(deployment_name, app_name)
        self.handle_options = handle_options
        self._router = _router
        self._hub = _hub
        self._verb = "handle_stream" if handle_options.stream else "handle_request"
        self._methods: dict[str, DeploymentHandle] = {}

    @property
    def deployment_name(self) -> str:
        """The deployment's name."""
        return self.deployment_id.name

    @property
    def app_name(self) -> str:
        """Its application's name."""
        return self.deployment_id.app_name

    @property
    def is_initialized(self) -> bool:
        """Whether it has found its router, which the first call does."""
        return self._router is not None

    def running_replicas_populated(self) -> bool:
        """Whether any replica is known here yet."""
        return self._router is not None and self._router.is_populated()

    def _init(self, **options: Any) -> None:
        """Find the router now. RuntimeError the second time."""
        if self._router is not None:
            raise RuntimeError(
                "Handle has already been initialized. Note that a handle is implicitly initialized when you call "
                "`.options()` or `.remote()`. Call `._init()` before those, and once."
            )
        self._connect()

    def _connect(self) -> Router:
        current_engine()
        self._hub = current_hub()
        self._router = self._hub.router(self.deployment_id)
        return self._router

    def _connected(self) -> tuple[Router, Hub]:
        router, hub = self._router, self._hub
        if router is None or hub is None or hub._engine is not current_runtime.engine:
            router, hub = self._connect(), self._hub
            assert hub is not None
        return router, hub

    def _call(self, hub: Hub, method_name: str) -> tuple:
        """What a replica is told beside the arguments."""
        parent, model_id = request_context.get(), self.handle_options.multiplexed_model_id
        request_id = parent.request_id or hub.new_request_id()
        if model_id or parent.request_id:
            return method_name, request_id, model_id, parent.route, parent.app_name
        return method_name, request_id

    def options(
        self,
        *,
        method_name: Any = DEFAULT.VALUE,
        multiplexed_model_id: Any = DEFAULT.VALUE,
        session_id: Any = DEFAULT.VALUE,
        stream: Any = DEFAULT.VALUE,
        use_new_handle_api: Any = DEFAULT.VALUE,
        _prefer_local_routing: Any = DEFAULT.VALUE,
        _by_reference: Any = DEFAULT.VALUE,
        request_serialization: Any = DEFAULT.VALUE,
        response_serialization: Any = DEFAULT.VALUE,
    ) -> DeploymentHandle:
        """A handle of the same deployment with other options.

        stream: the method is a generator, and ``remote`` returns a DeploymentResponseGenerator. multiplexed_model_id:
        which model the request is for (see ``serve.multiplexed``).
        """
        if use_new_handle_api is not DEFAULT.VALUE:
            warnings.warn("Setting `use_new_handle_api` no longer has any effect.", stacklevel=2)
        changed = self.handle_options.changed(
            {
                "method_name": method_name,
                "multiplexed_model_id": multiplexed_model_id,
                "session_id": session_id,
                "stream": stream,
                "_prefer_local_routing": _prefer_local_routing,
                "_by_reference": _by_reference,
                "request_serialization": request_serialization,
                "response_serialization": response_serialization,
            }
        )
        return self._with(changed)

    def _with(self, options: HandleOptions) -> DeploymentHandle:
        return DeploymentHandle(
            self.deployment_name, self.app_name, handle_options=options, _router=self._router, _hub=self._hub
        )

    def __getattr__(self, name: str) -> DeploymentHandle:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        methods = self.__dict__.get("_methods")
        if methods is None:
            raise AttributeError(name)
        found = methods.get(name)
        if found is None:
            found = methods[name] = self._with(self.handle_options.changed({"method_name": name}))
        return found

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method; a DeploymentResponse, or a DeploymentResponseGenerator with ``stream=True``, at once.

        Arguments that are DeploymentResponses arrive as their values. What goes wrong is raised by the response:
        BackPressureError, DeploymentUnavailableError, what the method raised.
        """
        router, hub = self._connected()
        options = self.handle_options
        call = self._call(hub, options.method_name)
        assignment = Assignment(self._verb, call, call[1], options.multiplexed_model_id, args, kwargs)
        before = _responses_in(args, kwargs)
        if before:
            _submit_after(hub, router, assignment, before)
        else:
            router.submit(assignment)
        return (DeploymentResponseGenerator if options.stream else DeploymentResponse)(router, assignment)

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Call a method of every replica, beside the queue and its limits: for control, such as dropping caches."""
        router, hub = self._connected()
        return DeploymentBroadcastResponse(router, self._call(hub, method_name), args, kwargs)

    def shutdown(self) -> None:
        """Forget the router; the next call finds it again."""
        self._router = self._hub = None

    async def shutdown_async(self) -> None:
        """The same."""
        self.shutdown()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(deployment='{self.deployment_name}')"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DeploymentHandle):
            return NotImplemented
        return (self.deployment_id, self.handle_options) == (other.deployment_id, other.handle_options)

    def __hash__(self) -> int:
        return hash((self.deployment_id, self.handle_options))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.deployment_name, self.app_name, self.handle_options)


def _rebuild(deployment_name: str, app_name: str, options: HandleOptions) -> DeploymentHandle:
    return DeploymentHandle(deployment_name, app_name, handle_options=options)


def _responses_in(args: tuple, kwargs: dict[str, Any]) -> list[DeploymentResponse]:
    """The arguments that are results of other calls. RuntimeError for a stream."""
    found = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, DeploymentResponse):
            found.append(value)
        elif isinstance(value, DeploymentResponseGenerator):
            raise RuntimeError(_NO_STREAMS)
    return found


def _submit_after(hub: Hub, router: Router, assignment: Assignment, before: list[DeploymentResponse]) -> None:
    """Send a request once those that make its arguments have been sent; in the hub's thread, if it has to wait."""
    waiting = [response for response in before if response._assignment.state == WAITING]
    if waiting:
        waiting[0]._assignment.when_settled(
            lambda: hub.call_soon(lambda: _submit_after(hub, router, assignment, before))
        )
        return
    refused = next((response._assignment for response in before if response._assignment.state == REFUSED), None)
    if refused is not None:
        assert refused.error is not None
        assignment.refuse(refused.error)
        return
    assignment.args = tuple(_as_ref(value) for value in assignment.args)
    assignment.kwargs = {name: _as_ref(value) for name, value in assignment.kwargs.items()}
    router.submit(assignment)


def _as_ref(value: Any) -> Any:
    return value._assignment.ref if isinstance(value, DeploymentResponse) else value
