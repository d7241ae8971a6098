"""Ignore patterns read as git reads them."""

from __future__ import annotations

import pytest

from raybook.base.ignore_patterns import IgnorePatterns

LINES = (
    """
# a comment
*.log
!keep.log
/build
data/*.bin
docs/**/x
a/**
**/q
__pycache__/
[ab]?.py
[!c]!.txt
\\#name
""".splitlines()
    + ["trailing   "]
)


@pytest.mark.parametrize(
    ("path", "is_folder", "expected"),
    [
        ("x.log", False, True),
        ("deep/er/x.log", False, True),
        ("keep.log", False, False),
        ("deep/keep.log", False, False),
        ("build", True, True),
        ("sub/build", True, False),
        ("data/a.bin", False, True),
        ("data/sub/a.bin", False, False),
        ("docs/x", False, True),
        ("docs/1/2/x", False, True),
        ("a/b/c", False, True),
        ("a", True, False),
        ("z/q", False, True),
        ("q", False, True),
        ("sub/__pycache__", True, True),
        ("__pycache__", False, False),
        ("a1.py", False, True),
        ("c1.py", False, False),
        ("d!.txt", False, True),
        ("c!.txt", False, False),
        ("#name", False, True),
        ("trailing", False, True),
    ],
)
def test_a_path_is_ignored_as_git_ignores_it(path, is_folder, expected):
    assert IgnorePatterns(LINES).ignores(path, is_folder) is expected


def test_a_list_of_nothing_ignores_nothing():
    assert not IgnorePatterns(["", "# only words", "/"]).ignores("x", False)
