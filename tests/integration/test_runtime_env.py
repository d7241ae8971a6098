"""Runtime environments: what tasks, actors and everything that they start find around them, and who shares a process."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

import raybook as ray
from raybook.base.environments import Environment, environment_of, merged_key
from raybook.exceptions import RuntimeEnvSetupError

pytestmark = pytest.mark.raybook_only


@pytest.fixture
def read(cluster):
    """A task that tells a variable and its process."""

    @ray.remote
    def read_variable(name: str):
        return os.environ.get(name), os.getpid()

    return read_variable


def with_vars(target, **variables: str):
    return target.options(runtime_env={"env_vars": variables})


# Variables and who shares a process


def test_variables_are_there_for_the_task_and_for_nobody_else(read):
    assert ray.get(with_vars(read, RB_COLOUR="red").remote("RB_COLOUR"))[0] == "red"
    assert ray.get(read.remote("RB_COLOUR"))[0] is None


def test_the_same_environment_reuses_a_process_and_another_one_never_shares_it(read):
    red, blue = with_vars(read, RB_COLOUR="red"), with_vars(read, RB_COLOUR="blue")
    red_pids = {ray.get(red.remote("RB_COLOUR"))[1] for _ in range(4)}
    again = ray.get(read.options(runtime_env={"env_vars": {"RB_COLOUR": "red"}}).remote("RB_COLOUR"))[1]
    blue_pid, plain_pid = ray.get(blue.remote("RB_COLOUR"))[1], ray.get(read.remote("RB_COLOUR"))[1]
    assert red_pids == {again}
    assert len({again, blue_pid, plain_pid}) == 3


def test_an_actor_has_the_variables_of_its_options(cluster):
    @ray.remote
    class Reader:
        def read(self, name: str):
            return os.environ.get(name)

    actor = with_vars(Reader, RB_COLOUR="green").remote()
    assert ray.get(actor.read.remote("RB_COLOUR")) == "green"


def test_a_child_inherits_variables_and_its_own_win_one_by_one(cluster, read):
    inner = with_vars(read, RB_B="child")

    @ray.remote
    def parent():
        return [ray.get(inner.remote(name))[0] for name in ("RB_A", "RB_B")], ray.get(read.remote("RB_B"))[0]

    assert ray.get(with_vars(parent, RB_A="parent", RB_B="parent").remote()) == (["parent", "child"], "parent")


def test_init_gives_its_environment_to_everything_that_the_driver_starts(own_cluster):
    own_cluster(num_cpus=2, runtime_env={"env_vars": {"RB_A": "job", "RB_B": "job"}})

    @ray.remote
    class Reader:
        def read(self):
            return os.environ.get("RB_A"), os.environ.get("RB_B"), ray.get_runtime_context().runtime_env

    expected = {"env_vars": {"RB_A": "job", "RB_B": "own"}}
    assert ray.get(with_vars(Reader, RB_B="own").remote().read.remote()) == ("job", "own", expected)
    assert ray.get_runtime_context().runtime_env == {"env_vars": {"RB_A": "job", "RB_B": "job"}}


def test_a_value_may_mention_a_variable_of_the_node(read):
    value = ray.get(with_vars(read, RB_PATH="${PATH}:extra").remote("RB_PATH"))[0]
    assert value == os.environ["PATH"] + ":extra"


def test_variables_that_an_interpreter_reads_at_its_start_take_effect(cluster):
    @ray.remote
    def seeded():
        return hash("word"), os.environ["OMP_NUM_THREADS"], sys.path[0] != ""

    target = with_vars(seeded, PYTHONHASHSEED="7", OMP_NUM_THREADS="3")
    first, second = with_vars(seeded, PYTHONHASHSEED="7", OMP_NUM_THREADS="4"), target
    values = ray.get([first.remote(), second.remote()])
    assert values[0][0] == values[1][0]
    assert [value[1] for value in values] == ["4", "3"]


# Folders and modules


def test_working_dir_is_the_current_folder_and_modules_in_it_can_be_imported(cluster, tmp_path: Path):
    (tmp_path / "rb_settings.py").write_text("LIMIT = 12\n")
    (tmp_path / "data.txt").write_text("here")

    @ray.remote(runtime_env={"working_dir": str(tmp_path)})
    def look():
        import rb_settings

        with open("data.txt") as file:
            return rb_settings.LIMIT, file.read(), os.getcwd()

    assert ray.get(look.remote()) == (12, "here", str(tmp_path))


def test_two_tasks_import_different_modules_of_one_name_at_the_same_time(make_gate, tmp_path: Path):
    paths = []
    for version in ("one", "two"):
        package = tmp_path / version / "rb_versioned"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"VERSION = {version!r}\n")
        paths.append(str(package))
    gate = make_gate()

    @ray.remote
    def version():
        import rb_versioned

        ray.get(gate.arrive.remote())
        ray.get(gate.wait.remote())
        return rb_versioned.VERSION

    refs = [version.options(runtime_env={"py_modules": [path]}).remote() for path in paths]
    ray.get(gate.arrived.remote(2))
    ray.get(gate.open.remote())
    assert ray.get(refs) == ["one", "two"]


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"working_dir": "/nowhere/at/all"}, ValueError),
        ({"working_dir": "s3://bucket/folder"}, ValueError),
        ({"py_modules": ["/nowhere/at/all"]}, ValueError),
        ({"py_modules": "/tmp"}, TypeError),
        ({"env_vars": {"A": 1}}, TypeError),
        ({"env_vars": {"A=B": "1"}}, ValueError),
        ({"conda": "base"}, ValueError),
        ({"enviroment": {}}, ValueError),
        ({"pip": ["a"], "uv": ["b"]}, ValueError),
        ({"pip": "/nowhere/requirements.txt"}, ValueError),
        ({"worker_process_setup_hook": 3}, TypeError),
        ("env", TypeError),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_call_site(environment, error):
    with pytest.raises(error, match="runtime_env"):
        ray.remote(lambda: None).options(runtime_env=environment)


# Hooks and failures


def test_the_setup_hook_runs_before_the_first_task(cluster):
    def prepare() -> None:
        os.environ["RB_PREPARED"] = "yes"

    @ray.remote
    def look():
        return os.environ.get("RB_PREPARED")

    assert ray.get(look.options(runtime_env={"worker_process_setup_hook": prepare}).remote()) == "yes"
    assert ray.get(look.remote()) is None


def test_a_hook_that_raises_fails_tasks_and_actors_with_its_traceback(cluster, read):
    def prepare() -> None:
        raise OSError("no licence server")

    broken = {"worker_process_setup_hook": prepare}
    with pytest.raises(RuntimeEnvSetupError, match="no licence server"):
        ray.get(read.options(runtime_env=broken).remote("A"))

    @ray.remote
    class Idle:
        def ping(self):
            return "pong"

    with pytest.raises(RuntimeEnvSetupError, match="no licence server"):
        ray.get(Idle.options(runtime_env=broken).remote().ping.remote())
    assert ray.get(read.remote("RB_NOTHING"))[0] is None, "other environments go on"


def test_a_folder_that_has_vanished_fails_the_task_and_one_that_came_back_serves_it(cluster, read, tmp_path: Path):
    folder = tmp_path / "gone"
    folder.mkdir()
    target = read.options(runtime_env={"working_dir": str(folder)})
    folder.rmdir()
    with pytest.raises(RuntimeEnvSetupError, match="gone"):
        ray.get(target.remote("A"))
    folder.mkdir()
    assert ray.get(target.remote("RB_NOTHING"))[0] is None


# Packages


def make_wheel(folder: Path, version: str) -> str:
    """A package of one module, without a build tool or a network."""
    path = folder / f"rb_tiny-{version}-py3-none-any.whl"
    info = f"rb_tiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("rb_tiny.py", f"VERSION = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: rb-tiny\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return str(path)


def test_two_versions_of_a_package_are_used_side_by_side_and_kept(own_cluster, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path / "cache"))
    own_cluster(num_cpus=2)

    @ray.remote
    def version():
        import rb_tiny

        return rb_tiny.VERSION, sys.executable

    wheels = [make_wheel(tmp_path, number) for number in ("1.0", "2.0")]
    refs = [
        version.options(runtime_env={kind: [wheel]}).remote() for kind, wheel in zip(("pip", "uv"), wheels, strict=True)
    ]
    (first, one), (second, two) = ray.get(refs)
    assert (first, second) == ("1.0", "2.0")
    assert one != two and all(path.startswith(str(tmp_path / "cache")) for path in (one, two))
    assert len(list((tmp_path / "cache").glob("*/raybook-ready"))) == 2
    with pytest.raises(RuntimeEnvSetupError, match="The end of its output") as caught:
        ray.get(version.options(runtime_env={"pip": [str(tmp_path / "absent-9.0-py3-none-any.whl")]}).remote())
    assert "absent-9.0" in str(caught.value)


# The record


def test_equal_environments_have_equal_keys_and_the_plain_one_has_none():
    assert Environment().key == ""
    one, two = Environment(env_vars={"A": "1", "B": "2"}), Environment(env_vars={"B": "2", "A": "1"})
    assert one.key == two.key and environment_of(one.key) == one


def test_a_child_overrides_fields_and_merges_variables():
    parent = Environment(env_vars={"A": "1", "B": "1"}, working_dir="/p", packages=("x",))
    child = Environment(env_vars={"B": "2"}, packages=("y",))
    merged = environment_of(merged_key(parent.key, child.key))
    assert merged == Environment(env_vars={"A": "1", "B": "2"}, working_dir="/p", packages=("y",))


def test_the_public_class_is_a_dict_of_what_was_given():
    assert ray.runtime_env.RuntimeEnv(env_vars={"A": "1"}, pip=None) == {"env_vars": {"A": "1"}}
