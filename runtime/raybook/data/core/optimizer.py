"""Optimizer: rewrites a plan into one that reads and moves less. Pure: it asks datasources only for copies of themselves.

Rules, each a small function from a node to a node; they run from the leaves up, again until nothing changes:
limits sink below steps that keep rows in place; filters that are expressions sink below projections, sorts and shuffles,
join their neighbours, and go into reads; projections sink below filters and go into reads; aggregations tell the
projection that they imply. What may see the difference stays where it is: no rule moves anything past a user's function
but a limit, and that only past one that makes one row of one row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from raybook.data.core.plan import (
    Aggregate,
    Limit,
    Map,
    Node,
    RandomizeBlocks,
    RandomShuffle,
    Read,
    Repartition,
    Sort,
    Union,
)

PASSES_MAX = 100
"""A plan that has not settled by then has a rule that undoes another: a bug, and no reason to hang."""


def optimize(plan: Node) -> Node:
    """The plan with all rules applied."""
    for _ in range(PASSES_MAX):
        before = plan
        plan = _rewrite(plan, {})
        if plan is before:
            return plan
    raise AssertionError(f"the optimizer does not settle on {plan.name}")


def _rewrite(node: Node, done: dict[int, Node]) -> Node:
    """One pass, children first. done: a part of the plan that stands in it twice stays one."""
    if id(node) in done:
        return done[id(node)]
    inputs = tuple(_rewrite(one, done) for one in node.inputs)
    made = node if all(a is b for a, b in zip(inputs, node.inputs, strict=True)) else node.with_inputs(*inputs)
    if isinstance(made, Limit):
        made = _sink_limit(made)
    elif isinstance(made, Map) and made.predicate is not None:
        made = _sink_filter(made)
    elif isinstance(made, Map) and made.columns is not None:
        made = _sink_projection(made)
    elif isinstance(made, Aggregate):
        made = _project_for_aggregate(made)
    done[id(node)] = made
    return made


def _sink_limit(node: Limit) -> Node:
    below = node.inputs[0]
    if isinstance(below, Limit):
        return replace(below, limit=min(below.limit, node.limit))
    if isinstance(below, Map) and below.keeps_rows:
        return below.with_inputs(node.with_inputs(*below.inputs))
    if isinstance(below, Union):
        if all(isinstance(one, Limit) and one.limit <= node.limit for one in below.inputs):
            return node
        return node.with_inputs(below.with_inputs(*(Limit((one,), node.limit) for one in below.inputs)))
    if isinstance(below, Read) and (below.row_limit is None or below.row_limit > node.limit):
        limited = below.datasource.with_limit(node.limit)
        source = below.datasource if limited is None else limited
        noted = (*(n for n in below.notes if not n.startswith("limit")), f"limit={node.limit}")
        return node.with_inputs(replace(below, datasource=source, row_limit=node.limit, notes=noted))
    return node


def _sink_filter(node: Map) -> Node:
    below = node.inputs[0]
    if not node.is_deterministic:
        return node
    if isinstance(below, Map) and below.columns is not None and node.predicate_columns <= set(below.columns):
        return below.with_inputs(node.with_inputs(*below.inputs))
    if isinstance(below, (Sort, RandomShuffle, RandomizeBlocks)) or (
        isinstance(below, Repartition) and (below.keys or below.shuffle)
    ):
        if isinstance(below, RandomShuffle) and below.seed is not None:
            return node  # Which rows a seed puts where is part of the result.
        return below.with_inputs(node.with_inputs(*below.inputs))
    if isinstance(below, Union):
        return below.with_inputs(*(node.with_inputs(one) for one in below.inputs))
    if isinstance(below, Read) and below.row_limit is None:
        filtered = below.datasource.with_predicate(node.predicate)
        if filtered is not None:
            return replace(below, datasource=filtered, notes=(*below.notes, f"filter={node.predicate}"))
    return node


def _sink_projection(node: Map) -> Node:
    below = node.inputs[0]
    columns = cast("tuple[str, ...]", node.columns)
    if isinstance(below, Map) and below.columns is not None and set(columns) <= set(below.columns):
        return node.with_inputs(*below.inputs)
    if isinstance(below, Union):
        return below.with_inputs(*(node.with_inputs(one) for one in below.inputs))
    if isinstance(below, Read):
        # The read gives exactly these columns, in this order: the step itself is gone.
        return _project_read(below, columns) or node
    narrowed = _narrow_source(below, columns)
    return node if narrowed is None else node.with_inputs(narrowed)


def _narrow_source(node: Node, needed: tuple[str, ...]) -> Node | None:
    """The filters and limits in `node` over a read that gives no more columns than they and the step above need; None where
    nothing changes."""
    if isinstance(node, Read):
        return _project_read(node, needed)
    if isinstance(node, Limit):
        source = _narrow_source(node.inputs[0], needed)
        return None if source is None else node.with_inputs(source)
    if not (isinstance(node, Map) and node.predicate is not None) or "*" in node.predicate_columns:
        return None
    wanted = tuple(dict.fromkeys((*needed, *sorted(node.predicate_columns))))
    source = _narrow_source(node.inputs[0], wanted)
    return None if source is None else node.with_inputs(source)


def _project_read(node: Read, columns: tuple[str, ...]) -> Read | None:
    if f"columns={list(columns)}" in node.notes:
        return None
    projected = node.datasource.with_projection(list(columns))
    if projected is None:
        return None
    notes = tuple(note for note in node.notes if not note.startswith("columns"))
    return replace(node, datasource=projected, notes=(*notes, f"columns={list(columns)}"))


def _project_for_aggregate(node: Aggregate) -> Node:
    if not node.needed:
        return node
    narrowed = _narrow_source(node.inputs[0], node.needed)
    return node if narrowed is None else node.with_inputs(narrowed)


def known_row_count(plan: Node, count_of_input: Callable[[Node], int | None]) -> int | None:
    """How many rows the plan makes, if that can be told without running it. count_of_input: of a leaf."""
    if isinstance(plan, Read):
        return None if plan.row_limit is not None else count_of_input(plan)
    if not plan.inputs:
        return count_of_input(plan)
    if isinstance(plan, Union):
        counts = [known_row_count(one, count_of_input) for one in plan.inputs]
        return None if None in counts else sum(cast("list[int]", counts))
    if isinstance(plan, Limit):
        below = known_row_count(plan.inputs[0], count_of_input)
        return None if below is None else min(plan.limit, below)
    if isinstance(plan, Map) and plan.has_user_code:
        return None
    if plan.keeps_rows or isinstance(plan, (Sort, RandomShuffle, RandomizeBlocks, Repartition)):
        return known_row_count(plan.inputs[0], count_of_input)
    return None
