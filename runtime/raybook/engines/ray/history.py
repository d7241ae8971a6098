"""History: the tasks that Ray's GCS remembers, asked for with a limit.

Ray's own way to them fetches all tasks of all jobs, a hundred thousand when the cluster has been busy: seconds of work for a
panel. Here its GCS is asked for one job's, and no more than are wanted. Where gRPC is missing (it comes with Ray's extras
"client" and "default") there is only Ray's own way.
"""

from __future__ import annotations

from typing import Any

from ray._private.state import state as ray_state
from ray.core.generated import gcs_service_pb2

TIMEOUT_S = 10.0


class History:
    """One connection to the GCS, made when it is first needed. job_id: whose tasks; b"": everybody's."""

    def __init__(self, gcs_address: str, job_id: bytes) -> None:
        self._address = gcs_address
        self._job_id = job_id
        self._stub: Any = None

    def events(self, limit: int) -> list[Any]:
        """At most so many tasks' events, as Ray's messages. Blocks for a round trip; whatever gRPC raises."""
        stub = self._connected()
        if stub is None:
            found = [event for event in ray_state._get_all_task_events() if self._job_id in (b"", event.job_id)]
            return found[-limit:]
        request = gcs_service_pb2.GetTaskEventsRequest(limit=limit)
        request.filters.exclude_driver = True
        if self._job_id:
            request.filters.job_filters.add(predicate=gcs_service_pb2.FilterPredicate.EQUAL, job_id=self._job_id)
        return list(stub.GetTaskEvents(request, timeout=TIMEOUT_S).events_by_task)

    def _connected(self) -> Any:
        if self._stub is None:
            try:
                from ray._private.grpc_utils import init_grpc_channel
                from ray.core.generated.gcs_service_pb2_grpc import TaskInfoGcsServiceStub
            except ImportError:
                return None
            self._stub = TaskInfoGcsServiceStub(init_grpc_channel(self._address))
        return self._stub
