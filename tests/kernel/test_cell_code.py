"""What a cell reads and binds, by its text alone."""

from __future__ import annotations

import pytest

from raybook_kernel.cell_code import RESULT, analysed


@pytest.mark.parametrize(
    ("cell", "reads", "binds"),
    [
        ("y = x + 1", ("x",), ("y",)),
        ("x = x + 1", ("x",), ("x",)),
        ("x += 1", ("x",), ("x",)),
        ("a = 1\nb = a", (), ("a", "b")),
        ("print(len(x))", ("x",), ()),
        ("for i in items:\n    total = total + i", ("items", "total"), ("i", "total")),
        ("def f(a, b=c):\n    d = a + e\n    return d", ("c", "e"), ("f",)),
        ("f = lambda a: a + k", ("k",), ("f",)),
        ("squares = [v * n for v in data if v]", ("data", "n"), ("squares",)),
        ("class A(Base):\n    z = q\n    def m(self):\n        return w", ("Base", "q", "w"), ("A",)),
        ("import numpy as np\nm = np.zeros(shape)", ("shape",), ("np", "m")),
        ("from a.b import c as d, e", (), ("d", "e")),
        ("import a.b.c", (), ("a",)),
        ("with open(path) as file:\n    text = file.read()", ("path",), ("file", "text")),
        ("try:\n    go()\nexcept Oops as error:\n    print(error)", ("go", "Oops"), ("error",)),
        ("def f():\n    def g():\n        return outer\n    return g", ("outer",), ("f",)),
        ("def f():\n    local = 1\n    return local + other", ("other",), ("f",)),
        ("@deco\ndef f() -> Kind: ...", ("deco", "Kind"), ("f",)),
        ("a, (b, *c) = values", ("values",), ("a", "b", "c")),
        ("d[key] = value", ("value", "d", "key"), ()),
        ("(n := 3)\nm = n", (), ("n", "m")),
        ("{k: v for k, v in pairs}", ("pairs",), ()),
    ],
)
def test_names_are_read_and_bound_as_python_would(cell, reads, binds):
    code = analysed(cell, "<cell>")
    assert (code.reads, code.binds) == (reads, binds)


def test_the_last_expression_is_the_value():
    code = analysed("a = 2\na * 3", "<cell>")
    namespace = {}
    exec(code.code, namespace)
    assert namespace[RESULT] == 6


@pytest.mark.parametrize("cell", ["a = 2", "a = 2\na;", "", "if True:\n    3"])
def test_a_cell_without_a_last_expression_has_no_value(cell):
    code = analysed(cell, "<cell>")
    namespace = {"a": 1}
    exec(code.code, namespace)
    assert RESULT not in namespace


def test_a_cell_that_is_no_python_is_refused_with_its_line():
    with pytest.raises(SyntaxError) as raised:
        analysed("\na = 1\nreturn a", "<cell>")
    assert raised.value.lineno == 3
