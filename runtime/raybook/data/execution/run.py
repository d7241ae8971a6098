"""Runs a logical plan: optimises, plans, and makes the executor."""

from __future__ import annotations

from collections.abc import Iterator

from raybook.api import init, is_initialized
from raybook.data.block import Bundle
from raybook.data.context import DataContext
from raybook.data.core.optimizer import optimize
from raybook.data.core.plan import InputData, Node
from raybook.data.execution.cluster import limits_of
from raybook.data.execution.executor import Executor
from raybook.data.execution.planner import Planner


def executor_for(plan: Node, context: DataContext) -> Executor:
    """An executor that has not begun. Starts raybook if nobody has."""
    if not is_initialized():
        init()
    operators = Planner(context).plan(optimize(plan))
    return Executor(operators, limits_of(context), context)


def run_plan(plan: Node, context: DataContext) -> tuple[Iterator[Bundle], Executor | None]:
    """The bundles of a plan, in order, as they are made; and the executor, None where nothing had to run."""
    if isinstance(plan, InputData):
        return iter(plan.bundles), None
    executor = executor_for(plan, context)
    return executor.run(), executor
