"""Autoscaler status: what ``raybook status`` shows of a cluster whose nodes come and go, laid out as ``ray status`` does."""

from __future__ import annotations

from raybook.base.resources import describe
from raybook.protocol.messages.scaling import AutoscalerReply, GroupLoad

LINES_MAX = 12


def scaling_lines(reply: AutoscalerReply) -> list[str]:
    """Nodes, failures, usage and demand, and why; [] for a cluster without an autoscaler."""
    status = reply.status
    if status is None:
        return []
    lines = ["Autoscaler", "  Active:"]
    heads = sum(node.alive and node.is_head for node in reply.load.nodes)
    lines += [f"    {heads} head"] * bool(heads) + _counts(status.active, "(no worker node is in use)")
    lines += ["  Idle:", *_counts(status.idle, "(no idle nodes)")]
    lines += ["  Pending:", *_listed(status.pending, "(no pending nodes)")]
    lines += ["  Recent failures:", *_listed(status.failures, "(no failures)")]
    if status.trouble:
        lines.append(f"  Provider: {status.trouble}")
    lines += ["  From request_resources:", *_listed(_requested(reply), "(none)")]
    lines += ["  Pending demands:", *_listed(_demands(reply), "(no resource demands)")]
    if status.unmet:
        lines += ["  Unmet:", *_listed(status.unmet, "")]
    lines += ["  Limits:", *_listed(status.bounds, "(no node types)")]
    lines += ["  Decisions:", *_listed(status.decisions, "(none yet)")]
    if status.notes:
        lines += ["  Nodes:", *_listed(status.notes, "")]
    return lines


def _counts(counts: dict[str, int], otherwise: str) -> list[str]:
    return [f"    {count} {name}" for name, count in counts.items()] or [f"    {otherwise}"]


def _listed(texts: list[str], otherwise: str) -> list[str]:
    """The last ones, which are the newest where it matters."""
    return [f"    {text}" for text in texts[-LINES_MAX:]] or [f"    {otherwise}"]


def _requested(reply: AutoscalerReply) -> list[str]:
    counts: dict[str, int] = {}
    for bundle in reply.load.requested:
        text = describe(bundle.shape)
        counts[text] = counts.get(text, 0) + 1
    return [f"{text}: {count} from request_resources()" for text, count in counts.items()]


def _demands(reply: AutoscalerReply) -> list[str]:
    counts: dict[str, int] = {}
    for each in reply.load.waiting:
        text = describe(each.shape)
        counts[text] = counts.get(text, 0) + each.count
    lines = [f"{text}: {count}+ pending tasks/actors" for text, count in counts.items()]
    groups: dict[str, int] = {}
    for group in reply.load.groups:
        text = _shape_of(group)
        groups[text] = groups.get(text, 0) + 1
    return lines + [f"{text}: {count}+ pending placement groups" for text, count in groups.items()]


def _shape_of(group: GroupLoad) -> str:
    counts: dict[str, int] = {}
    for bundle in group.bundles:
        text = describe(bundle.shape)
        counts[text] = counts.get(text, 0) + 1
    return f"{', '.join(f'{text} * {count}' for text, count in counts.items())} ({group.strategy})"
