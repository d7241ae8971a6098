"""As ray: ``import ray`` finds raybook, so that scripts and notebooks written for Ray run unchanged.

    raybook.install_as_ray()                        before anything imports ray; then e.g. ``from ray import tune``
    python -m raybook.as_ray script.py [arguments]  the same for a script (or ``-m module``)

It decides what the name ``ray`` and those below it mean in this process and in the workers of clusters started from it.
``ray.util.queue`` *is* the module ``raybook.util.queue``, under a second name: there is one copy of every class, and
functions that mention ``ray`` are pickled as mentioning ``raybook``, which every worker has. Workers need the second
name too, for imports inside tasks and in modules of the user's; they learn of it from the environment, which a cluster
inherits from the process that starts it.
"""

from __future__ import annotations

import importlib.util
import os
import pkgutil
import runpy
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from raybook.api.context import DRIVER, current_runtime
from raybook.base.config import AS_RAY_VARIABLE

OURS = "raybook"
THEIRS = "ray"

NOT_RAYS = frozenset({"api", "k8s", "ml", "observe"})
"""Public rooms of raybook that Ray has no such names for."""

USAGE = "usage: python -m raybook.as_ray script.py [arguments], or python -m raybook.as_ray -m module [arguments]"


class AliasFinder(MetaPathFinder):
    """Finds ``ray`` and what is below it, and words the error for what raybook does not have."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        if top == THEIRS:
            real = f"{OURS}.{rest}" if rest else OURS
            found = importlib.util.find_spec(real)
            if found is None:
                raise _missing(rest)
            return importlib.util.spec_from_loader(fullname, AliasLoader(real), is_package=found.origin is None)
        if top == OURS and rest and PathFinder.find_spec(fullname, path) is None:
            # ``from ray import serve`` asks for ``raybook.serve``: modules know themselves by their first name.
            raise _missing(rest)
        return None


class AliasLoader(Loader):
    """Loads nothing: hands on the module that has the real name."""

    def __init__(self, real: str) -> None:
        self._real = real
        self._spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._real)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias's spec over the module's own.
        module.__spec__ = self._spec


def install_as_ray() -> None:
    """From now on, ``import ray`` in this process, and in the workers of clusters that it starts, finds raybook.

    Call it before anything imports ray and before ``raybook.init()``. Idempotent. RuntimeError when the real ray has
    been imported already; a warning when a cluster runs already, whose workers cannot be told any more.
    """
    present = sys.modules.get(THEIRS)
    if present is not None and present is not sys.modules[OURS]:
        raise RuntimeError(
            f"The real ray ({getattr(present, '__file__', None)}) has been imported in this process already, and its "
            "names are in use; nothing was changed. Restart the kernel or the script, and call "
            "raybook.install_as_ray() first."
        )
    if any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, AliasFinder())
    was_told = bool(os.environ.get(AS_RAY_VARIABLE))
    os.environ[AS_RAY_VARIABLE] = "1"
    if current_runtime.engine is not None and current_runtime.mode == DRIVER and not was_told:
        warnings.warn(
            "raybook runs already, and the workers of this cluster were not told that `import ray` means raybook: it "
            "works here, and for what tasks refer to by name, but not for imports inside tasks. Call "
            "raybook.install_as_ray() before raybook.init().",
            stacklevel=2,
        )


def _missing(rest: str) -> ModuleNotFoundError:
    """The error for a name below ``ray``. Its ``name`` is Ray's: one with our own would be taken for a module that
    simply has not been imported yet, and dropped."""
    parent, _, _ = rest.rpartition(".")
    package = sys.modules[f"{OURS}.{parent}" if parent else OURS]
    prefix = f"{THEIRS}.{parent}." if parent else f"{THEIRS}."
    known = ", ".join(prefix + name for name in _modules_of(package)) or "none"
    return ModuleNotFoundError(
        f"`ray` is raybook here (raybook.install_as_ray), and raybook has no `{THEIRS}.{rest}`. Modules it has there: "
        f"{known}.",
        name=f"{THEIRS}.{rest}",
    )


def _modules_of(package: ModuleType) -> list[str]:
    found = {module.name for module in pkgutil.iter_modules(getattr(package, "__path__", ()))}
    if package.__name__ == OURS:
        found &= package._MODULES - NOT_RAYS
    return sorted(name for name in found if not name.startswith("_"))


def main(arguments: list[str]) -> int:
    """Run a script or module as ``__main__`` with ``import ray`` meaning raybook."""
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        print(USAGE, file=sys.stderr)
        return 2
    install_as_ray()
    if arguments[0] == "-m":
        sys.argv[:] = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = arguments
        # Python puts the script's folder first, and so do we; it was the working directory, because of our own ``-m``.
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    # By its real name, so that there is one copy of the module's classes.
    from raybook.as_ray import main as run

    sys.exit(run(sys.argv[1:]))
