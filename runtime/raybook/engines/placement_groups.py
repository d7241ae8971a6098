"""Placement groups of the native engine: asking for them, waiting for them, a reference that becomes ready with them.

The group is made by the GCS; here are only questions and answers. The answer to the creation says already whether the
group is there, so waiting for one that fitted at once costs no message. A reference from ``ready`` is an object of this
process whose value comes later; it is asked about as long as somebody holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from raybook.base.error_values import error_from_code
from raybook.base.facts import GROUP_CREATED, GROUP_REMOVED
from raybook.base.ids import IdFactory
from raybook.base.specs import ErrorValue, PlacementGroupSpec, RefInfo, Value
from raybook.core.owner.records import Fulfil, HoldRef
from raybook.protocol.messages.gcs import (
    CreatePlacementGroup,
    PlacementGroupReply,
    RemovePlacementGroup,
    WaitPlacementGroup,
)
from raybook.protocol.messages.raylet import GcsReply
from raybook.worker.core_process import CoreProcess, encode
from raybook.worker.raylet_link import GcsRequest

WAIT_MS = 10_000
"""The GCS answers at the group's next change, or after this long; half of what a call between hosts may take."""

_decode = msgspec.msgpack.Decoder(PlacementGroupReply).decode


class PlacementGroups:
    """One for each engine. Methods are called by user threads unless they say otherwise."""

    def __init__(self, core: CoreProcess, ids: IdFactory) -> None:
        self._core = core
        self._ids = ids
        self._creations: dict[bytes, GcsRequest] = {}
        """Creations of this process, whose answers say how the group began."""

    def create(self, spec: PlacementGroupSpec) -> None:
        """Ask for a group; returns at once, unless it has a name, which may be taken (ValueError)."""
        request = GcsRequest("CreatePlacementGroup", encode(CreatePlacementGroup(spec)))
        self._creations[spec.group_id] = request
        self._core.submit(request)
        if spec.name:
            self._answer_of(request, None)

    def remove(self, group_id: bytes) -> None:
        """Give it back. Blocks until its nodes know, a round trip: no later task or call finds it, or an actor in it,
        alive."""
        self._creations.pop(group_id, None)
        request = encode(RemovePlacementGroup(group_id, "remove_placement_group was called"))
        self._core.call_gcs("RemovePlacementGroup", request)

    def wait(self, group_id: bytes, timeout_s: float) -> bool:
        """Block until the group is created (True), is removed or the time is up (False)."""
        deadline_s = time.monotonic() + timeout_s
        creation = self._creations.get(group_id)
        state = self._answer_of(creation, timeout_s) if creation is not None else ""
        while state not in (GROUP_CREATED, GROUP_REMOVED):
            left_ms = int((deadline_s - time.monotonic()) * 1000)
            question = WaitPlacementGroup(group_id, max(0, min(left_ms, WAIT_MS)))
            request = GcsRequest("WaitPlacementGroup", encode(question))
            self._core.submit(request)
            state = self._answer_of(request, None)
            if left_ms <= 0:
                break
        return state == GROUP_CREATED

    def _answer_of(self, request: GcsRequest, timeout_s: float | None) -> str:
        """The group's state as of the answer; "" when the group is unknown or time was up. Raises what the GCS says."""
        if not request.lock.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return ""
        request.lock.release()  # Others may wait for the same answer.
        return self._state_in(request.reply)

    def _state_in(self, reply: GcsReply | None) -> str:
        if reply is None:
            raise error_from_code("LocalRayletDiedError", self._core.lost_reason or "The cluster is gone.")
        if reply.error_code:
            raise error_from_code(reply.error_code, reply.error_text)
        group = _decode(reply.reply).group
        return "" if group is None else group.state

    # --- references ---------------------------------------------------------------------------------------------------

    def ready(self, group_id: bytes, value: Value, make_ref: Callable[[bytes], Any]) -> Any:
        """A reference that becomes ``value`` when the group is created, and an error when it is removed before."""
        object_id = self._ids.put_id()
        self._core.submit(HoldRef(RefInfo(object_id)))
        ref = make_ref(object_id)
        creation = self._creations.get(group_id)
        if creation is not None and creation.reply is not None and self._state_in(creation.reply) == GROUP_CREATED:
            self._core.submit(Fulfil(object_id, value))
        else:
            self._ask(group_id, object_id, value)
        return ref

    def _ask(self, group_id: bytes, object_id: bytes, value: Value) -> None:
        question = encode(WaitPlacementGroup(group_id, WAIT_MS))
        self._core.submit(
            GcsRequest(
                "WaitPlacementGroup",
                question,
                is_watched=False,
                on_reply=lambda reply: self._answered(reply, group_id, object_id, value),
            )
        )

    def _answered(self, reply: GcsReply | None, group_id: bytes, object_id: bytes, value: Value) -> None:
        """I/O thread."""
        if reply is None or not self._core.owner.references.is_alive(object_id):
            return
        if reply.error_code:
            self._fail(object_id, reply.error_code, reply.error_text)
            return
        group = _decode(reply.reply).group
        if group is not None and group.state == GROUP_CREATED:
            self._core.submit(Fulfil(object_id, value))
        elif group is not None and group.state == GROUP_REMOVED:
            text = f"The placement group {group_id.hex()} was removed before it was created: {group.death}"
            self._fail(object_id, "TaskPlacementGroupRemoved", text)
        else:
            self._ask(group_id, object_id, value)

    def _fail(self, object_id: bytes, code: str, text: str) -> None:
        self._core.submit(Fulfil(object_id, Value(error=ErrorValue(code, text))))
