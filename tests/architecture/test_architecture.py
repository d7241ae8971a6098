"""The three packages as they are, against the table of layers."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.import_graph import SourceModule, read_tree
from tests.architecture.layers import LINES_NOTICED

pytestmark = pytest.mark.timeout(180)  # The whole tree is parsed once, by the first of them.

REPOSITORY = Path(__file__).resolve().parents[2]
ROOTS = [REPOSITORY / name for name in ("runtime", "kernel_ext", "widgets")]


@pytest.fixture(scope="module")
def modules() -> dict[str, SourceModule]:
    return read_tree(ROOTS)


def assert_none(violations: list[str]) -> None:
    assert not violations, "\n\n" + "\n".join(violations)


def test_every_source_root_has_its_package(modules):
    assert {"raybook", "raybook_kernel", "raybook_widgets", "raybook.base", "raybook.io"} <= modules.keys()


def test_imports_follow_the_layers(modules):
    assert_none(list(rules.layer_violations(modules)))


def test_layers_contain_nothing_forbidden(modules):
    assert_none(list(rules.forbidden_modules(modules)))


def test_there_is_no_import_cycle(modules):
    assert_none(list(rules.cycle_violations(modules)))


def test_no_import_hides_in_a_function(modules):
    assert_none(list(rules.hidden_imports(modules)))


def test_private_modules_stay_private(modules):
    assert_none(list(rules.private_imports(modules)))


def test_files_stay_readable(modules):
    for module in modules.values():
        if module.line_count > LINES_NOTICED and not rules.is_generated(module):
            warnings.warn(f"{module.path}: {module.line_count} lines; near {LINES_NOTICED} is the aim.", stacklevel=1)
    assert_none(list(rules.long_files(modules)))


def test_the_table_names_only_its_own_rows():
    assert_none(list(rules.unknown_layer_names()))
