"""Hub: what a process that has handles knows of the service: one router a deployment, kept up to date.

One thread, started with the first handle: it takes the controller's answers, empties queues and reports them. It never
blocks on a result: what it waits for calls it back. The hub belongs to the session and goes with it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from raybook.api import ActorHandle, get_runtime_context
from raybook.api import get as get_value
from raybook.api.context import current_runtime
from raybook.api.object_ref import engine_of
from raybook.serve.assignment import Assignment
from raybook.serve.context import RequestIds, replica_context
from raybook.serve.core.names import CONTROLLER_NAME, NAMESPACE, DeploymentID
from raybook.serve.router import Router

logger = logging.getLogger("ray.serve")
HUB_KEY = "serve.hub"
REPORT_S = 0.1
RETRY_S = 0.2


class Hub:
    """Of one process and session."""

    def __init__(self) -> None:
        self.new_request_id = RequestIds()
        context = replica_context()
        self.id = self.new_request_id() if context is None else context.replica_id.to_full_id_str()
        """As the controller knows this caller: it need not wait for one whose replica has ended."""
        self._engine = current_runtime.engine
        self._node_id = get_runtime_context().get_node_id()
        self._routers: dict[DeploymentID, Router] = {}
        self._lock = threading.Lock()
        self._events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._queued: dict[Router, int] = {}
        """Routers whose callers wait, and how many of them the controller was told of."""
        self._reported_s = 0.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._thread: threading.Thread | None = None

    def router(self, deployment: DeploymentID) -> Router:
        """The router of a deployment; its first snapshot comes soon."""
        router = self._routers.get(deployment)
        if router is not None:
            return router
        with self._lock:
            router = self._routers.get(deployment)
            if router is None:
                router = self._routers[deployment] = Router(self, deployment)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="raybook-serve-hub", daemon=True)
                    self._thread.start()
        self._events.put(lambda: self._listen(router))
        return router

    # Told by routers; any thread

    def note_queue(self, router: Router) -> None:
        """Somebody waits here, which an autoscaled deployment's controller wants to know."""
        if router.is_autoscaled or router.version is None:
            self._events.put(lambda: self._watch_queue(router))

    def _watch_queue(self, router: Router) -> None:
        self._queued.setdefault(router, -1)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call it in the hub's thread."""
        self._events.put(call)

    def ask_to_drain(self, router: Router) -> None:
        """A replica has room again."""
        self._events.put(router.drain)

    def tell_ended(self, router: Router, assignment: Assignment) -> None:
        """The I/O thread: a result is there."""
        self._events.put(lambda: router.finish(assignment))

    # The thread

    def _run(self) -> None:
        while not self._is_over():
            try:
                event = self._events.get(timeout=self._pause_s())
            except queue.Empty:
                event = None
            try:
                if event is not None:
                    event()
                self._run_later()
                self._report()
            except Exception as error:  # noqa: BLE001 - one answer that makes no sense must not end the others.
                logger.debug("Serve's hub: %r", error)

    def _is_over(self) -> bool:
        return self._engine is None or self._engine.closed or current_runtime.session.get(HUB_KEY) is not self

    def _pause_s(self) -> float:
        pauses = [5.0, *(at - time.monotonic() for at, _ in self._later)]
        if self._queued:
            pauses.append(self._reported_s + REPORT_S - time.monotonic())
        return max(0.001, min(pauses))

    def _run_later(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        if due:
            self._later = [entry for entry in self._later if entry[0] > now]
            for _, call in due:
                call()

    def _controller(self) -> ActorHandle:
        """By way of this session's engine: the verb would start a new cluster once this one has been shut down."""
        assert self._engine is not None
        return ActorHandle(self._engine.get_actor(CONTROLLER_NAME, NAMESPACE), self._engine)

    def _listen(self, router: Router) -> None:
        if self._is_over():
            return
        deployment = router.deployment
        try:
            controller = self._controller()
            ref = controller.listen.remote(deployment.app_name, deployment.name, router.version, self.id)
            engine_of(ref).when_ready(ref, lambda: self._events.put(lambda: self._take(router, ref)))
        except Exception as error:  # noqa: BLE001 - no controller now; there may be one soon.
            logger.debug("Serve's hub cannot reach the controller: %r", error)
            self._later.append((time.monotonic() + RETRY_S, lambda: self._listen(router)))

    def _take(self, router: Router, ref: Any) -> None:
        try:
            snapshot = get_value(ref)
        except Exception as error:  # noqa: BLE001 - the controller restarts, or is gone.
            logger.debug("Serve's hub lost the controller: %r", error)
            self._later.append((time.monotonic() + RETRY_S, lambda: self._listen(router)))
            return
        if snapshot is not None:
            router.update(snapshot, self._node_id)
        self._listen(router)

    def _report(self) -> None:
        now = time.monotonic()
        if not self._queued or now - self._reported_s < REPORT_S:
            return
        self._reported_s = now
        rows = []
        for router, told in list(self._queued.items()):
            count = router.queued
            if count or told:
                rows.append((router.deployment.app_name, router.deployment.name, count))
            self._queued[router] = count
            if not count:
                del self._queued[router]
        if rows:
            self._controller().report_queued.remote(self.id, rows)


def current_hub() -> Hub:
    """The hub of this process, made at first use."""
    session = current_runtime.session
    hub = session.get(HUB_KEY)
    if hub is None or hub._engine is not current_runtime.engine:
        hub = session[HUB_KEY] = Hub()
    return hub
