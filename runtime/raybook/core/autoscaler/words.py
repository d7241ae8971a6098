"""Words: how the autoscaler's decisions are put for people. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from raybook.base.label_selector import describe_selector
from raybook.base.resources import BYTE_RESOURCES, Shape, describe
from raybook.core.autoscaler.settings import Settings
from raybook.protocol.messages.scaling import GroupLoad


def shapes(counted: Iterable[tuple[Shape, int]]) -> str:
    """ "14 × {CPU: 1}, 2 × {GPU: 1}": equal shapes together, in order of appearance."""
    totals: dict[str, int] = {}
    for shape, count in counted:
        text = describe(shape)
        totals[text] = totals.get(text, 0) + count
    return ", ".join(f"{count} × {text}" for text, count in totals.items())


def does(counted: Sequence[tuple[Shape, int]]) -> str:
    return "does" if sum(count for _, count in counted) == 1 else "do"


def group(load: GroupLoad) -> str:
    """A placement group by name or id, with its strategy."""
    return f"placement group {load.name or load.group_id.hex()[:12]} ({load.strategy})"


def waiting(shape: Shape, count: int, selectors: Iterable[Mapping[str, str]], noun: str) -> str:
    """ "14 tasks or actors of {CPU: 1} on nodes with zone=b wait"."""
    where = " and ".join(describe_selector(selector) for selector in selectors if selector)
    on = f" on nodes with {where}" if where else ""
    verb = "wait" if count > 1 else "waits"
    one = {"tasks or actors": "task or actor"}.get(noun, noun.replace("bundles", "bundle", 1))
    return f"{count} {noun if count > 1 else one} of {describe(shape)}{on} {verb}"


def types(settings: Settings, asked: Mapping[str, int]) -> str:
    """ "worker has {CPU: 2}; gpu has {CPU: 4, GPU: 1}": without bytes of memory that nobody asked for."""

    def shown(resources: Shape) -> Shape:
        return {name: amount for name, amount in resources.items() if name in asked or name not in BYTE_RESOURCES}

    listed = (f"{node_type.name} has {describe(shown(node_type.resources))}" for node_type in settings.types)
    return "; ".join(listed) or "there are none"


def seconds(time_ms: int) -> str:
    """ "1.5 s", "12 s", "3 min"."""
    if time_ms < 10_000:
        return f"{time_ms / 1000:.1f} s"
    return f"{time_ms / 1000:.0f} s" if time_ms < 120_000 else f"{time_ms / 60_000:.0f} min"
