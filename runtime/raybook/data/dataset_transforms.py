"""Transforms of rows: map, map_batches, flat_map, filter and what is made of them. Nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raybook.data.batches import check_format, from_pandas, is_frame, to_batch
from raybook.data.columns import to_arrow
from raybook.data.compute import ComputeStrategy, TaskPoolStrategy, resolve, strategy_for
from raybook.data.core.plan import Map, Resources
from raybook.data.dataset_base import DatasetBase
from raybook.data.expression_nodes import AliasExpr, Expr
from raybook.data.expression_text import parse_condition
from raybook.data.expressions import StarExpr, UnnestExpr, star
from raybook.data.functions import UserFunction
from raybook.data.random_seed import seed_value
from raybook.data.transforms import (
    FilterExpr,
    MapBatches,
    MapRows,
    Project,
    RowSample,
    TableFunction,
    drop,
    rename,
    select,
)

if TYPE_CHECKING:
    from raybook.data.dataset import Dataset

RESOURCE_OPTIONS = (
    "num_cpus",
    "num_gpus",
    "memory",
    "label_selector",
    "fallback_strategy",
    "max_calls",
    "resources",
    "accelerator_type",
    "runtime_env",
)


def remote_options(options: dict[str, Any], named: dict[str, Any]) -> dict[str, Any]:
    """Options of tasks: those that have a parameter of their own, if given, and the rest."""
    merged = {**options, **{key: value for key, value in named.items() if value is not None}}
    if merged.get("num_cpus") is not None and merged["num_cpus"] < 0:
        raise ValueError(f"num_cpus must not be negative, got {merged['num_cpus']}.")
    return merged


class DatasetTransforms(DatasetBase):
    """Part of Dataset."""

    def map(
        self,
        fn: Callable[[dict[str, Any]], dict[str, Any]],
        *,
        compute: ComputeStrategy | None = None,
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Each row through `fn`, which gets a dict and returns one. fn: a function, or a class whose instances are
        called, made once in each actor of a pool. Cost: about 1 µs a row beside the function's own."""
        function = UserFunction(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
        strategy = strategy_for(fn, compute, concurrency, fn_constructor_args)
        options = remote_options(ray_remote_args, {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory})
        resources = Resources(strategy, options, ray_remote_args_fn)
        return self._derive(
            Map((self._plan,), MapRows(function, "map"), "Map", function.name, resources, keeps_row_count=True)
        )

    def flat_map(
        self,
        fn: Callable[[dict[str, Any]], list[dict[str, Any]]],
        *,
        compute: ComputeStrategy | None = None,
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Each row through `fn`, which returns a list of rows (or yields them)."""
        function = UserFunction(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
        strategy = strategy_for(fn, compute, concurrency, fn_constructor_args)
        options = remote_options(ray_remote_args, {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory})
        resources = Resources(strategy, options, ray_remote_args_fn)
        return self._derive(Map((self._plan,), MapRows(function, "flat_map"), "FlatMap", function.name, resources))

    def filter(
        self,
        fn: Callable[[dict[str, Any]], bool] | None = None,
        expr: str | Expr | None = None,
        *,
        compute: str | ComputeStrategy | None = None,
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """The rows for which `fn` is true, or the expression: ``filter(expr=col("x") > 3)``, which is many times as fast
        and can be pushed into a read. An expression may be a string: "x > 3 and y == 'a'"."""
        if isinstance(fn, Expr) and expr is None:
            fn, expr = None, fn
        if (fn is None) == (expr is None):
            raise ValueError("Exactly one of 'fn' or 'expr' must be provided.")
        options = remote_options(ray_remote_args, {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory})
        if expr is not None:
            if any(value is not None for value in (fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)):
                raise ValueError("when 'expr' is used, 'fn_args/fn_kwargs' or 'fn_constructor_args' can not be used.")
            condition = parse_condition(expr) if isinstance(expr, str) else expr
            if not isinstance(condition, Expr):
                raise TypeError(f"expr must be an Expr or a string, got {type(expr).__name__}.")
            size = concurrency if isinstance(concurrency, int) else None
            strategy = resolve(compute) if compute is not None else TaskPoolStrategy(size)
            return self._derive(
                Map(
                    (self._plan,),
                    FilterExpr(condition),
                    "Filter",
                    str(condition),
                    Resources(strategy, options, ray_remote_args_fn),
                    predicate=condition,
                    predicate_columns=frozenset(condition.columns()),
                    is_deterministic=condition.is_deterministic(),
                )
            )
        assert fn is not None
        function = UserFunction(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
        strategy = strategy_for(fn, compute, concurrency, fn_constructor_args)
        resources = Resources(strategy, options, ray_remote_args_fn)
        return self._derive(Map((self._plan,), MapRows(function, "filter"), "Filter", function.name, resources))

    def map_batches(
        self,
        fn: Callable[..., Any],
        *,
        batch_size: int | str | None = None,
        compute: ComputeStrategy | None = None,
        batch_format: str | None = "default",
        zero_copy_batch: bool = True,
        fn_args: Any = None,
        fn_kwargs: dict[str, Any] | None = None,
        fn_constructor_args: Any = None,
        fn_constructor_kwargs: dict[str, Any] | None = None,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        memory: float | None = None,
        concurrency: int | tuple[int, ...] | None = None,
        udf_modifying_row_count: bool = True,
        ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Batches through `fn`: a dict of arrays ("numpy", the default), a data frame ("pandas") or a table ("pyarrow")
        in, any of these out, with any number of rows; or a generator of them.

        batch_size: rows a call; None: a block as it comes. zero_copy_batch: `fn` may get read-only views of shared
        memory; False gives it arrays that it may write to. ValueError for a batch size below 1 or an unknown format.
        """
        if batch_size == "auto" or batch_size == "default":
            batch_size = None
        if batch_size is not None and (isinstance(batch_size, (bool, str)) or batch_size < 1):
            raise ValueError(f"Batch size can't be negative or 0, got {batch_size!r}.")
        check_format(batch_format)
        function = UserFunction(fn, fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)
        strategy = strategy_for(fn, compute, concurrency, fn_constructor_args)
        options = remote_options(ray_remote_args, {"num_cpus": num_cpus, "num_gpus": num_gpus, "memory": memory})
        size = int(batch_size) if batch_size is not None else None
        return self._derive(
            Map(
                (self._plan,),
                MapBatches(function, size, batch_format, zero_copy_batch),
                "MapBatches",
                function.name,
                Resources(strategy, options, ray_remote_args_fn),
                keeps_row_count=not udf_modifying_row_count,
                rows_per_task_min=size,
            )
        )

    # Columns

    def with_column(
        self, column_name: str, expr: Expr, *, compute: ComputeStrategy | None = None, **ray_remote_args: Any
    ) -> Dataset:
        """Another column by an expression; in the place of one of that name if there is one."""
        if not isinstance(expr, Expr):
            raise TypeError(f"with_column() wants an expression, such as col('x') + 1; got {type(expr).__name__}.")
        if isinstance(expr, (StarExpr, UnnestExpr)):
            raise ValueError(f"{expr} makes several columns; with_columns() takes it.")
        return self.with_columns({column_name: expr}, compute=compute, **ray_remote_args)

    def with_columns(
        self,
        exprs: Mapping[str, Expr] | UnnestExpr | None = None,
        *more_exprs: Mapping[str, Expr] | UnnestExpr,
        compute: ComputeStrategy | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """More columns by expressions, each of the columns that were there before."""
        made: list[Expr] = [star()]
        names: list[str] = []
        for group in (exprs, *more_exprs):
            if isinstance(group, UnnestExpr):
                made.append(group)
                names.append(str(group))
            elif isinstance(group, Mapping):
                for name, expr in group.items():
                    if not isinstance(expr, Expr):
                        raise TypeError(f"Column {name!r} wants an expression, got {type(expr).__name__}.")
                    made.append(AliasExpr(expr, name))
                    names.append(name)
            elif group is not None:
                raise TypeError(f"with_columns() wants a dict of expressions or unnest(...), got {group!r}.")
        if not names:
            raise ValueError("with_columns() wants at least one expression.")
        resources = Resources(resolve(compute), remote_options(ray_remote_args, {}))
        return self._derive(
            Map(
                (self._plan,),
                Project(made),
                "Project",
                ", ".join(names),
                resources,
                keeps_row_count=True,
                has_user_code=not all(one.is_deterministic() for one in made),
            )
        )

    def add_column(
        self,
        col: str,
        fn: Callable[[Any], Any],
        *,
        batch_format: str | None = "pandas",
        compute: str | None = None,
        concurrency: int | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Another column by a function of batches, which returns a series, an array or a list, one value a row."""
        if batch_format not in ("pandas", "pyarrow", "numpy"):
            raise ValueError(f"batch_format argument must be 'pandas', 'pyarrow' or 'numpy', got: {batch_format}")
        if not callable(fn):
            raise ValueError(f"`fn` must be callable, got {fn}")
        return self._column_step(
            partial(_add_column, name=col, fn=fn, batch_format=batch_format),
            f"AddColumn({col})",
            compute,
            concurrency,
            ray_remote_args,
            has_user_code=True,
        )

    def drop_columns(
        self,
        cols: list[str],
        *,
        compute: str | None = None,
        concurrency: int | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """All columns but these."""
        names = [cols] if isinstance(cols, str) else list(cols)
        if len(names) != len(set(names)):
            raise ValueError(f"drop_columns expects unique column names, got: {names}")
        known = self._known_schema()
        missing = [name for name in names if known is not None and name not in known.names]
        if known is not None and missing:
            raise KeyError(
                f"drop_columns: column(s) not found in dataset schema: {missing}. Available columns: {known.names}"
            )
        return self._column_step(
            partial(drop, columns=names), f"DropColumns({', '.join(names)})", compute, concurrency, ray_remote_args
        )

    def select_columns(
        self,
        cols: str | list[str],
        *,
        compute: str | ComputeStrategy | None = None,
        concurrency: int | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """Only these columns, in this order. A read right below reads nothing else."""
        names = [cols] if isinstance(cols, str) else cols
        if not isinstance(names, (list, tuple)):
            raise TypeError(f"select_columns requires 'cols' to be a string or a list of strings, got: {names!r}.")
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"select_columns requires all elements of 'cols' to be strings, got: {names!r}.")
        if len(names) != len(set(names)):
            raise ValueError(f"select_columns expected unique column names, got duplicate column names: {list(names)}")
        self._require_columns(list(names), "a column to select")
        size = concurrency if isinstance(concurrency, int) else None
        resources = Resources(
            resolve(compute) if compute else TaskPoolStrategy(size), remote_options(ray_remote_args, {})
        )
        return self._derive(
            Map(
                (self._plan,),
                TableFunction(partial(select, columns=list(names))),
                "Project",
                ", ".join(names),
                resources,
                keeps_row_count=True,
                has_user_code=False,
                columns=tuple(names),
            )
        )

    def rename_columns(
        self,
        names: list[str] | dict[str, str],
        *,
        concurrency: int | tuple[int, ...] | None = None,
        **ray_remote_args: Any,
    ) -> Dataset:
        """New names: a dict from old to new, or a list for all columns in order."""
        if isinstance(names, dict):
            if not names:
                raise ValueError("rename_columns received 'names' with no entries.")
            if len(names.values()) != len(set(names.values())):
                raise ValueError(f"rename_columns received duplicate values in the 'names': {names}")
            pairs = [*names.keys(), *names.values()]
            self._require_columns(list(names), "a column to rename")
        elif isinstance(names, list):
            if not names:
                raise ValueError("rename_columns requires 'names' with at least one column name.")
            if len(names) != len(set(names)):
                raise ValueError(f"rename_columns received duplicate values in the 'names': {names}")
            pairs = list(names)
            known = self._known_schema()
            if known is not None and len(known.names) != len(names):
                raise ValueError(
                    f"rename_columns requires 'names': {names} length match current schema names: {known.names}."
                )
        else:
            raise TypeError(
                f"rename_columns expected names to be either List[str] or Dict[str, str], got {type(names)}."
            )
        if not all(isinstance(name, str) for name in pairs):
            raise ValueError("rename_columns requires both keys and values in the 'names' to be strings.")
        size = concurrency if isinstance(concurrency, int) else None
        return self._column_step(partial(rename, names=names), "RenameColumns", None, size, ray_remote_args)

    def _column_step(
        self,
        fn: Callable[[pa.Table], pa.Table],
        label: str,
        compute: Any,
        concurrency: int | None,
        ray_remote_args: dict[str, Any],
        has_user_code: bool = False,
    ) -> Dataset:
        strategy = TaskPoolStrategy(concurrency) if concurrency is not None else resolve(compute)
        resources = Resources(strategy, remote_options(ray_remote_args, {}))
        return self._derive(
            Map(
                (self._plan,),
                TableFunction(fn),
                label,
                "",
                resources,
                keeps_row_count=True,
                has_user_code=has_user_code,
            )
        )

    def random_sample(self, fraction: float, *, seed: Any = None) -> Dataset:
        """Each row with probability `fraction`, on its own."""
        if not 0 <= fraction <= 1:
            raise ValueError("Fraction must be between 0 and 1.")
        seed_value(seed)
        return self._derive(Map((self._plan,), RowSample(fraction, seed), "RandomSample"))


def _add_column(table: pa.Table, name: str, fn: Callable[[Any], Any], batch_format: str) -> pa.Table:
    if not table.num_columns and not table.num_rows:
        return table
    values = fn(to_batch(table, batch_format))
    if is_frame(values):
        values = from_pandas(values).column(0)
    column = to_arrow(values.to_numpy() if hasattr(values, "iloc") else values, name)
    if len(column) != table.num_rows:
        raise ValueError(
            f"The function of add_column({name!r}) returned {len(column)} values for {table.num_rows} rows. It must return "
            "one a row."
        )
    index = table.schema.get_field_index(name)
    return table.append_column(name, column) if index < 0 else table.set_column(index, name, column)
