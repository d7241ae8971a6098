"""The package root: what importing it costs, and that its lazy names are all there."""

import importlib
import subprocess
import sys

import pytest

import raybook
from raybook import api

HEAVY = "numpy grpc torch pandas pyarrow IPython asyncio cloudpickle msgspec raybook.api raybook_kernel".split()

PROBE = f"""
import sys, time
started = time.perf_counter()
import raybook
print(f"import raybook: {{(time.perf_counter() - started) * 1000:.1f}} ms")
print([name for name in {HEAVY!r} if name in sys.modules])
"""


def test_importing_raybook_imports_nothing_heavy():
    result = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env=_environ())
    cost, heavy = result.stdout.splitlines()
    print(cost)
    assert heavy == "[]"


def test_importing_the_api_imports_no_library_and_no_engine():
    probe = PROBE.replace("import raybook\n", "import raybook.api\n")
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=_environ())
    heavy = result.stdout.splitlines()[1]
    for name in ("numpy", "grpc", "torch", "pandas", "pyarrow", "IPython", "asyncio"):
        assert name not in heavy


@pytest.mark.parametrize("name", sorted(set(raybook.__all__) - {"__version__", "exceptions", "install_as_ray"}))
def test_every_public_name_is_the_apis(name):
    assert getattr(raybook, name) is getattr(api, name)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        raybook.nonsense  # noqa: B018 - raises.


def test_public_names_are_listed_before_they_are_used():
    assert {"init", "remote", "exceptions", "ObjectRef"} <= set(dir(raybook))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("raybook.exceptions", ["RayTaskError", "GetTimeoutError", "RayActorError"]),
        ("raybook.actor", ["ActorClass", "ActorHandle", "exit_actor"]),
        ("raybook.remote_function", ["RemoteFunction"]),
        ("raybook.runtime_context", ["get_runtime_context", "RuntimeContext"]),
        ("raybook.util.scheduling_strategies", ["NodeAffinitySchedulingStrategy"]),
    ],
)
def test_rays_module_paths_are_there(module, names):
    assert all(hasattr(importlib.import_module(module), name) for name in names)


def _environ():
    return {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin"}


def test_kernel_without_the_notebook_extra_still_imports_raybook():
    probe = """
import sys, types, warnings
class ZMQInteractiveShell: pass
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=ZMQInteractiveShell)
sys.modules["raybook_kernel"] = None
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import raybook
print(seen[0].message)
"""
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, env=_environ())
    assert "pip install 'raybook[notebook]'" in result.stdout
