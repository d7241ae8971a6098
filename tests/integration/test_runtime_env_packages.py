"""Runtime environments with packages and interpreters of their own: who makes them, who shares them, how they fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import raybook as ray
from raybook.exceptions import RuntimeEnvSetupError
from raybook.runtime_env.packages import find_uv

pytestmark = pytest.mark.raybook_only


@pytest.fixture
def read(cluster):
    """A task that tells a variable and its process."""

    @ray.remote
    def read_variable(name: str):
        return os.environ.get(name), os.getpid()

    return read_variable


@pytest.fixture(params=["pip", "uv"])
def installer(request, own_cluster, tmp_path: Path, monkeypatch):
    """A cluster whose environments are made by one installer, in a cache of its own; the cache."""
    if request.param == "uv" and not find_uv(os.environ):
        pytest.skip("there is no uv here; pip install 'raybook[uv]' brings it")
    if request.param == "pip":
        monkeypatch.setenv("RAYBOOK_UV", "0")
    monkeypatch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    own_cluster(num_cpus=2)
    return tmp_path / "cache"


@pytest.mark.slow
def test_two_versions_of_a_package_are_used_at_the_same_time_and_kept(
    installer: Path, make_gate, tmp_path: Path, make_wheel
):
    gate = make_gate()

    @ray.remote
    def version():
        import rb_tiny

        ray.get(gate.arrive.remote())
        ray.get(gate.wait.remote())
        return rb_tiny.VERSION, sys.executable, os.getpid()

    wheels = [make_wheel(tmp_path, number) for number in ("1.0", "2.0")]
    refs = [
        version.options(runtime_env={kind: [wheel]}).remote() for kind, wheel in zip(("pip", "uv"), wheels, strict=True)
    ]
    ray.get(gate.arrived.remote(2))
    ray.get(gate.open.remote())
    (first, one, pid_one), (second, two, pid_two) = ray.get(refs)
    assert (first, second) == ("1.0", "2.0")
    assert one != two and pid_one != pid_two
    assert all(path.startswith(str(installer)) for path in (one, two))
    made = {path: path.stat().st_mtime_ns for path in installer.glob("*/raybook-ready")}
    assert len(made) == 2
    actor_class = ray.remote(Versioned).options(runtime_env={"pip": [wheels[0]]})
    assert ray.get(actor_class.remote().version.remote()) == "1.0"
    assert {path: path.stat().st_mtime_ns for path in installer.glob("*/raybook-ready")} == made


class Versioned:
    def version(self):
        import rb_tiny

        return rb_tiny.VERSION


@pytest.mark.slow
def test_an_installation_that_fails_is_told_with_the_end_of_its_log(installer: Path, read, tmp_path: Path):
    absent = str(tmp_path / "absent-9.0-py3-none-any.whl")
    with pytest.raises(RuntimeEnvSetupError, match="(?s)The end of its output.*absent-9.0"):
        ray.get(read.options(runtime_env={"uv": [absent]}).remote("A"))
    assert not list(installer.glob("*/bin")), "what is half made is removed"
    assert ray.get(read.remote("RB_NOTHING"))[0] is None, "other environments go on"


def fake_uv(folder: Path, script: str) -> None:
    folder.mkdir()
    (folder / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "uv").chmod(0o755)


@pytest.mark.slow
def test_an_installation_that_takes_too_long_is_ended(own_cluster, tmp_path: Path, monkeypatch):
    fake_uv(tmp_path / "bin", "echo resolving for ever; sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path / "cache"))
    own_cluster(num_cpus=1)
    hasty = {"uv": ["x"], "config": {"setup_timeout_seconds": 1}}
    with pytest.raises(RuntimeEnvSetupError, match="(?s)did not end within 1 s .setup_timeout_seconds.*resolving"):
        ray.get(ray.remote(lambda: None).options(runtime_env=hasty).remote())


def test_what_the_installer_says_reaches_the_driver(own_cluster, tmp_path: Path, monkeypatch, capfd, eventually):
    fake_uv(tmp_path / "bin", 'echo "uv $*"; exit 1')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path / "cache"))
    own_cluster(num_cpus=1)
    with pytest.raises(RuntimeEnvSetupError, match="uv venv"):
        ray.get(ray.remote(lambda: None).options(runtime_env={"uv": ["rb-package"]}).remote())
    said = ""

    def is_told() -> bool:
        nonlocal said
        said += "".join(capfd.readouterr())
        return "installing rb-package" in said and "uv venv --quiet" in said

    eventually(is_told)


@pytest.mark.slow
def test_uv_looks_where_pip_is_configured_to_look(own_cluster, tmp_path: Path, monkeypatch):
    fake_uv(tmp_path / "bin", 'echo "$@" >> ' + str(tmp_path / "asked") + '; [ "$1" = venv ]')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path / "cache"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = http://127.0.0.1:9/simple\nextra-index-url =\n    file:///a\n    file:///b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_CONSTRAINT", "/c.txt")
    own_cluster(num_cpus=1)
    with pytest.raises(RuntimeEnvSetupError):
        ray.get(ray.remote(lambda: None).options(runtime_env={"pip": ["rb-absent"]}).remote())
    asked = (tmp_path / "asked").read_text().splitlines()[-1]
    assert "--index-strategy unsafe-best-match" in asked and asked.endswith(" rb-absent")
    for option in ("--index-url http://127.0.0.1:9/simple", "--extra-index-url file:///b", "--constraint /c.txt"):
        assert option in asked


def test_py_executable_runs_workers_in_another_interpreter(cluster, tmp_path: Path):
    link = tmp_path / "other-python"
    link.symlink_to(sys.executable)

    @ray.remote(runtime_env={"py_executable": f"{link} -X utf8"})
    def which():
        return sys.executable, sys.flags.utf8_mode

    assert ray.get(which.remote()) == (str(link), 1)
    with pytest.raises(RuntimeEnvSetupError, match="no program /nowhere/python"):
        ray.get(which.options(runtime_env={"py_executable": "/nowhere/python"}).remote())


def test_the_folder_of_a_conda_environment_gives_its_interpreter(cluster, tmp_path: Path):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").symlink_to(sys.executable)

    @ray.remote(runtime_env={"conda": str(tmp_path / "env")})
    def which():
        return sys.executable

    assert ray.get(which.remote()) == str(tmp_path / "env" / "bin" / "python")
