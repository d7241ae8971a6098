"""Report: what the autoscaler sees, for people: nodes by type, those on their way, and which idle ones go when."""

from __future__ import annotations

from raybook.core.autoscaler import words
from raybook.core.autoscaler.fleet import ASKED, DRAINING, ENDING, JOINED, PENDING, RETIRING, RUNNING, Fleet, Instance
from raybook.core.autoscaler.planner import Plan
from raybook.core.autoscaler.settings import NodeType, Settings
from raybook.protocol.messages.scaling import AutoscalerStatus, ClusterLoad, NodeActivity

NOTES_MAX = 8


def status_of(fleet: Fleet, settings: Settings, load: ClusterLoad | None, plan: Plan, now_ms: int) -> AutoscalerStatus:
    """Everything but what happened before: decisions and failures are the machine's to add. Cost: linear in the nodes."""
    nodes = {node.node_id: node for node in (load.nodes if load is not None else ())}
    counts: dict[bool, dict[str, int]] = {True: {}, False: {}}
    for each in fleet:
        if each.state in JOINED:
            found = counts[is_idle(nodes.get(each.node_id))]
            found[each.node_type] = found.get(each.node_type, 0) + 1
    return AutoscalerStatus(
        updated_ms=now_ms,
        active=counts[False],
        idle=counts[True],
        pending=_pending_lines(fleet, now_ms),
        unmet=list(plan.unmet),
        bounds=bounds_of(fleet, settings),
        notes=_notes(fleet, settings, nodes, now_ms),
    )


def is_idle(node: NodeActivity | None) -> bool:
    """Whether nothing runs, waits or lies there."""
    return node is not None and node.alive and not node.busy


def bounds_of(fleet: Fleet, settings: Settings) -> list[str]:
    """ "worker: 2 of 0 to 3" for each type."""
    counts = fleet.counts(ENDING)
    return [
        f"{kind.name}: {counts.get(kind.name, 0)} of {kind.min_nodes} to {kind.max_nodes}" for kind in settings.types
    ]


def _pending_lines(fleet: Fleet, now_ms: int) -> list[str]:
    lines: dict[str, int] = {}
    for each in fleet:
        if each.state in PENDING:
            said = "asked for {} ago" if each.state == ASKED else "starting for {}"
            text = f"{each.node_type}, {said.format(words.seconds(now_ms - each.since_ms))}"
            lines[text] = lines.get(text, 0) + 1
    return [f"{count} × {text}" for text, count in lines.items()]


def _notes(fleet: Fleet, settings: Settings, nodes: dict[bytes, NodeActivity], now_ms: int) -> list[str]:
    notes: list[str] = []
    for each in fleet:
        if len(notes) == NOTES_MAX:
            break
        node = nodes.get(each.node_id) if each.state == RUNNING else None
        if each.state == RETIRING:
            notes.append(f"{each.label} is asked to go: {each.why}.")
        elif each.state == DRAINING:
            notes.append(f"{each.label} moves its objects away and goes: {each.why}.")
        elif each.state == ENDING:
            notes.append(f"{each.label} is being taken down: {each.why}.")
        elif node is not None and node.busy:
            notes.append(f"{each.label} stays: {node.busy}.")
        elif node is not None:
            notes.append(_note_on_idle(fleet, settings, each, node, now_ms))
    return notes


def _note_on_idle(fleet: Fleet, settings: Settings, instance: Instance, node: NodeActivity, now_ms: int) -> str:
    node_type = settings.type_named(instance.node_type) or NodeType(instance.node_type, {})
    text = f"{instance.label} is idle for {words.seconds(min(node.idle_ms, now_ms - instance.joined_ms))}"
    if len(fleet.of_type(instance.node_type, *PENDING, RUNNING)) <= node_type.min_nodes:
        return f"{text}, and one of the {node_type.min_nodes} that are kept."
    return f"{text}; it goes after {words.seconds(settings.idle_timeout_of(node_type))}."
