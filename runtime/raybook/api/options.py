"""Options: which keywords tasks, actors, methods and calls take, and the records they become.

Tables of option name → check; a wrong option is refused here, at the call site, before any message. Defaults are Ray's
(RAY.md §2). It does not know functions, engines or nodes. Invariant: what leaves here needs no further check.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import msgspec

from raybook.api import strategies
from raybook.api.environment_options import check_runtime_env, environment_key
from raybook.api.option_checks import (
    NUM_RETURNS_OF_WORD,
    check_amount,
    check_anything,
    check_backpressure,
    check_bool,
    check_concurrency_groups,
    check_count,
    check_lifetime,
    check_name,
    check_num_returns,
    check_optional_bool,
    check_pending_calls,
    check_resources,
    check_retry_exceptions,
    check_string_map,
    comes_later,
    user_shape,
)
from raybook.api.placement_group import PlacementGroup
from raybook.base.config import task_max_retries
from raybook.base.label_selector import check_fallbacks, check_selector
from raybook.base.resources import CPU, GPU, UNIT
from raybook.base.specs import STREAMING, LabelChoice, SchedulingClass
from raybook.base.strategies import GroupTarget
from raybook.engines.engine import ActorOptions, CallOptions, MethodDefaults, TaskOptions

Check = Callable[[str, Any], None]

BACKPRESSURE = "_generator_backpressure_num_objects"

MAX_CONCURRENCY_ASYNC = 1000
"""How many coroutines of an async actor run at once unless it says otherwise (Ray's default)."""


_COMMON: dict[str, Check] = {
    "num_cpus": check_amount,
    "num_gpus": check_amount,
    "memory": check_amount,
    "resources": check_resources,
    "name": check_name,
    "runtime_env": check_runtime_env,
    "scheduling_strategy": strategies.check_strategy,
    "accelerator_type": check_name,
    "label_selector": check_selector,
    "fallback_strategy": check_fallbacks,
    "placement_group": strategies.check_group,
    "placement_group_bundle_index": check_count(-1, none=True),
    "placement_group_capture_child_tasks": check_optional_bool,
    "enable_task_events": check_bool,
    "_metadata": check_anything,
    "_labels": check_string_map,
}

TASK_OPTIONS: dict[str, Check] = {
    **_COMMON,
    "num_returns": check_num_returns,
    "max_retries": check_count(-1, none=True),
    "retry_exceptions": check_retry_exceptions,
    "max_calls": check_count(0, none=True),
    BACKPRESSURE: check_backpressure,
}

ACTOR_OPTIONS: dict[str, Check] = {
    **_COMMON,
    "namespace": check_name,
    "lifetime": check_lifetime,
    "get_if_exists": check_bool,
    "max_restarts": check_count(-1, none=True),
    "max_task_retries": check_count(-1, none=True),
    "max_concurrency": check_count(0, none=True),
    "max_pending_calls": check_pending_calls,
    "concurrency_groups": check_concurrency_groups,
    "allow_out_of_order_execution": check_optional_bool,
    "enable_tensor_transport": comes_later(False),
}

METHOD_OPTIONS: dict[str, Check] = {
    "num_returns": check_num_returns,
    "concurrency_group": check_name,
    "max_task_retries": check_count(-1, none=True),
    "retry_exceptions": check_retry_exceptions,
    "enable_task_events": check_bool,
    "tensor_transport": comes_later("object_store"),
    BACKPRESSURE: check_backpressure,
}

CALL_OPTIONS: dict[str, Check] = {**METHOD_OPTIONS, "name": check_name}

_CALL_FIELDS = frozenset(CallOptions.__struct_fields__)

_RESOURCE_OPTIONS = ("num_gpus", "memory", "resources", "accelerator_type")

_DECORATOR_ONLY = {"max_calls", "concurrency_groups"}
"""They belong to the function or class itself: a worker's life, an actor's threads."""


def check_options(options: Mapping[str, Any], table: Mapping[str, Check], target: str) -> None:
    """Refuse unknown and wrong options. target: "remote functions", "actors", ... for the message."""
    for name, value in options.items():
        check = table.get(name)
        if check is None:
            raise ValueError(f"Invalid option keyword {name} for {target}. Valid ones are {sorted(table)}.")
        check(name, value)


def check_call_site_options(options: Mapping[str, Any], table: Mapping[str, Check], target: str) -> None:
    """As ``check_options``, for ``.options(...)``, which takes fewer."""
    for name in options:
        if name in _DECORATOR_ONLY and name in table:
            raise ValueError(
                f"Setting '{name}' is not supported in '.options()': it belongs to the decorator, "
                f"@raybook.remote({name}=...)."
            )
    check_options(options, table, target)


def task_options(options: Mapping[str, Any], name: str, is_generator: bool = False) -> TaskOptions:
    """The record of checked task options. name: the function's, unless the options give one."""
    shape = user_shape(options)
    labels, *fallbacks = (tuple(sorted(selector.items())) for selector in strategies.labels_of(options))
    if options.get("num_cpus") is None:
        shape[CPU] = UNIT
    max_retries = options.get("max_retries")
    if max_retries is None:
        max_retries = task_max_retries(os.environ)
    max_calls = options.get("max_calls")
    if max_calls is None:
        # A process that has used a GPU may keep memory of it: Ray ends it after one task, and so do we.
        max_calls = 1 if GPU in shape else 0
    return TaskOptions(
        name=options.get("name") or name,
        scheduling_class=SchedulingClass(
            resources=tuple(sorted(shape.items())),
            environment=environment_key(options.get("runtime_env")),
            strategy=strategies.strategy_of(options, name, shape, shape),
            max_calls=max_calls,
            labels=labels,
            fallbacks=tuple(fallbacks),
            is_retriable=max_retries != 0,
        ),
        num_returns=num_returns_of(options.get("num_returns"), is_generator),
        max_retries=max_retries,
        retry_exceptions=_retry_exceptions(options.get("retry_exceptions")),
        max_calls=max_calls,
        backpressure=_or_default(options.get(BACKPRESSURE), -1),
    )


def num_returns_of(value: Any, is_generator: bool) -> int:
    """The checked option as engines have it. A generator streams unless it says otherwise."""
    if value is None:
        return STREAMING if is_generator else 1
    return NUM_RETURNS_OF_WORD.get(value, value)


def actor_options(
    options: Mapping[str, Any],
    class_name: str,
    methods: dict[str, int],
    method_defaults: dict[str, MethodDefaults],
    is_async: bool,
) -> ActorOptions:
    """The record of checked actor options. ValueError for combinations that make no sense together.

    Resources (behaviour 34): an actor that asks for nothing needs one CPU to be placed and holds none while it lives;
    one that asks for anything holds what it asks for, and one CPU unless num_cpus says otherwise.
    """
    if options.get("get_if_exists") and not options.get("name"):
        raise ValueError("The actor name must be specified to use `get_if_exists`.")
    shape = user_shape(options)
    if options.get("num_cpus") is None:
        asked = any(options.get(name) is not None for name in _RESOURCE_OPTIONS)
        resources = {**shape, CPU: UNIT} if asked else {}
        placement = resources or {CPU: UNIT}
    else:
        resources = placement = shape
    groups = dict(options.get("concurrency_groups") or {})
    labels, *fallbacks = strategies.labels_of(options)
    concurrency = options.get("max_concurrency") or (MAX_CONCURRENCY_ASYNC if is_async else 1)
    for method, defaults in method_defaults.items():
        if defaults.concurrency_group and defaults.concurrency_group not in groups:
            raise ValueError(
                f"Method {method!r} of {class_name} names the concurrency group {defaults.concurrency_group!r}, which "
                f"the class does not declare. Declared are: {sorted(groups)}."
            )
    return ActorOptions(
        class_name=class_name,
        resources=resources,
        placement=placement,
        name=options.get("name") or "",
        namespace=options.get("namespace"),
        detached=options.get("lifetime") == "detached",
        get_if_exists=bool(options.get("get_if_exists")),
        max_restarts=options.get("max_restarts") or 0,
        max_task_retries=options.get("max_task_retries") or 0,
        max_concurrency=concurrency,
        max_pending_calls=_or_default(options.get("max_pending_calls"), -1),
        is_async=is_async,
        environment=environment_key(options.get("runtime_env")),
        strategy=strategies.strategy_of(options, class_name, resources, placement),
        labels=labels,
        fallbacks=[LabelChoice(selector) for selector in fallbacks],
        methods=methods,
        concurrency_groups=groups,
        method_defaults=method_defaults,
        is_unordered=_is_unordered(options.get("allow_out_of_order_execution"), is_async, concurrency),
    )


def _is_unordered(asked: bool | None, is_async: bool, max_concurrency: int) -> bool:
    """Whether calls may overtake those that wait for arguments. Where several run at once, they do."""
    overlaps = is_async or max_concurrency > 1
    if asked is None:
        return overlaps
    if overlaps and not asked:
        kind = "async" if is_async else "multi-threaded"
        raise ValueError(
            f"If you're using {kind} actors, raybook can't execute actor tasks in order. Set "
            "`allow_out_of_order_execution=True`, or leave it out."
        )
    return asked


def into_group(options: TaskOptions, target: GroupTarget) -> TaskOptions:
    """The record of a task that a capturing parent takes into its group. ValueError when it fits no bundle of it."""
    what = options.scheduling_class
    shape = dict(what.resources)
    strategies.check_fits(PlacementGroup(target.group_id), options.name, shape, shape)
    moved = msgspec.structs.replace(what, strategy=target.encode())
    return msgspec.structs.replace(options, scheduling_class=moved)


def actor_into_group(options: ActorOptions, target: GroupTarget) -> ActorOptions:
    """As ``into_group``, for actors."""
    group = PlacementGroup(target.group_id)
    strategies.check_fits(group, options.class_name, options.resources, options.placement)
    return msgspec.structs.replace(options, strategy=target.encode())


def method_defaults(options: Mapping[str, Any]) -> MethodDefaults:
    """What ``@method`` declared."""
    retry = options.get("retry_exceptions")
    if retry is not None and not isinstance(retry, bool):
        retry = cloudpickle.dumps(tuple(retry)) if retry else False
    return MethodDefaults(
        max_task_retries=options.get("max_task_retries"),
        retry_exceptions=retry,
        concurrency_group=options.get("concurrency_group") or "",
        backpressure=_or_default(options.get(BACKPRESSURE), -1),
    )


def call_options(name: str, num_returns: int, defaults: MethodDefaults | None, max_task_retries: int) -> CallOptions:
    """The record of a call as the class declared it: the method's own values win over the actor's."""
    if defaults is None:
        return CallOptions(name, num_returns, max_task_retries)
    return CallOptions(
        name=name,
        num_returns=num_returns,
        max_task_retries=_or_default(defaults.max_task_retries, max_task_retries),
        retry_exceptions=_retry_classes(defaults.retry_exceptions),
        concurrency_group=defaults.concurrency_group,
        backpressure=defaults.backpressure,
    )


def override_call(declared: CallOptions, options: Mapping[str, Any]) -> CallOptions:
    """The record with what ``handle.method.options(...)`` says on top."""
    changes = {name: value for name, value in options.items() if value is not None and name in _CALL_FIELDS}
    if "retry_exceptions" in changes:
        changes["retry_exceptions"] = _retry_exceptions(changes["retry_exceptions"])
    if "num_returns" in changes:
        changes["num_returns"] = num_returns_of(changes["num_returns"], False)
    if options.get(BACKPRESSURE) is not None:
        changes["backpressure"] = options[BACKPRESSURE]
    return msgspec.structs.replace(declared, **changes)


def _or_default(value: Any, default: Any) -> Any:
    return default if value is None else value


def _retry_classes(declared: bool | bytes | None) -> Any:
    return pickle.loads(declared) if isinstance(declared, bytes) else bool(declared)


def _retry_exceptions(value: Any) -> Any:
    return value if isinstance(value, bool) else tuple(value or ()) or False
