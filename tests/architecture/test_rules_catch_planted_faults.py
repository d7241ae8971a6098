"""Each rule, shown to fail: a small tree with one planted fault, and the sentence that names it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture import rules
from tests.architecture.import_graph import SourceModule, read_tree

Rule = Callable[[dict[str, SourceModule]], Iterator[str]]


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Rule, dict[str, str]], list[str]]:
    """Write the files below one source root, read them, and return what the rule says."""

    def write_and_check(rule: Rule, files: dict[str, str]) -> list[str]:
        for name, source in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        return list(rule(read_tree([tmp_path])))

    return write_and_check


@pytest.mark.parametrize(
    ("importer", "statement", "edge"),
    [
        ("raybook/core/node/lease_manager.py", "from raybook.io import pump", "core → io"),
        ("raybook/core/node/lease_manager.py", "from raybook.protocol import frames", "core → protocol"),
        ("raybook/base/ids.py", "import raybook.protocol", "base → protocol"),
        ("raybook/gcs/service.py", "from raybook.raylet.service import Raylet", "gcs → raylet"),
        ("raybook/engines/native.py", "from raybook.api import context", "engines → api"),
        ("raybook/api/actor.py", "from ..core.owner import task_manager", "api → core"),
        ("raybook/api/actor.py", "from raybook.tune import Tuner", "api → tune"),
        ("raybook/train/trainer.py", "from raybook.tune import Tuner", "train → tune"),
        ("raybook/tune/tuner.py", "from raybook.engines import native", "tune → engines"),
        ("raybook/tune/core/asha.py", "import raybook.api", "library_core → api"),
        ("raybook/worker/executor.py", "from raybook.testing import clocks", "worker → testing"),
        ("raybook/io/pump.py", "import raybook", "io → root"),
        ("raybook_widgets/tasks.py", "from raybook.core.cluster import event_table", "raybook_widgets → core"),
        ("raybook_kernel/server/routes.py", "from raybook.io import rpc", "server_extension → io"),
    ],
)
def test_an_edge_outside_the_table_is_named(check, importer, statement, edge):
    targets = {
        f"raybook/{name}.py": ""
        for name in (
            "io/pump protocol/frames raylet/service api/context core/owner/task_manager tune/__init__ engines/native "
            "testing/clocks core/cluster/event_table io/rpc __init__"
        ).split()
    }
    violations = check(rules.layer_violations, {**targets, importer: statement + "\n"})
    assert len(violations) == 1, violations
    assert f"{edge} is not an edge" in violations[0]
    assert f"{importer}:1" in violations[0]


def test_allowed_edges_pass(check):
    assert not check(
        rules.layer_violations,
        {
            "raybook/core/owner/task_manager.py": "from raybook.protocol import messages\nimport raybook.base.ids\n",
            "raybook/protocol/messages/__init__.py": "from raybook.base import ids\n",
            "raybook/base/ids.py": "import os\n",
            "raybook/tune/tuner.py": "import raybook as ray\nfrom raybook.train import session\n",
            "raybook/train/session.py": "",
            "raybook/__init__.py": "from raybook.api import context\n",
            "raybook/api/context.py": "",
        },
    )


def test_an_edge_for_types_only_is_still_an_edge(check):
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from raybook.io import pump\n"
    assert check(rules.layer_violations, {"raybook/core/a.py": source, "raybook/io/pump.py": ""})


def test_an_edge_spelt_as_a_call_is_still_an_edge(check):
    source = 'import importlib\npump = importlib.import_module("raybook.io.pump")\n'
    assert check(rules.layer_violations, {"raybook/core/a.py": source, "raybook/io/pump.py": ""})


def test_a_module_of_no_layer_is_named(check):
    assert (
        "raybook.misc.helpers belongs to no layer" in check(rules.layer_violations, {"raybook/misc/helpers.py": ""})[0]
    )


@pytest.mark.parametrize("module", "asyncio time random os socket threading logging _thread datetime".split())
def test_core_contains_no_clock_chance_or_world(check, module):
    violations = check(rules.forbidden_modules, {"raybook/core/node/lease_manager.py": f"import {module}\n"})
    assert len(violations) == 1
    assert f"core → {module} is forbidden" in violations[0]


@pytest.mark.parametrize(
    ("importer", "statement", "edge"),
    [
        ("raybook/base/ids.py", "from socket import socket", "base → socket"),
        ("raybook/base/machine.py", "import time", "base → time"),
        ("raybook/base/specs.py", "import numpy as np", "base → numpy"),
        ("raybook/protocol/frames.py", "import asyncio.streams", "protocol → asyncio"),
        ("raybook/tune/core/asha.py", "import time", "library_core → time"),
        ("raybook/core/scheduling/hybrid.py", "import numpy", "core → numpy"),
        ("raybook_kernel/server/routes.py", "import torch", "server_extension → torch"),
    ],
)
def test_a_forbidden_module_is_named(check, importer, statement, edge):
    violations = check(rules.forbidden_modules, {importer: statement + "\n"})
    assert len(violations) == 1
    assert f"{edge} is forbidden" in violations[0]


def test_an_import_cycle_is_written_out(check):
    files = {
        "raybook/io/a.py": "from raybook.io import b\n",
        "raybook/io/b.py": "import raybook.io.c\n",
        "raybook/io/c.py": "from .a import x\n",
        "raybook/io/d.py": "from raybook.io import a\n",
    }
    violations = check(rules.cycle_violations, files)
    assert len(violations) == 1
    assert violations[0].startswith("Import cycle: raybook.io.a → raybook.io.b → raybook.io.c → raybook.io.a.")


def test_two_knots_are_two_cycles(check):
    files = {
        "raybook/io/a.py": "import raybook.io.b\nimport raybook.io.c\n",
        "raybook/io/b.py": "import raybook.io.a\n",
        "raybook/io/c.py": "import raybook.io.d\n",
        "raybook/io/d.py": "import raybook.io.c\n",
    }
    assert len(check(rules.cycle_violations, files)) == 2


def test_imports_that_do_not_run_make_no_cycle(check):
    files = {
        "raybook/io/a.py": "from raybook.io import b\n",
        "raybook/io/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from raybook.io.a import x\n",
    }
    assert not check(rules.cycle_violations, files)


def test_a_program_that_imports_itself_by_name_is_no_cycle(check):
    source = (
        'def main(): ...\nif __name__ == "__main__":\n    from raybook.worker.zygote import main as run\n    run()\n'
    )
    assert not check(rules.cycle_violations, {"raybook/worker/zygote.py": source})


def test_a_hidden_import_is_named(check):
    violations = check(
        rules.hidden_imports, {"raybook/io/a.py": "def f():\n    from raybook.io import b\n    import json\n"}
    )
    assert [v.partition(": ")[2].partition(" is ")[0] for v in violations] == [
        "raybook.io.a → raybook.io",
        "raybook.io.a → json",
    ]


def test_heavy_libraries_and_lazy_edges_may_hide(check):
    files = {
        "raybook/io/a.py": "def f():\n    import torch\n    from pyarrow import dataset\n",
        "raybook/__init__.py": "def load_ipython_extension(shell):\n    from raybook_kernel import session\n",
        "raybook_kernel/session.py": "",
    }
    assert not check(rules.hidden_imports, files)
    assert not check(rules.layer_violations, files)


def test_the_lazy_edge_is_illegal_at_the_top_of_the_file(check):
    files = {"raybook/__init__.py": "import raybook_kernel\n", "raybook_kernel/__init__.py": ""}
    assert "root → raybook_kernel is not an edge" in check(rules.layer_violations, files)[0]


def test_a_private_module_of_another_package_is_named(check):
    files = {
        "raybook_kernel/a.py": "from raybook.observe import _store\n",
        "raybook/observe/_store.py": "",
        "raybook/observe/mirror.py": "from raybook.observe import _store\n",
    }
    violations = check(rules.private_imports, files)
    assert len(violations) == 1
    assert "raybook_kernel.a → raybook.observe._store is private" in violations[0]


def test_a_long_file_is_named_and_a_generated_one_is_not(check):
    files = {"raybook/io/big.py": "x = 1\n" * 501, "raybook/protocol/proto/gcs_pb2.py": "x = 1\n" * 2000}
    violations = check(rules.long_files, files)
    assert len(violations) == 1
    assert "big.py: 501 lines" in violations[0]
