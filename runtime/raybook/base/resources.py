"""Resources in fixed point: 10,000 units are one CPU, one GPU, one of anything. Memory is counted in whole bytes.

Knows names and amounts, nothing of nodes. All arithmetic is on integers, so 0.1 + 0.2 is exactly 0.3 and a node never
ends a day a ten-thousandth short. Source: Ray's precision of 0.0001 (RAY.md row 16).
"""

from __future__ import annotations

from collections.abc import Mapping

UNIT = 10_000
CPU = "CPU"
GPU = "GPU"
MEMORY = "memory"
OBJECT_STORE_MEMORY = "object_store_memory"
BYTE_RESOURCES = frozenset({MEMORY, OBJECT_STORE_MEMORY})
INSTANCE_RESOURCES = frozenset({GPU})
"""Resources whose single instances have identities (GPU 0, GPU 1) that a task is told about."""
ACCELERATOR_RESOURCE = "accelerator_type:"
NODE_RESOURCE = "node:"
"""A node with such an accelerator has one unit of the resource of this name and the type (Ray's way)."""

Shape = dict[str, int]
"""Fixed-point amounts by resource name; zero amounts are left out."""


def to_fixed(name: str, amount: float, called: str = "") -> int:
    """One amount in fixed point. called: what the user calls the resource where that is not ``name`` (num_cpus). Raises
    ValueError for negative, non-finite or over-precise amounts, and TypeError for something that is no number; the text
    names the resource."""
    called = called or name
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(
            f"The type of keyword '{called}' must be int or float, but received type {type(amount)}: {amount!r}."
        )
    if amount != amount or amount in (float("inf"), float("-inf")):
        raise ValueError(f"The quantity of resource {called} must be finite, got {amount}.")
    if amount < 0:
        raise ValueError(f"The quantity of resource {called} cannot be negative, got {amount}.")
    if name in BYTE_RESOURCES:
        return int(amount)
    fixed = round(amount * UNIT)
    if abs(fixed - amount * UNIT) > 1e-6:
        raise ValueError(
            f"The precision of the fractional quantity of resource {called} cannot go beyond 0.0001, got {amount}. "
            f"Round it to four decimals."
        )
    return fixed


def shape_of(amounts: Mapping[str, float]) -> Shape:
    """Fixed-point shape from user amounts, zeros left out. Errors as ``to_fixed``."""
    shape = {}
    for name, amount in amounts.items():
        fixed = to_fixed(name, amount)
        if fixed:
            shape[name] = fixed
    return shape


def to_float(name: str, fixed: int) -> float:
    """The user's number for a fixed-point amount: 1.0 for 10,000, bytes for memory."""
    return float(fixed) if name in BYTE_RESOURCES else fixed / UNIT


def to_user(shape: Mapping[str, int]) -> dict[str, float]:
    """User numbers of a whole shape."""
    return {name: to_float(name, fixed) for name, fixed in shape.items()}


def describe(shape: Mapping[str, int]) -> str:
    """``{CPU: 2, GPU: 0.5}`` for messages, in a stable order."""
    parts = (f"{name}: {to_float(name, fixed):g}" for name, fixed in sorted(shape.items()))
    return "{" + ", ".join(parts) + "}"


def fits(request: Mapping[str, int], free: Mapping[str, int]) -> bool:
    """Whether every requested amount is there. Cost: one look-up per requested resource."""
    for name, amount in request.items():
        if free.get(name, 0) < amount:
            return False
    return True


def missing(request: Mapping[str, int], total: Mapping[str, int]) -> Shape:
    """What a request asks beyond ``total``, by resource; empty when it fits."""
    return {name: amount - total.get(name, 0) for name, amount in request.items() if amount > total.get(name, 0)}
