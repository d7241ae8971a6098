"""Waiting texts: why a queued request does not run, in words for people. Decides nothing."""

from __future__ import annotations

from raybook.base.resources import describe
from raybook.core.node.request_queue import Group, Request
from raybook.core.node.resource_pools import ResourcePools


class WaitingTexts:
    """One for each node; the pools say what there is."""

    def __init__(self, pools: ResourcePools) -> None:
        self._pools = pools

    def why_waiting(self, group: Group, request: Request) -> str:
        """What this request waits for."""
        name, target = request.name or "tasks", group.target
        if group.missing or group.refusal:
            return self.why_never(name, group)
        if target is not None and not self._pools.has_bundle(target):
            return f"{request.count} × {name} wait for a bundle of placement group {target.group_id.hex()}."
        _, compared = self._pools.compared(group.shape, target)
        free = {name.partition("@")[0]: amount for name, amount in compared.items()}
        place = "here" if target is None else "in its placement group"
        return f"{request.count} × {name} wait for {describe(group.shape)}; free {place}: {describe(free)}."

    def why_never(self, name: str, group: Group) -> str:
        """Why this node can never serve a group of requests."""
        if group.refusal:
            return f"{name} asks for {group.refusal}. It stays queued; add a node that has them, or ask for others."
        totals = self._pools.total_for(group.target)
        total = {name: amount for name, amount in totals.items() if name in group.shape}
        place, remedy = "this node has", "add a node that has it"
        if group.target is not None:
            place, remedy = "its placement group has in one bundle", "make a group with larger bundles"
        return (
            f"{name} asks for {describe(group.shape)}, but {place} {describe(total)} in all, "
            f"{describe(group.missing)} too little. It stays queued; ask for less, or {remedy}."
        )
