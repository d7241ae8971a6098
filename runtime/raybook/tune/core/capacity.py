"""Capacity: how many trials of a size fit into a cluster.

Decides fit from totals and what is held. Fixed point: 10,000 is one unit, so that ten tenths are one.
Source: the resource names and the precision of the runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

UNIT = 10_000
_SPELLINGS = {"cpu": "CPU", "gpu": "GPU"}


def normalise(resources: Mapping[str, float]) -> dict[str, float]:
    """Return resources with CPU and GPU spelled as the cluster spells them. Raises ValueError for a negative one."""
    named: dict[str, float] = {}
    for name, amount in resources.items():
        if isinstance(amount, bool) or not isinstance(amount, (int, float)):
            raise TypeError(f"Resource {name!r} of a trial must be a number, not {amount!r}.")
        if amount < 0:
            raise ValueError(f"Resource {name!r} of a trial must not be negative, and {amount!r} is.")
        spelled = _SPELLINGS.get(name, name)
        named[spelled] = named.get(spelled, 0) + float(amount)
    return {name: amount for name, amount in named.items() if amount > 0}


def fits(total: Mapping[str, float], held: Iterable[Mapping[str, float]], request: Mapping[str, float]) -> bool:
    """Ask whether request fits beside what is held. Cost: O(held)."""
    used: dict[str, int] = {}
    for resources in held:
        for name, amount in resources.items():
            used[name] = used.get(name, 0) + _fixed(amount)
    return all(used.get(name, 0) + _fixed(amount) <= _fixed(total.get(name, 0)) for name, amount in request.items())


def shortfall(total: Mapping[str, float], request: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return {name: (asked, there is)} for what request asks beyond the whole cluster; {} if it could ever fit."""
    return {
        name: (amount, total.get(name, 0.0))
        for name, amount in request.items()
        if _fixed(amount) > _fixed(total.get(name, 0))
    }


def _fixed(amount: float) -> int:
    return round(amount * UNIT)
