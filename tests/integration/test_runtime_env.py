"""Runtime environments: what tasks, actors and everything that they start find around them, and who shares a process."""

from __future__ import annotations

import os
import socket
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
    own = {"PATH": "${PATH}:own", "RB_A": "a", "RB_Z": "<${RB_A}${RB_ABSENT}>"}
    assert ray.get(with_vars(read, **own).remote("RB_Z"))[0] == "<a>"
    assert ray.get(with_vars(read, **own).remote("PATH"))[0] == os.environ["PATH"] + ":own"


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


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder as users have it: sources, data, and what nobody wants to send."""
    folder = tmp_path / "project"
    (folder / "sub").mkdir(parents=True)
    (folder / "rb_settings.py").write_text("LIMIT = 12\n")
    (folder / "data.txt").write_text("here")
    (folder / "notes.log").write_text("long")
    (folder / "sub" / "keep.log").write_text("kept")
    (folder / ".gitignore").write_text("*.log\n!keep.log\n")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "large").write_text("x")
    run = folder / "run.sh"
    run.write_text("#!/bin/sh\necho ran\n")
    run.chmod(0o755)
    return folder


@pytest.fixture
def look(cluster):
    """A task that tells what it finds around it."""

    @ray.remote
    def look_around():
        found = sorted(os.path.relpath(os.path.join(base, name)) for base, _, names in os.walk(".") for name in names)
        return found, os.getcwd(), os.getcwd() in sys.path

    return look_around


def in_folder(target, folder: Path, **fields):
    return target.options(runtime_env={"working_dir": str(folder), **fields})


def test_working_dir_is_the_current_folder_and_modules_in_it_can_be_imported(cluster, project: Path):
    @ray.remote(runtime_env={"working_dir": str(project)})
    def use():
        import subprocess

        import rb_settings

        with open("data.txt") as file:
            return rb_settings.LIMIT, file.read(), subprocess.check_output(["./run.sh"], text=True)

    assert ray.get(use.remote()) == (12, "here", "ran\n")


def test_what_gitignore_excludes_and_defaults_leave_out_does_not_travel(look, project: Path):
    found, _, on_path = ray.get(in_folder(look, project).remote())
    assert found == [".gitignore", "data.txt", "rb_settings.py", "run.sh", "sub/keep.log"] and on_path
    found, _, _ = ray.get(in_folder(look, project, excludes=["*.txt", "/sub"]).remote())
    assert found == [".gitignore", "rb_settings.py", "run.sh"]


def test_equal_folders_are_one_folder_on_a_node_and_a_changed_one_is_another(look, project: Path):
    _, first, _ = ray.get(in_folder(look, project).remote())
    (project / "notes.log").write_text("longer")
    _, again, _ = ray.get(in_folder(look, project).remote())
    (project / "data.txt").write_text("changed")
    _, other, _ = ray.get(in_folder(look, project).remote())
    assert first == again != other


def test_a_task_sees_the_folder_as_it_was_when_the_option_was_written(cluster, project: Path):
    @ray.remote
    def read():
        with open("data.txt") as file:
            return file.read()

    before = in_folder(read, project)
    (project / "data.txt").write_text("later")
    assert ray.get([before.remote(), in_folder(read, project).remote()]) == ["here", "later"]


def test_a_zip_file_is_a_working_dir_too(look, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "made.zip", "w") as archive:
        archive.writestr("top/inner.txt", "x")
    found, _, _ = ray.get(in_folder(look, tmp_path / "made.zip").remote())
    assert found == ["top/inner.txt"]
    # One from an address elsewhere is as a repository offers it: everything in one folder.
    found, _, _ = ray.get(look.options(runtime_env={"working_dir": f"file://{tmp_path}/made.zip"}).remote())
    assert found == ["inner.txt"]


def test_an_address_with_nothing_behind_it_fails_the_task(look, tmp_path: Path):
    with pytest.raises(RuntimeEnvSetupError, match="absent.zip could not be read"):
        ray.get(look.options(runtime_env={"working_dir": f"file://{tmp_path}/absent.zip"}).remote())


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up_on(look):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/project.zip"
        hasty = {"working_dir": address, "config": {"setup_timeout_seconds": 1}}
        with pytest.raises(RuntimeEnvSetupError, match="was not here within 1 s .setup_timeout_seconds"):
            ray.get(look.options(runtime_env=hasty).remote())


def test_a_folder_that_is_too_large_is_refused_where_it_is_given(project: Path, monkeypatch):
    monkeypatch.setattr("raybook.io.archives.ARCHIVE_BYTES_MAX", 1 << 20)
    (project / "huge.bin").write_bytes(os.urandom(2 << 20))
    with pytest.raises(ValueError, match="(?s)exceeds the maximum size of 1 MiB.*huge.bin .2 MiB.*excludes"):
        ray.remote(lambda: None).options(runtime_env={"working_dir": str(project)})
    ray.remote(lambda: None).options(runtime_env={"working_dir": str(project), "excludes": ["*.bin"]})


def test_a_decorator_from_before_init_works_in_every_session(own_cluster, project: Path):
    @ray.remote(runtime_env={"working_dir": str(project)})
    def limit():
        import rb_settings

        return rb_settings.LIMIT

    for _ in range(2):
        own_cluster(num_cpus=1)
        assert ray.get(limit.remote()) == 12


def test_the_working_dir_of_init_is_there_for_tasks_of_tasks(own_cluster, project: Path):
    own_cluster(num_cpus=1, runtime_env={"working_dir": str(project)})

    @ray.remote
    def inner():
        return open("data.txt").read()

    @ray.remote
    def outer():
        return ray.get(inner.remote())

    assert ray.get(outer.remote()) == "here"


def test_a_task_may_give_its_own_tasks_a_folder(cluster, project: Path):
    @ray.remote
    def read():
        return open("data.txt").read()

    @ray.remote
    def outer(folder):
        return ray.get(read.options(runtime_env={"working_dir": folder}).remote())

    assert ray.get(outer.remote(str(project))) == "here"


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


def test_py_modules_may_be_folders_files_wheels_and_modules_that_are_loaded(
    cluster, tmp_path: Path, monkeypatch, make_wheel
):
    (tmp_path / "rb_file.py").write_text("NAME = 'file'\n")
    (tmp_path / "rb_loaded").mkdir()
    (tmp_path / "rb_loaded" / "__init__.py").write_text("NAME = 'loaded'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import rb_loaded

    modules = [str(tmp_path / "rb_file.py"), make_wheel(tmp_path, "3.0"), rb_loaded]

    @ray.remote(runtime_env={"py_modules": modules})
    def names():
        import rb_file
        import rb_loaded
        import rb_tiny

        return rb_file.NAME, rb_tiny.VERSION, rb_loaded.NAME

    assert ray.get(names.remote()) == ("file", "3.0", "loaded")


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"working_dir": "/nowhere/at/all"}, ValueError),
        ({"working_dir": "s3://bucket/folder"}, ValueError),
        ({"working_dir": __file__}, ValueError),
        ({"py_modules": ["/nowhere/at/all"]}, ValueError),
        ({"py_modules": "/tmp"}, TypeError),
        ({"env_vars": {"A": 1}}, TypeError),
        ({"env_vars": {"A=B": "1"}}, ValueError),
        ({"excludes": "*.log"}, TypeError),
        ({"conda": "base"}, ValueError),
        ({"container": {"image": "x"}}, ValueError),
        ({"enviroment": {}}, ValueError),
        ({"pip": ["a"], "uv": ["b"]}, ValueError),
        ({"pip": "/nowhere/requirements.txt"}, ValueError),
        ({"pip": {"package": ["a"]}}, ValueError),
        ({"uv": {"packages": ["a"], "uv_check": 1}}, TypeError),
        ({"worker_process_setup_hook": 3}, TypeError),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError),
        ("env", TypeError),
    ],
)
def test_what_cannot_be_meant_is_refused_at_the_call_site(environment, error, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(error, match="runtime_env|is not a valid|py_modules|setup_timeout_seconds"):
        ray.remote(lambda: None).options(runtime_env=environment)


def test_a_misspelt_field_is_told_what_was_meant():
    with pytest.raises(ValueError, match="Did you mean 'working_dir'"):
        ray.remote(lambda: None).options(runtime_env={"workingdir": "."})


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


# What a job and a hook have to say


def read_job_variable():
    return os.environ.get("RB_JOB"), os.environ.get("RB_OWN")


def test_a_submitted_job_and_its_driver_each_set_their_own_part(own_cluster, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"runtime_env": {"env_vars": {"RB_JOB": "job"}}}')
    with pytest.raises(ValueError, match="because of a conflict"):
        own_cluster(num_cpus=1, runtime_env={"env_vars": {"RB_JOB": "driver"}})
    own_cluster(num_cpus=1, runtime_env={"env_vars": {"RB_OWN": "driver"}})
    assert ray.get(ray.remote(read_job_variable).remote()) == ("job", "driver")
    monkeypatch.setenv("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    own_cluster(num_cpus=1, runtime_env={"env_vars": {"RB_JOB": "driver"}})
    assert ray.get(ray.remote(read_job_variable).remote()) == ("driver", None)


def test_a_hook_may_change_the_environment_of_init(own_cluster, tmp_path: Path, monkeypatch):
    (tmp_path / "rb_hook.py").write_text(
        "def add(env):\n    return {**(env or {}), 'env_vars': {'RB_JOB': 'hooked'}}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RAY_RUNTIME_ENV_HOOK", "rb_hook.add")
    own_cluster(num_cpus=1)
    assert ray.get(ray.remote(read_job_variable).remote())[0] == "hooked"
    assert ray.get_runtime_context().runtime_env == {"env_vars": {"RB_JOB": "hooked"}}


# The record


def test_equal_environments_have_equal_keys_and_the_plain_one_has_none():
    assert Environment().key == ""
    one, two = Environment(env_vars={"A": "1", "B": "2"}), Environment(env_vars={"B": "2", "A": "1"})
    assert one.key == two.key and environment_of(one.key) == one


def test_a_child_overrides_fields_and_merges_variables():
    parent = Environment(env_vars={"A": "1", "B": "1"}, working_dir="/p", packages=("x",), packages_checked=True)
    child = Environment(env_vars={"B": "2"}, packages=("y",))
    merged = environment_of(merged_key(parent.key, child.key))
    assert merged == Environment(env_vars={"A": "1", "B": "2"}, working_dir="/p", packages=("y",))
