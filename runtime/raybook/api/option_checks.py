"""Option checks: one small function for each kind of value an option may have.

Each takes the option's name and value and raises TypeError or ValueError at the call site, naming the option, what
came, and what is accepted. None of them knows which options exist; ``options`` has the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.base.resources import ACCELERATOR_RESOURCE, CPU, GPU, MEMORY, OBJECT_STORE_MEMORY, UNIT, to_fixed
from raybook.base.specs import DYNAMIC, STREAMING

NUM_RETURNS_OF_WORD = {"streaming": STREAMING, "dynamic": DYNAMIC}
"""What words for num_returns stand for in the engine's records."""

RESOURCE_OF_OPTION = {"num_cpus": CPU, "num_gpus": GPU, "memory": MEMORY}
ACCELERATOR_SHARE = UNIT // 1000
"""So little of it is asked for that it only chooses nodes and never runs out (Ray: 0.001)."""
_KEYWORD_OF_RESOURCE = {
    CPU: "num_cpus",
    GPU: "num_gpus",
    MEMORY: "memory",
    OBJECT_STORE_MEMORY: "object_store_memory (of init)",
}

_WHOLE_NUMBERS = {
    -1: "None, 0, -1 or a positive integer, where -1 represents infinity",
    0: "None, 0 or a positive integer",
}
"""How counts that begin with the number are called."""


def wrong_type(name: str, expected: str, value: Any) -> TypeError:
    """The error of a value of the wrong type."""
    return TypeError(f"The type of keyword '{name}' must be {expected}, but received type {type(value)}: {value!r}.")


def check_amount(name: str, value: Any) -> None:
    """num_cpus, num_gpus, memory: None, or a number that a node can account for."""
    if value is None:
        return
    resource = RESOURCE_OF_OPTION[name]
    fixed = to_fixed(resource, value, name)
    if resource == GPU and fixed > UNIT and fixed % UNIT:
        raise ValueError(
            f"{name}={value}: resource quantities >1 must be whole numbers, because a share of a GPU lies on one GPU. "
            f"Ask for {fixed // UNIT} or {fixed // UNIT + 1}."
        )


def check_resources(name: str, value: Any) -> None:
    """resources: None, or custom resource names with amounts."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise wrong_type(name, "a dict of resource names and amounts", value)
    for resource, amount in value.items():
        if not isinstance(resource, str) or not resource:
            raise wrong_type(name, "a dict whose keys are names", value)
        if resource in _KEYWORD_OF_RESOURCE:
            if resource in (CPU, GPU):
                words = "Use the 'num_cpus' and 'num_gpus' keyword instead of 'CPU' and 'GPU'"
            else:
                words = f"Use the '{_KEYWORD_OF_RESOURCE[resource]}' keyword instead of {resource!r}"
            raise ValueError(f"{words} in '{name}' keyword.")
        if amount is None:
            raise wrong_type(f"{name}[{resource!r}]", "a number", amount)
        to_fixed(resource, amount)


def check_count(low: int, *, none: bool = False) -> Any:
    """A check for whole numbers from ``low`` on (-1 meaning "without limit" where it is the lowest)."""

    def check(name: str, value: Any) -> None:
        if value is None and none:
            return
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(name, "int" if not none else "int or None", value)
        if value < low:
            accepted = _WHOLE_NUMBERS.get(low, f"whole numbers >= {low}")
            raise ValueError(f"The keyword '{name}' only accepts {accepted}, got {value}.")

    return check


def check_pending_calls(name: str, value: Any) -> None:
    """max_pending_calls: -1 (no limit) or at least 1."""
    check_count(-1)(name, value)
    if value == 0:
        raise ValueError(f"The keyword '{name}' only accepts -1 (without limit) or a number >= 1, got 0.")


def check_num_returns(name: str, value: Any) -> None:
    """num_returns: None, a whole number from 0 on, or how a generator returns its items."""
    if isinstance(value, str):
        if value not in NUM_RETURNS_OF_WORD:
            raise wrong_type(name, "int, 'streaming' or 'dynamic'", value)
        return
    if isinstance(value, int) and value < 0:
        raise ValueError(
            f"The keyword '{name}' only accepts None, a non-negative integer, 'streaming' (for generators), or "
            f"'dynamic', got {value}: num_returns must be >= 0."
        )
    check_count(0, none=True)(name, value)


def check_streams(options: Mapping[str, Any], is_generator: bool) -> None:
    """num_returns="streaming" and "dynamic" are for generator functions only: nothing else has items to stream."""
    word = options.get("num_returns")
    if isinstance(word, str) and not is_generator:
        raise ValueError(
            f"num_returns={word!r} can only be used with generator functions (functions that use 'yield'). The "
            "decorated function is not a generator function."
        )


def check_backpressure(name: str, value: Any) -> None:
    """_generator_backpressure_num_objects: None, -1 (never pause) or at least 1."""
    check_count(-1, none=True)(name, value)
    if value == 0:
        raise ValueError(
            f"{name}=0 is not allowed: a generator that may have no item waiting could make none. Use 1 to make each "
            "item when the one before has been taken, a larger number to work ahead, or -1 never to pause."
        )


def check_bool(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong_type(name, "bool", value)


def check_string_map(name: str, value: Any) -> None:
    """None, or a dict of strings."""
    if value is None:
        return
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for pair in value.items() for part in pair):
        raise wrong_type(name, "a dict of strings", value)


def check_optional_bool(name: str, value: Any) -> None:
    """True, False or None."""
    if value is not None:
        check_bool(name, value)


def check_name(name: str, value: Any) -> None:
    """None, or a string that is not empty."""
    if value is None:
        return
    if not isinstance(value, str):
        raise wrong_type(name, "str", value)
    if not value:
        raise ValueError(
            f"\"\" is not a valid value of the keyword '{name}': give it some characters, or leave it out."
        )


def check_lifetime(name: str, value: Any) -> None:
    """None, "detached" or "non_detached"."""
    if value is not None and not isinstance(value, str):
        raise wrong_type(name, "str or None", value)
    if value not in (None, "detached", "non_detached"):
        raise ValueError(f"The keyword '{name}' must be one of 'detached', 'non_detached' and None, got {value!r}.")


def check_retry_exceptions(name: str, value: Any) -> None:
    """True, False, or a list of exception classes."""
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, (list, tuple)):
        raise wrong_type(name, "a bool or a list of exception classes", value)
    for item in value:
        if not (isinstance(item, type) and issubclass(item, BaseException)):
            raise ValueError(f"{name} must be either a boolean or a list of exceptions, got {item!r} in it.")


def check_concurrency_groups(name: str, value: Any) -> None:
    """None, or group names with how many calls each may run at once."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        raise wrong_type(name, "a dict of group names and sizes", value)
    for group, size in value.items():
        if not isinstance(group, str) or not group:
            raise wrong_type(name, "a dict whose keys are names", value)
        check_count(1)(f"{name}[{group!r}]", size)


def comes_later(*harmless: Any) -> Any:
    """A check for an option that is known but does nothing yet: the ``harmless`` values pass, others are refused."""

    def check(name: str, value: Any) -> None:
        if value is not None and not any(value is item or value == item for item in harmless):
            raise ValueError(f"{name}={value!r}: this option comes with a later version of raybook. Leave it out.")

    return check


def check_anything(name: str, value: Any) -> None:
    """Accepted and without effect."""


def user_shape(options: Mapping[str, Any]) -> dict[str, int]:
    """The fixed-point amounts of checked options, zeros left out."""
    shape = {}
    for name, resource in RESOURCE_OF_OPTION.items():
        if options.get(name):
            shape[resource] = to_fixed(resource, options[name])
    for resource, amount in (options.get("resources") or {}).items():
        fixed = to_fixed(resource, amount)
        if fixed:
            shape[resource] = fixed
    if options.get("accelerator_type"):
        shape[ACCELERATOR_RESOURCE + options["accelerator_type"]] = ACCELERATOR_SHARE
    return shape
