"""What a user installs: the contents and the metadata of the wheel, built from this checkout."""

from __future__ import annotations

import json
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return Parser().parsestr(wheel.read(name).decode())


def data_files(wheel: zipfile.ZipFile) -> set[str]:
    mark = ".data/data/"
    return {name.partition(mark)[2] for name in wheel.namelist() if mark in name}


def test_wheel_has_the_three_packages_and_no_other_top_level_name(wheel):
    top = {name.partition("/")[0] for name in wheel.namelist()}
    packages = {name for name in top if not name.endswith((".dist-info", ".data"))}
    assert packages == {"raybook", "raybook_kernel", "raybook_widgets"}


def test_wheel_carries_no_tests_caches_or_node_modules(wheel):
    unwanted = ("node_modules", "__pycache__", "tests/", ".tsbuildinfo", "build_hook.py")
    assert not [name for name in wheel.namelist() if any(mark in name for mark in unwanted)]


def test_wheel_switches_the_server_extension_on(wheel):
    name = "etc/jupyter/jupyter_server_config.d/raybook.json"
    assert name in data_files(wheel)
    (entry,) = [entry for entry in wheel.namelist() if entry.endswith(name)]
    assert json.loads(wheel.read(entry)) == {"ServerApp": {"jpserver_extensions": {"raybook_kernel.server": True}}}


def test_wheel_carries_the_built_lab_extension(wheel):
    folder = "share/jupyter/labextensions/raybook/"
    names = {name.removeprefix(folder) for name in data_files(wheel) if name.startswith(folder)}
    assert {"package.json", "install.json", "static/style.js", "schemas/raybook/plugin.json"} <= names
    (entry,) = [entry for entry in wheel.namelist() if entry.endswith(f"{folder}package.json")]
    load = json.loads(wheel.read(entry))["jupyterlab"]["_build"]["load"]
    assert load in names


def test_lab_extension_and_wheel_have_one_version(metadata):
    assert json.loads((REPOSITORY / "labextension" / "package.json").read_text())["version"] == metadata["Version"]


def test_core_install_brings_no_heavy_library(metadata):
    core = {
        requirement.name
        for requirement in map(Requirement, metadata.get_all("Requires-Dist"))
        if requirement.marker is None or "extra" not in str(requirement.marker)
    }
    assert {"msgspec", "cloudpickle", "grpcio", "click"} <= core
    assert not core & {"torch", "pandas", "pyarrow", "optuna", "ray", "jupyterlab", "ipykernel", "scipy"}


def test_all_brings_every_extra_but_ray_and_the_test_tools(metadata):
    assert set(metadata.get_all("Provides-Extra")) == {
        "all", "data", "notebook", "ray", "serve", "test", "train", "tune",
    }  # fmt: skip
    of_all = {
        requirement.name
        for requirement in map(Requirement, metadata.get_all("Requires-Dist"))
        if requirement.marker is not None and requirement.marker.evaluate({"extra": "all"})
    }
    # hatchling spells a self-referring extra out.
    assert {"ipykernel", "optuna", "torch", "pyarrow", "starlette"} <= of_all
    assert not of_all & {"ray", "pytest"}


def test_lock_file_of_the_lab_extension_names_no_registry():
    assert "://" not in (REPOSITORY / "labextension" / "yarn.lock").read_text()
