"""Custom routing: requests of one deployment go where a router of the user's says.

A coroutine for each request that waits, on the hub's routing loop: it asks, sends to the least loaded of the best rank that
has room, or pauses and asks again; whatever changes (a request is over, other replicas) ends the pause. A router that
raises fails the request with what it raised.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import cloudpickle

from raybook.serve.assignment import WAITING, Assignment
from raybook.serve.core.names import DeploymentID, ReplicaID
from raybook.serve.core.target import RouterTarget
from raybook.serve.request_router import PendingRequest, RequestMetadata, RequestRouter, shown_replicas

logger = logging.getLogger("ray.serve")


class CustomRouting:
    """Of one deployment, in one process. owner: its `Router`."""

    def __init__(self, owner: Any, target: RouterTarget, loop: asyncio.AbstractEventLoop, node_id: str) -> None:
        self.target = target
        self._owner = owner
        self._loop = loop
        self._deployment: DeploymentID = owner.deployment
        self._router: RequestRouter | None = None
        self._error: BaseException | None = None
        self._news: set[asyncio.Future[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        loop.call_soon_threadsafe(self._make, node_id)

    def _make(self, node_id: str) -> None:
        try:
            router = cloudpickle.loads(self.target.code)(deployment_id=self._deployment, self_node_id=node_id)
            router.initialize_state(**self.target.kwargs)
            self._router = router
        except Exception as error:  # noqa: BLE001 - each request tells its caller.
            logger.exception("The request router of %s could not be made.", self._deployment)
            self._error = error

    # Told by the owner; any thread

    def update(self, slots: list[Any]) -> None:
        """Other replicas run, or they have other models or statistics."""
        self._loop.call_soon_threadsafe(self._update, list(slots))

    def begin(self, assignment: Assignment) -> None:
        """Find a replica for a request."""
        self._loop.call_soon_threadsafe(self._begin, assignment)

    def wake(self) -> None:
        """Somewhere there is room again."""
        self._loop.call_soon_threadsafe(self._wake)

    def ended(self, assignment: Assignment) -> None:
        """A request is over."""
        self._loop.call_soon_threadsafe(self._ended, assignment.slot.unique_id, assignment.request_id)

    # On the loop

    def _update(self, slots: list[Any]) -> None:
        if self._router is not None:
            before = set(self._router.curr_replicas)
            self._router.update_replicas(shown_replicas(self._deployment, slots))
            for gone in before - set(self._router.curr_replicas):
                self._router.on_replica_actor_died(gone)
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, set()
        for future in news:
            if not future.done():
                future.set_result(None)

    def _ended(self, unique_id: str, request_id: str) -> None:
        if self._router is not None:
            self._router.on_request_completed(ReplicaID(unique_id, self._deployment), request_id)

    def _begin(self, assignment: Assignment) -> None:
        task = self._loop.create_task(self._route(assignment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _route(self, assignment: Assignment) -> None:
        request = _request_of(assignment)
        pause_s = self.target.initial_backoff_s
        while assignment.state == WAITING and not assignment.is_cancelled:
            try:
                if self._error is not None:
                    raise self._error
                if await self._try(assignment, request):
                    return
            except Exception as error:  # noqa: BLE001 - the user's router raised; the caller hears of it.
                self._owner.refuse(assignment, error)
                return
            news: asyncio.Future[None] = self._loop.create_future()
            self._news.add(news)
            await asyncio.wait([news], timeout=pause_s)
            self._news.discard(news)
            pause_s = min(self.target.max_backoff_s, pause_s * self.target.backoff_multiplier)

    async def _try(self, assignment: Assignment, request: PendingRequest) -> bool:
        router = self._router
        if router is None or not router.curr_replicas:
            return False
        for rank in await router.choose_replicas(list(router.curr_replicas.values()), request):
            sent_to = self._owner.send_to_one(assignment, [replica.replica_id.unique_id for replica in rank])
            if sent_to is not None:
                router.on_request_routed(request, ReplicaID(sent_to, self._deployment), assignment.ref)
                return True
        return False


def _request_of(assignment: Assignment) -> PendingRequest:
    method, request_id, *rest = assignment.call
    route, app_name = (rest[1], rest[2]) if len(rest) > 2 else ("", "")
    metadata = RequestMetadata(
        request_id, request_id, method, route, app_name, assignment.model_id, assignment.verb == "handle_stream"
    )
    return PendingRequest(list(assignment.args), dict(assignment.kwargs), metadata)
