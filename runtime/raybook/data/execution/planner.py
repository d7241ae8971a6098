"""Planner: an optimised logical plan to operators. Decides what is fused into one task.

Steps are fused when both are maps in tasks and ask for the same resources, and nobody else reads what is between them.
A step in actors begins an operator of its own, so that reading and preparing go on beside it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raybook.data.compute import ActorPoolStrategy, TaskPoolStrategy
from raybook.data.context import DataContext
from raybook.data.core import plan as nodes
from raybook.data.core.parallelism import blocks_wanted
from raybook.data.execution import recipes
from raybook.data.execution.actor_pool import ActorPoolMapOperator
from raybook.data.execution.cluster import cluster_cpus
from raybook.data.execution.exchange import ExchangeOperator, Recipe
from raybook.data.execution.limit_operator import LimitOperator
from raybook.data.execution.map_operator import MapOperator
from raybook.data.execution.operator import InputOperator, Operator, UnionOperator
from raybook.data.execution.programs import AS_MADE, MapProgram
from raybook.data.execution.task_launcher import Launcher
from raybook.data.transforms import PartialAggregate, SplitEvenly, Transform
from raybook.data.writing import WriteBlocks

ACTOR_OPTIONS = frozenset({"max_restarts", "max_task_retries", "max_concurrency", "max_pending_calls"})


class Planner:
    """For one execution. context: the dataset's settings. fuses: whether steps are put together, as they are when a plan
    runs."""

    def __init__(self, context: DataContext, fuses: bool = True) -> None:
        self.context, self._fuses = context, fuses
        self.launcher = Launcher(context)
        self.operators: list[Operator] = []
        self._made: dict[int, Operator] = {}
        self._readers: dict[int, int] = {}
        self.cpus = cluster_cpus()

    def plan(self, root: nodes.Node) -> list[Operator]:
        """Operators in topological order; the last one gives the result."""
        seen: set[int] = set()
        for node in root.walk():
            if id(node) not in seen:
                seen.add(id(node))
                for below in node.inputs:
                    self._readers[id(below)] = self._readers.get(id(below), 0) + 1
        self._operator(root)
        return self.operators

    def _operator(self, node: nodes.Node) -> Operator:
        if id(node) not in self._made:
            operator = self._make(node)
            self.operators.append(operator)
            self._made[id(node)] = operator
        return self._made[id(node)]

    def _make(self, node: nodes.Node) -> Operator:
        if isinstance(node, nodes.InputData):
            return InputOperator(node.name, list(node.bundles))
        if isinstance(node, (nodes.Read, nodes.Map, nodes.Write)):
            return self._map(node)
        if isinstance(node, nodes.Limit):
            return LimitOperator(node.name, node.limit, self._operator(node.inputs[0]), self.launcher)
        if isinstance(node, nodes.Union):
            return UnionOperator([self._operator(one) for one in node.inputs])
        if isinstance(node, nodes.Aggregate):
            return self._aggregate(node)
        recipe, options = self._recipe(node)
        return self._exchange(node.name, [self._operator(one) for one in node.inputs], recipe, options)

    def _exchange(self, name: str, inputs: list[Operator], recipe: Recipe, options: dict[str, Any]) -> Operator:
        return ExchangeOperator(name, inputs, recipe, self.launcher, self._with_defaults(options))

    def _recipe(self, node: nodes.Node) -> tuple[Recipe, dict[str, Any]]:
        return recipes.recipe_for(node, self.context, self.cpus)

    def _aggregate(self, node: nodes.Aggregate) -> Operator:
        """Partial aggregates in the tasks that make the rows, and an exchange of what is left."""
        partial = PartialAggregate(node.keys, node.aggregations)
        below = self._operator(nodes.Map(node.inputs, partial, "PartialAggregate"))
        recipe, options = self._recipe(node)
        return self._exchange(node.name, [below], recipe, options)

    # Maps

    def _map(self, node: Any) -> Operator:
        chain = self._chain(node)
        first = chain[0]
        transforms: list[Transform] = []
        names: list[str] = []
        read_tasks: list[Any] | None = None
        expected: int | None = None
        inputs: list[Operator] = []
        if isinstance(first, nodes.Read):
            read_tasks, pieces, expected = self._read_tasks(first)
            names.append(first.name)
            if pieces > 1:
                transforms.append(SplitEvenly(pieces))
        else:
            inputs = [self._operator(first.inputs[0])]
        for one in chain:
            if isinstance(one, nodes.Map):
                transforms.append(one.transform)
                names.append(one.name)
            elif isinstance(one, nodes.Write):
                transforms.append(WriteBlocks(one.sink))
                names.append(one.name)
        resources = self._resources(chain)
        strategy = resources.compute
        target = (
            AS_MADE if transforms and isinstance(transforms[-1], SplitEvenly) else self.context.target_max_block_size
        )
        settings: dict[str, Any] = {
            "options": self._with_defaults(resources.remote_args),
            "options_fn": resources.remote_args_fn,
            "read_tasks": read_tasks,
            "rows_min": max(
                (one.rows_per_task_min or 0 for one in chain if not isinstance(one, nodes.Read)), default=0
            ),
            "bytes_min": max(
                (one.bytes_per_task_min or 0 for one in chain if not isinstance(one, nodes.Read)), default=0
            ),
            "is_ordered": not isinstance(strategy, ActorPoolStrategy) or self.context.execution_options.preserve_order,
            "expected_bytes": expected,
        }
        program = MapProgram(transforms, target)
        name = "->".join(names)
        if isinstance(strategy, ActorPoolStrategy):
            return ActorPoolMapOperator(
                name, inputs, program, self.launcher, strategy=strategy, cluster_cpus=self.cpus, **settings
            )
        cap = strategy.size if isinstance(strategy, TaskPoolStrategy) else None
        return MapOperator(name, inputs, program, self.launcher, cap=cap, **settings)

    def _chain(self, node: Any) -> list[Any]:
        """The maps that become one operator, first to last; they end in `node`."""
        chain = [node]
        while True:
            first = chain[0]
            if isinstance(first, nodes.Read) or not first.inputs:
                return chain
            below = first.inputs[0]
            if not isinstance(below, (nodes.Read, nodes.Map)) or self._readers.get(id(below), 0) > 1:
                return chain
            if not (self._fuses and _can_fuse(below, first)):
                return chain
            if isinstance(below, nodes.Read) and self._is_split(below):
                return chain
            chain.insert(0, below)

    def _is_split(self, node: nodes.Read) -> bool:
        return node.parallelism > 0 and self._read_tasks(node)[1] > 1

    def _read_tasks(self, node: nodes.Read) -> tuple[list[Any], int, int | None]:
        """Tasks of a read, into how many pieces each one's rows are cut, and the bytes expected of one."""
        if not hasattr(self, "_read_cache"):
            self._read_cache: dict[int, tuple[list[Any], int, int | None]] = {}
        if id(node) not in self._read_cache:
            source = node.datasource
            size = source.estimate_inmemory_data_size()
            wanted = blocks_wanted(
                node.parallelism,
                size,
                self.cpus,
                self.context.target_max_block_size,
                self.context.target_min_block_size,
                self.context.read_op_min_num_blocks,
            )
            tasks = _tasks_of(source, wanted, node.row_limit, self.context)
            pieces = wanted // len(tasks) if node.parallelism > 0 and tasks else 1
            expected = int(size / len(tasks)) if size and tasks else None
            self._read_cache[id(node)] = (tasks, max(1, pieces), expected)
        return self._read_cache[id(node)]

    def _resources(self, chain: list[Any]) -> nodes.Resources:
        """What fused steps ask for together: they agree, or some say nothing."""
        found = chain[0].resources
        for one in chain[1:]:
            other = one.resources
            caps = [
                r.compute.size for r in (found, other) if isinstance(r.compute, TaskPoolStrategy) and r.compute.size
            ]
            compute = other.compute if isinstance(other.compute, ActorPoolStrategy) else found.compute
            if caps:
                compute = TaskPoolStrategy(min(caps))
            chosen = found if other.is_plain else other
            found = replace(chosen, compute=compute)
        return found

    def _with_defaults(self, remote_args: dict[str, Any]) -> dict[str, Any]:
        options = dict(remote_args)
        selector = self.context.execution_options.label_selector
        if selector:
            options["label_selector"] = {**selector, **(options.get("label_selector") or {})}
        return {key: value for key, value in options.items() if value is not None}


def _tasks_of(source: Any, wanted: int, row_limit: int | None, context: DataContext) -> list[Any]:
    """Read tasks; sources written before limits and contexts were passed take the number alone."""
    try:
        return source.get_read_tasks(wanted, per_task_row_limit=row_limit, data_context=context)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        return source.get_read_tasks(wanted)


def _can_fuse(below: Any, above: Any) -> bool:
    """Whether `above` may run in the tasks of `below`."""
    if isinstance(below.resources.compute, ActorPoolStrategy) or isinstance(above.resources.compute, ActorPoolStrategy):
        return False
    if isinstance(below, nodes.Map) and not below.may_fuse or isinstance(above, nodes.Map) and not above.may_fuse:
        return False
    first, second = below.resources, above.resources
    if first.remote_args_fn is not second.remote_args_fn:
        return False
    if first.remote_args == second.remote_args:
        return True
    # A read that asks for nothing special runs where its map runs; two different wishes do not go together.
    return first.is_plain and isinstance(below, nodes.Read) and not second.remote_args.get("num_gpus")
