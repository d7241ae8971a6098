"""`import ray` means raybook: in the driver, in scripts run by name, and in the workers.

Each test runs an interpreter of its own, because what it asks for changes what `import ray` finds.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "runtime"

INSTALL = "import raybook; raybook.install_as_ray()\n"


@pytest.fixture
def run_python(tmp_path):
    """Run code, or `-m` arguments, in a fresh interpreter; what it printed last, from JSON."""

    def run(code: str, *arguments: str, modules: dict[str, str] | None = None) -> object:
        for name, source in (modules or {}).items():
            (tmp_path / f"{name}.py").write_text(source)
        path = os.pathsep.join([str(SOURCES), str(tmp_path)])
        done = subprocess.run(
            [sys.executable, *(arguments or ["-c", code])],
            env={**os.environ, "PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.strip().rpartition("\n")[2])

    return run


def test_names_below_ray_are_raybooks_own(run_python):
    same = run_python(
        INSTALL
        + """
import json, ray, ray.exceptions, ray.util.multiprocessing, raybook.util.queue, raybook.tune
from ray.util import ActorPool, as_completed
from ray.util.queue import Queue, Empty
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray import tune
from ray.tune.schedulers import ASHAScheduler
print(json.dumps([
    ray is raybook,
    Queue is raybook.util.queue.Queue,
    tune is raybook.tune,
    ray.exceptions.RayError is raybook.exceptions.RayError,
    ray.__spec__.name == "raybook" and ray.util.queue.__spec__.name == "raybook.util.queue",
]))
"""
    )
    assert same == [True] * 5


def test_nothing_is_imported_before_it_is_asked_for(run_python):
    loaded = run_python(
        INSTALL + "import json, sys, ray\nprint(json.dumps([name for name in sys.modules if name == 'raybook.tune']))"
    )
    assert loaded == []


def test_what_raybook_lacks_is_said_and_what_it_has_is_named(run_python):
    told = run_python(
        INSTALL
        + """
import json, ray
told = {}
for line in ("import ray.rllib.algorithms", "from ray import nonsense", "from ray.util import nonsense"):
    try:
        exec(line)
    except ImportError as error:
        told[line] = str(error)
print(json.dumps([told, hasattr(ray, "rllib")]))
"""
    )
    texts, has_it = told
    assert len(texts) == 3 and not has_it
    for text in texts.values():
        assert "`ray` is raybook here" in text
    assert "raybook has no `ray.rllib`" in texts["import ray.rllib.algorithms"]
    assert all(name in texts["from ray import nonsense"] for name in ("ray.tune", "ray.types", "ray.util"))
    assert "ray.util.queue" in texts["from ray.util import nonsense"]


def test_the_real_ray_is_not_replaced_once_imported(run_python):
    said = run_python(
        """
import json, ray, raybook
try:
    raybook.install_as_ray()
except RuntimeError as error:
    print(json.dumps([str(error), ray.name]))
""",
        modules={"ray": "name = 'real'\n"},
    )
    assert "has been imported in this process already" in said[0] and said[1] == "real"


def test_workers_find_raybook_under_the_name_ray(run_python):
    found = run_python(
        INSTALL
        + """
import json, ray, users_module
from ray.util.queue import Queue

@ray.remote
def by_global(items):
    items.put(ray.get_runtime_context().get_task_name())

@ray.remote
def by_import(items):
    import ray.util
    from ray.util.queue import Queue
    items.put([ray.__name__, isinstance(items, Queue)])

@ray.remote
def lacking():
    import ray.rllib

ray.init(num_cpus=1)
items = Queue()
ray.get([by_global.remote(items), by_import.remote(items)])
from_module = ray.get(ray.remote(users_module.where).remote())
try:
    ray.get(lacking.remote())
except ImportError as error:
    said = str(error)
results = [items.get(), items.get()]
ray.shutdown()
print(json.dumps([sorted(results, key=str), from_module, "raybook has no `ray.rllib`" in said]))
""",
        modules={
            "users_module": """
import ray
from ray.util.queue import Queue

def where():
    return [ray.__name__, Queue.__module__]
"""
        },
    )
    assert found == [[["raybook", True], "by_global"], ["raybook", "raybook.util.queue"], True]


def test_workers_without_the_wish_find_no_ray(run_python):
    found = run_python(
        """
import json, raybook

@raybook.remote
def look():
    import importlib.util
    return importlib.util.find_spec("ray") is not None

raybook.init(num_cpus=1)
print(json.dumps(raybook.get(look.remote())))
raybook.shutdown()
""",
    )
    assert found == (importlib.util.find_spec("ray") is not None)


def test_installing_after_init_says_that_workers_do_not_know(run_python):
    said = run_python(
        """
import json, warnings, raybook
raybook.init(num_cpus=1)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    raybook.install_as_ray()
    raybook.install_as_ray()
import ray
raybook.shutdown()
print(json.dumps([ray is raybook, [str(warning.message) for warning in caught]]))
"""
    )
    assert said[0] and len(said[1]) == 1 and "before raybook.init()" in said[1][0]


@pytest.mark.slow
def test_a_driver_that_joins_a_cluster_brings_the_wish_along(run_python):
    found = run_python(
        """
import json, raybook, subprocess, sys
context = raybook.init(num_cpus=1)
joining = '''
import json, raybook; raybook.install_as_ray()
import ray

@ray.remote
def where():
    import ray.util.queue
    return ray.util.queue.__name__

ray.init(address="auto")
print(json.dumps([ray.get(where.remote()), ray.get_runtime_context().runtime_env]))
ray.shutdown()
'''
print(subprocess.check_output([sys.executable, "-c", joining], text=True))
raybook.shutdown()
"""
    )
    assert found == ["raybook.util.queue", {}]


def test_pickles_name_raybook_and_load_where_nobody_wished_for_ray(run_python, tmp_path):
    run_python(
        INSTALL
        + f"""
import json, pickle, ray, ray.exceptions, ray.cloudpickle
from ray.runtime_env import RuntimeEnv
from ray.util.scheduling_strategies import In
things = [ray.exceptions.GetTimeoutError("late"), RuntimeEnv(env_vars={{"A": "1"}}), In("a"), ray.ObjectRef]
open({str(tmp_path / "things")!r}, "wb").write(ray.cloudpickle.dumps(things))
print(json.dumps(0))
"""
    )
    loaded = run_python(
        f"""
import json, pickle, raybook, sys
things = pickle.load(open({str(tmp_path / "things")!r}, "rb"))
is_ours = things[3] is raybook.ObjectRef
print(json.dumps([type(things[0]).__name__, things[1], things[2].values, is_ours, "ray" in sys.modules]))
"""
    )
    assert loaded == ["GetTimeoutError", {"env_vars": {"A": "1"}}, ["a"], True, False]


def test_tests_written_for_ray_find_their_tools(run_python):
    found = run_python(
        INSTALL
        + """
import json, ray
from ray._private.test_utils import SignalActor, run_string_as_driver, wait_for_condition
from ray._common.test_utils import Semaphore
told = run_string_as_driver("import ray; print(ray.__name__, ray._private.worker.global_worker.connected)")
print(json.dumps([told.strip(), type(SignalActor).__name__]))
"""
    )
    assert found == ["raybook False", "ActorClass"]


def test_a_script_written_for_ray_runs_unchanged(run_python, tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "neighbour.py").write_text("FACTOR = 3\n")
    script = tmp_path / "scripts" / "script.py"
    script.write_text(
        """
import json, sys, neighbour, ray

@ray.remote
def scale(value, by):
    return value * by

if __name__ == "__main__":
    ray.init(num_cpus=1)
    print(json.dumps([ray.get(scale.remote(2, neighbour.FACTOR)), sys.argv[1:], __file__ == sys.argv[0]]))
    ray.shutdown()
"""
    )
    assert run_python("", "-m", "raybook.as_ray", str(script), "a", "--b") == [6, ["a", "--b"], True]


def test_a_module_can_be_run_by_name(run_python):
    source = "import json, sys, ray\nprint(json.dumps([ray.__name__, __name__, sys.argv[1:]]))\n"
    result = run_python("", "-m", "raybook.as_ray", "-m", "tool", "x", modules={"tool": source})
    assert result == ["raybook", "__main__", ["x"]]


def test_without_a_script_the_usage_is_told():
    done = subprocess.run(
        [sys.executable, "-m", "raybook.as_ray"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2 and "usage: python -m raybook.as_ray script.py" in done.stderr
