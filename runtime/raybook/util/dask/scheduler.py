"""Dask on raybook: a Dask scheduler that submits every task of a graph at once, and lets the runtime order them.

It walks the graph in Dask's own order, and hands each task the refs of those it depends on; results travel from worker to
worker and come here only when they are asked for. Results that persist are refs, in the collection that stands for them.
Source: behaviour of Ray's ``ray.util.dask``; Dask's task specification (``dask._task_spec``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dask
from dask._task_spec import Alias, DataNode, GraphNode, Task, convert_legacy_graph
from dask.highlevelgraph import HighLevelGraph
from dask.order import order

from raybook.api import ObjectRef, get, put, remote
from raybook.util.dask.callbacks import local_ray_callbacks, unpack_ray_callbacks

RESOURCES_ERROR = (
    'Use ray_remote_args={"resources": {...}} instead of resources={...} to specify required Ray task resources; the '
    "options of raybook.remote are what it takes."
)


def enable_dask_on_ray(shuffle: str | None = "tasks", use_shuffle_optimization: bool | None = True) -> Any:
    """Dask computes on raybook from now on, or in a ``with`` block. shuffle: Dask's method; "tasks" needs no common disk.
    use_shuffle_optimization: accepted; Dask's own optimizer does it since 2025."""
    return dask.config.set({"scheduler": ray_dask_get, "dataframe.shuffle.method": shuffle})


def disable_dask_on_ray() -> Any:
    """Dask computes as if raybook were not there."""
    return dask.config.set({"scheduler": None, "dataframe.shuffle.method": None})


def ray_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute ``keys`` (nested lists of them give nested tuples) of a graph: ``dask.compute(x, scheduler=ray_dask_get)``.

    ray_callbacks: for this computation, in place of the active ones. ray_remote_args: options of ``raybook.remote`` for
    every task; ``dask.annotate(ray_remote_args=...)`` overrides them for some. ray_persist: results as refs. num_workers
    and pool are Dask's and without effect: nothing here needs threads. ValueError for ``resources``, which belongs into
    ray_remote_args; raises what a task raised.
    """
    if "resources" in kwargs or "resources" in dask.get_annotations():
        raise ValueError(RESOURCES_ERROR)
    return _compute(dsk, keys, one_at_a_time=False, **kwargs)


def ray_dask_get_sync(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """As ``ray_dask_get``, one task after another, for those who look for an error."""
    return _compute(dsk, keys, one_at_a_time=True, **kwargs)


def _compute(
    dsk: Any,
    keys: Any,
    *,
    one_at_a_time: bool,
    ray_callbacks: Iterable[Any] | None = None,
    ray_persist: bool = False,
    ray_remote_args: Mapping[str, Any] | None = None,
    **unused: Any,
) -> Any:
    if not isinstance(dsk, Mapping):
        dsk = dsk._optimized_dsk if hasattr(dsk, "_optimized_dsk") else dsk.__dask_graph__()
    options = _options_by_key(dsk, dict(ray_remote_args or {}))
    graph: dict[Any, GraphNode] = convert_legacy_graph(dict(dsk))
    with local_ray_callbacks(ray_callbacks) as active:
        hooks = unpack_ray_callbacks(active)
        submission = _Submission(graph, hooks, options, one_at_a_time)
        results = submission.run(keys)
        for callback in hooks.ray_postsubmit_all_cbs or ():
            callback(results, graph)
        # Refs of what lies between go with them, while tasks still run.
        del submission, graph
        if not ray_persist:
            results = _values(results, keys)
        for callback in hooks.ray_finish_cbs or ():
            callback(results)
    return results


class _Submission:
    """One graph on its way. ``results``: by key, refs of what was submitted, and plain values."""

    def __init__(
        self, graph: dict[Any, GraphNode], hooks: Any, options: dict[Any, dict[str, Any]], one_at_a_time: bool
    ) -> None:
        self._graph = graph
        self._hooks = hooks
        self._options = options
        self._one_at_a_time = one_at_a_time
        self._results: dict[Any, Any] = {}
        self._around = (hooks.ray_pretask_cbs, hooks.ray_posttask_cbs)
        self._function = remote(_run_task)

    def run(self, keys: Any) -> Any:
        """Submit what ``keys`` need; their refs and values, nested as they are."""
        needed = self._needed(keys)
        users: dict[Any, int] = dict.fromkeys(needed, 0)
        for node in needed.values():
            for key in node.dependencies:
                if key in users:
                    users[key] += 1
        priorities = order(needed)
        for key in sorted(needed, key=priorities.__getitem__):
            self._results[key] = self._submit(key, needed[key], users[key])
            if self._one_at_a_time and isinstance(self._results[key], ObjectRef):
                get(self._results[key])
        return self._nested(keys)

    def _needed(self, keys: Any) -> dict[Any, GraphNode]:
        needed: dict[Any, GraphNode] = {}
        todo = list(_flat_keys(keys))
        while todo:
            key = todo.pop()
            if key not in needed and key in self._graph:
                needed[key] = self._graph[key]
                todo.extend(needed[key].dependencies)
        return needed

    def _submit(self, key: Any, node: GraphNode, users: int) -> Any:
        if isinstance(node, DataNode):
            # Shared ones travel once; others with the only task that takes them.
            return put(node.value) if users > 1 and not isinstance(node.value, ObjectRef) else node.value
        if isinstance(node, Alias):
            return self._results[node.target]
        needs = {needed: self._results[needed] for needed in node.dependencies if needed in self._results}
        for callback in self._hooks.ray_presubmit_cbs or ():
            instead = callback(node, key, needs)
            if instead is not None:
                return instead
        function = self._function.options(name=f"dask:{key!s}", **self._options.get(key, {}))
        ref = function.remote(node, key, tuple(needs), self._around, *needs.values())
        for callback in self._hooks.ray_postsubmit_cbs or ():
            callback(node, key, needs, ref)
        return ref

    def _nested(self, keys: Any) -> Any:
        if isinstance(keys, list):
            return tuple(self._nested(key) for key in keys)
        return self._results[keys]


def _run_task(node: Any, key: Any, names: tuple[Any, ...], around: tuple[Any, Any], *values: Any) -> Any:
    """What a worker does: the task, with values by the names of the keys that made them."""
    before, after = around
    states = [callback(key, values) if callback is not None else None for callback in before or ()]
    _fill_refs(node)
    result = node(dict(zip(names, values, strict=True)))
    for callback, state in zip(after or (), states, strict=False):
        if callback is not None:
            callback(key, result, state)
    return result


def _fill_refs(task: Any) -> None:
    """Refs that the user wrote into the graph become their values; the runtime has not seen them as arguments."""
    if not isinstance(task, Task):
        return
    task.args = tuple(_filled(value) for value in task.args)
    if task.kwargs:
        task.kwargs = {name: _filled(value) for name, value in task.kwargs.items()}


def _filled(value: Any) -> Any:
    if isinstance(value, ObjectRef):
        return get(value)
    if isinstance(value, DataNode) and isinstance(value.value, ObjectRef):
        return DataNode(value.key, get(value.value))
    if type(value) in (list, tuple, set):
        return type(value)(_filled(item) for item in value)
    if type(value) is dict:
        return {name: _filled(item) for name, item in value.items()}
    _fill_refs(value)
    return value


def _values(results: Any, keys: Any) -> Any:
    """Everything fetched, with one ``get`` for all refs; nested as the keys are: a result may be a tuple itself."""
    refs = [result for result in _flat_results(results, keys) if isinstance(result, ObjectRef)]
    values = iter(get(refs))

    def fill(result: Any, key: Any) -> Any:
        if isinstance(key, list):
            return tuple(fill(*pair) for pair in zip(result, key, strict=True))
        return next(values) if isinstance(result, ObjectRef) else result

    return fill(results, keys)


def _flat_results(results: Any, keys: Any) -> Iterator[Any]:
    if isinstance(keys, list):
        for result, key in zip(results, keys, strict=True):
            yield from _flat_results(result, key)
    else:
        yield results


def _flat_keys(keys: Any) -> Iterable[Any]:
    if isinstance(keys, list):
        for key in keys:
            yield from _flat_keys(key)
    else:
        yield keys


def _options_by_key(dsk: Mapping[Any, Any], everywhere: dict[str, Any]) -> dict[Any, dict[str, Any]]:
    """Options of each task: those of the call, of ``dask.annotate`` around it, and of its layer, the later ones on top."""
    outside = dask.get_annotations().get("ray_remote_args", {})
    common = {**everywhere, **outside}
    found: dict[Any, dict[str, Any]] = dict.fromkeys(dsk, common) if common else {}
    if isinstance(dsk, HighLevelGraph):
        for name in reversed(dsk._toposort_layers()):
            layer = dsk.layers[name]
            annotations = layer.annotations or {}
            if "resources" in annotations:
                raise ValueError(RESOURCES_ERROR)
            own = annotations.get("ray_remote_args")
            if own:
                found.update(dict.fromkeys(layer.get_output_keys(), {**common, **own}))
    return found
