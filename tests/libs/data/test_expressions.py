"""Expressions: what they compute, and what they are as trees."""

from __future__ import annotations

import cloudpickle
import pyarrow as pa
import pytest

from raybook.data.datatype import DataType
from raybook.data.expression_evaluation import Evaluation
from raybook.data.expression_text import parse_condition
from raybook.data.expressions import (
    col,
    lit,
    monotonically_increasing_id,
    pyarrow_udf,
    random,
    star,
    udf,
    unnest,
    uuid,
)

TABLE = pa.table(
    {
        "a": [1, -2, 7, None],
        "f": [1.5, 2.5, -0.5, 4.0],
        "s": ["x", "yy", None, "Zz"],
        "l": [[1, 2], [3], None, []],
        "st": [{"f": 1}, {"f": 2}, None, {"f": 4}],
    }
)


def value(expr, table=TABLE):
    return Evaluation().project(table, [cloudpickle.loads(cloudpickle.dumps(expr.alias("r")))]).column("r").to_pylist()


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (col("a") + 1, [2, -1, 8, None]),
        (10 - col("a"), [9, 12, 3, None]),
        (col("a") * col("f"), [1.5, -5.0, -3.5, None]),
        (col("f") / 2, [0.75, 1.25, -0.25, 2.0]),
        (col("a") // 2, [0, -1, 3, None]),
        (col("a") % 3, [1, 1, 1, None]),
        (col("s") + "!", ["x!", "yy!", None, "Zz!"]),
        ((col("a") > 0) & (col("f") > 0), [True, False, False, None]),
        ((col("a") > 0) | (col("f") > 3), [True, False, True, True]),
        (~(col("a") == 1), [False, True, True, None]),
        (col("a").is_null(), [False, False, False, True]),
        (col("s").is_in(["x", "Zz"]), [True, False, False, True]),
        (col("a").not_in([1]), [False, True, True, True]),
        (-col("a"), [-1, 2, -7, None]),
        (abs(lit(-3)) if False else lit(3), [3, 3, 3, 3]),
        (col("f").floor(), [1.0, 2.0, -1.0, 4.0]),
        (col("a").cast(DataType.float64()), [1.0, -2.0, 7.0, None]),
        (col("s").str.upper(), ["X", "YY", None, "ZZ"]),
        (col("s").str.len(), [1, 2, None, 2]),
        (col("s").str.starts_with("y"), [False, True, None, False]),
        (col("s").str.replace("y", "q"), ["x", "qq", None, "Zz"]),
        (col("l").list.len(), [2, 1, None, 0]),
        (col("l").list.get(0), [1, 3, None, None]),
        (col("l").list.slice(0, 1), [[1], [3], None, []]),
        (col("st").struct["f"], [1, 2, None, 4]),
    ],
    ids=repr,
)
def test_expression_computes(expr, expected):
    assert value(expr) == expected


def test_filter_drops_what_is_null():
    assert Evaluation().filter(TABLE, col("a") > 0).column("a").to_pylist() == [1, 7]


def test_unknown_column_is_named_with_the_ones_there_are():
    with pytest.raises(KeyError, match="nope.*'a', 'f'"):
        value(col("nope"))


def test_condition_has_no_truth_value_of_its_own():
    with pytest.raises(TypeError, match="&"):
        bool(col("a") > 1)


def test_function_of_columns_and_function_of_a_class():
    @udf(return_dtype=DataType.int64())
    def twice(values):
        return pa.compute.multiply(values, 2)

    @pyarrow_udf(return_dtype=DataType.int64())
    class Plus:
        def __init__(self, more):
            self.more = more

        def __call__(self, values):
            return pa.compute.add(values, self.more)

    assert value(twice(col("a"))) == [2, -4, 14, None]
    assert value(Plus(100)(col("a")) + 1) == [102, 99, 108, None]


def test_function_that_returns_too_few_values_is_refused():
    @udf(return_dtype=DataType.int64())
    def first(values):
        return values[:1]

    with pytest.raises(ValueError, match="1 values for a block of 4 rows"):
        value(first(col("a")))


def test_star_keeps_columns_and_a_new_one_takes_the_place_of_an_old():
    made = Evaluation().project(TABLE, [star(), (col("a") + 1).alias("a"), unnest(col("st"))])
    assert made.column_names == ["a", "f", "s", "l", "st"]
    assert made.column("a").to_pylist() == [2, -1, 8, None]
    assert made.column("f").to_pylist() == [1, 2, None, 4]


def test_same_task_draws_the_same_and_numbers_rows_apart_from_other_tasks():
    def draw(task):
        return Evaluation(task).project(TABLE, [random(seed=1).alias("r"), monotonically_increasing_id().alias("i")])

    assert draw(3).equals(draw(3))
    assert draw(3).column("r").to_pylist() != draw(4).column("r").to_pylist()
    assert not set(draw(3).column("i").to_pylist()) & set(draw(4).column("i").to_pylist())
    assert len(set(value(uuid()))) == 4


def test_structure_is_compared_by_structurally_equals():
    assert (col("a") + 1).structurally_equals(col("a") + 1)
    assert not (col("a") + 1).structurally_equals(col("a") + 2)
    assert (col("a") > col("b")).columns() == {"a", "b"}


def test_expression_for_a_reader_is_arrows_own():
    expr = ((col("a") > 1) & col("s").is_in(["x"]) | ~col("f").is_null()).to_pyarrow()
    assert TABLE.filter(expr).num_rows == 4
    with pytest.raises(TypeError):
        col("s").str.upper().to_pyarrow()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("a > 0 and f < 0", [7]),
        ("s in ['x', 'yy'] or a == 7", [1, -2, 7]),
        ("not a > 0", [-2]),
        ("0 < a <= 7", [1, 7]),
        ("a != -2", [1, 7]),
        ("a is not None and (a + 1) * 2 > 4", [7]),
        ("is_null(a)", [None]),
    ],
)
def test_text_means_an_expression(text, rows):
    assert Evaluation().filter(TABLE, parse_condition(text)).column("a").to_pylist() == rows


@pytest.mark.parametrize("text", ["a >", "__import__('os').system('true')", "lambda: 1", "a.b()"])
def test_text_that_means_none_is_refused(text):
    with pytest.raises(ValueError):
        parse_condition(text)
