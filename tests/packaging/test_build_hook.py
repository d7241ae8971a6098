"""The build hook's three cases: built already, Node.js here, neither."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def build_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("raybook_build_hook", REPOSITORY / "labextension" / "build_hook.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, build_hook: ModuleType) -> Path:
    """A copy of the extension's sources, without anything built."""
    folder = tmp_path / "labextension"
    folder.mkdir()
    for name in (*build_hook.SOURCES, "install.json"):
        source = REPOSITORY / "labextension" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    return tmp_path


@pytest.fixture
def no_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def run_hook(build_hook: ModuleType, root: Path) -> tuple[dict[str, str], list[str]]:
    """(shared data the hook adds, warnings it gives)."""
    warnings: list[str] = []
    app = SimpleNamespace(display_warning=warnings.append)
    hook = build_hook.LabExtensionHook(str(root), {}, None, None, str(root / "dist"), "wheel", app)
    build_data: dict[str, dict[str, str]] = {"shared_data": {}}
    hook.initialize("standard", build_data)
    return build_data["shared_data"], warnings


def pretend_built(build_hook: ModuleType, root: Path) -> None:
    built = root / "labextension" / "raybook"
    built.mkdir()
    (built / build_hook.HASH_FILE).write_text(build_hook.hash_of_sources(root / "labextension") + "\n")
    (root / build_hook.CELL_VIEW).parent.mkdir(parents=True)
    (root / build_hook.CELL_VIEW).write_text("export default {};\n")


def test_what_was_built_from_these_sources_is_shipped_without_node(build_hook, checkout, no_node, monkeypatch):
    monkeypatch.delenv("RAYBOOK_LABEXTENSION", raising=False)
    pretend_built(build_hook, checkout)

    shared, warnings = run_hook(build_hook, checkout)

    assert shared[str(checkout / "labextension" / "raybook")] == "share/jupyter/labextensions/raybook"
    assert not warnings


def test_without_node_the_wheel_is_made_and_says_what_is_missing(build_hook, checkout, no_node, monkeypatch):
    monkeypatch.delenv("RAYBOOK_LABEXTENSION", raising=False)

    shared, warnings = run_hook(build_hook, checkout)

    assert shared == {}
    assert len(warnings) == 1
    assert "Node.js" in warnings[0]


def test_a_stale_build_is_never_shipped(build_hook, checkout, no_node, monkeypatch):
    monkeypatch.delenv("RAYBOOK_LABEXTENSION", raising=False)
    pretend_built(build_hook, checkout)
    (checkout / "labextension" / "src" / "index.ts").write_text("// another front end\n")

    shared, warnings = run_hook(build_hook, checkout)

    assert shared == {}
    assert len(warnings) == 1
    assert not (checkout / build_hook.CELL_VIEW).exists()


def test_without_the_cell_view_the_front_end_is_not_built(build_hook, checkout, no_node, monkeypatch):
    monkeypatch.setenv("RAYBOOK_LABEXTENSION", "require")
    pretend_built(build_hook, checkout)
    (checkout / build_hook.CELL_VIEW).unlink()
    with pytest.raises(RuntimeError, match=r"Node\.js"):
        run_hook(build_hook, checkout)


def test_require_makes_a_missing_extension_an_error(build_hook, checkout, no_node, monkeypatch):
    monkeypatch.setenv("RAYBOOK_LABEXTENSION", "require")
    with pytest.raises(RuntimeError, match=r"Node\.js"):
        run_hook(build_hook, checkout)


def test_skip_leaves_it_out_without_a_word(build_hook, checkout, monkeypatch):
    monkeypatch.setenv("RAYBOOK_LABEXTENSION", "skip")
    pretend_built(build_hook, checkout)
    assert run_hook(build_hook, checkout) == ({}, [])


def test_an_unknown_wish_is_refused(build_hook, checkout, monkeypatch):
    monkeypatch.setenv("RAYBOOK_LABEXTENSION", "yes")
    with pytest.raises(RuntimeError, match="auto, skip or require"):
        run_hook(build_hook, checkout)


def test_a_build_that_fails_says_at_which_step_and_how_to_go_without(build_hook, checkout, tmp_path, monkeypatch):
    monkeypatch.delenv("RAYBOOK_LABEXTENSION", raising=False)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("node", "echo v22.12.0"), ("jlpm", "echo the registry is away; exit 7")):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tools / "python"))

    with pytest.raises(
        RuntimeError, match=r"(?s)jlpm install.*exit 7.*the registry is away.*RAYBOOK_LABEXTENSION=skip"
    ):
        run_hook(build_hook, checkout)


def test_an_old_node_counts_as_none(build_hook, checkout, tmp_path, monkeypatch):
    monkeypatch.delenv("RAYBOOK_LABEXTENSION", raising=False)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "node").write_text("#!/bin/sh\necho v18.19.0\n")
    (tools / "node").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    shared, warnings = run_hook(build_hook, checkout)

    assert shared == {}
    assert "20.19" in warnings[0]
