"""Remote cells: ``%%ray_task`` runs a cell as a task, ``%%ray_all`` on every node.

What the cell reads is shown with its size before it ships; what it binds comes back into the notebook. Errors name
the lines of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any

import cloudpickle
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

import raybook
from raybook.api.state import nodes
from raybook.api.strategies import NodeAffinitySchedulingStrategy
from raybook.observe import bytes_text
from raybook_kernel.cell_code import RESULT, CellCode, analysed
from raybook_kernel.magics.arguments import Command, Option, Request
from raybook_kernel.magics.lines import register_cell
from raybook_kernel.magics.values import cpu_count, gpu_count
from raybook_kernel.session import KernelSession, session_of

NOTICED_BYTES = 1 << 20
"""Smaller inputs are told by name only."""
LARGE_BYTES = 100 << 20
SHELLS_OWN = frozenset({"In", "Out", "get_ipython", "exit", "quit", "_", "__", "___"})


class RemoteCells:
    """What the magics do; one per shell."""

    def __init__(self, shell: InteractiveShell, session: KernelSession) -> None:
        self._shell = shell
        self._session = session

    def task(self, request: Request, cell: str) -> Any:
        """``%%ray_task``."""
        code, inputs = self._prepared(cell)
        wanted = self._outputs(request, code)
        options = {key: request.values[key] for key in ("num_cpus", "num_gpus") if key in request.values}
        name = request.values.get("name", "cell")
        run = raybook.remote(_runner(code.code, tuple(wanted))).options(name=name, **options)
        ref = run.remote(inputs)
        if request.values.get("background"):
            return ref
        bound, result = raybook.get(ref)
        self._take(bound)
        return result

    def everywhere(self, request: Request, cell: str) -> dict[str, Any]:
        """``%%ray_all``: node → the value of the cell's last expression."""
        code, inputs = self._prepared(cell)
        run = raybook.remote(_runner(code.code, ()))
        refs = {}
        for node in nodes():
            if not node["Alive"]:
                continue
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = run.options(name="cell on every node", num_cpus=0, scheduling_strategy=place)
            refs[f"{node['NodeManagerHostname']} {node['NodeID'][:8]}"] = options.remote(inputs)
        found: dict[str, Any] = {}
        failed: dict[str, BaseException] = {}
        for where, ref in refs.items():
            try:
                found[where] = raybook.get(ref)[1]
            except Exception as error:  # noqa: BLE001 - a cell may raise anything; the other nodes' answers are kept.
                failed[where] = error
        if failed:
            where, first = next(iter(failed.items()))
            print(f"{len(failed)} of {len(refs)} nodes failed; the first is {where}. The others' values: {found!r}")
            raise first
        return found

    def _prepared(self, cell: str) -> tuple[CellCode, dict[str, Any]]:
        """The cell as code, and its inputs; says what ships."""
        if not self._session.is_connected:
            raise UsageError("This kernel is not connected to a cluster: `%ray_cluster start`.")
        # One line down, where the cell's text stands below the magic's own line.
        source = "\n" + self._shell.transform_cell(cell)
        code = analysed(source, self._shell.compile.cache(source, self._shell.execution_count))
        namespace = self._shell.user_ns
        inputs = {name: namespace[name] for name in code.reads if name in namespace and name not in SHELLS_OWN}
        sizes = {}
        for name, value in inputs.items():
            try:
                sizes[name] = len(cloudpickle.dumps(value))
            except Exception as error:  # noqa: BLE001 - reducers of users' classes may raise anything.
                raise UsageError(
                    f"The cell reads `{name}`, a {type(value).__name__}, which cannot be sent to a worker: {error}. Make "
                    f"it inside the cell instead."
                ) from None
        told = [name if size < NOTICED_BYTES else f"{name} ({bytes_text(size)})" for name, size in sizes.items()]
        if told:
            print(f"Ships {', '.join(told)}.")
        if sum(sizes.values()) > LARGE_BYTES:
            print("These go with this run alone; `ref = raybook.put(value)` ships a value once for many.")
        return code, inputs

    @staticmethod
    def _outputs(request: Request, code: CellCode) -> list[str]:
        if "out" not in request.values:
            return [name for name in code.binds if not name.startswith("_")]
        wanted = [name.strip() for name in request.values["out"].split(",") if name.strip()]
        unknown = [name for name in wanted if name not in code.binds]
        if unknown:
            raise UsageError(
                f"--out: the cell does not bind {unknown[0]!r}. It binds: {', '.join(code.binds) or 'nothing'}."
            )
        return wanted

    def _take(self, bound: dict[str, Any]) -> None:
        kept_back = bound.pop("", None)
        self._shell.user_ns.update(bound)
        if kept_back:
            print(f"Not brought back, because they cannot be pickled: {', '.join(kept_back)}.")


def _runner(code: CodeType, wanted: tuple[str, ...]) -> Callable[[dict[str, Any]], tuple[dict[str, Any], Any]]:
    """The function that a worker runs. It is defined here and shipped by value: workers need no notebook packages."""

    def cell(inputs: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        namespace: dict[str, Any] = {"__name__": "__main__", **inputs}
        exec(code, namespace)
        bound: dict[str, Any] = {}
        kept_back = []
        for name in wanted:
            if name not in namespace:
                continue
            try:
                cloudpickle.dumps(namespace[name])
            except Exception:  # noqa: BLE001 - as above, on the worker.
                kept_back.append(name)
            else:
                bound[name] = namespace[name]
        if kept_back:
            bound[""] = kept_back
        return bound, namespace.get(RESULT)

    return cell


def register(shell: InteractiveShell) -> None:
    """Make the magics known to a shell."""
    cells = RemoteCells(shell, session_of(shell))
    register_cell(
        shell,
        Command(
            "ray_task",
            "Run this cell as a task; what it binds comes back.",
            (),
            (
                Option("--num-cpus", "N", "CPUs it needs; default: 1", cpu_count),
                Option("--num-gpus", "N", "GPUs it needs, also a share of one; default: none", gpu_count),
                Option("--name", "NAME", "what panels call it; default: cell", str),
                Option("--out", "A,B", "bring only these back; default: every name that it binds", str),
                Option("--background", "", "do not wait; the cell's value is a reference to (names, value)"),
            ),
        ),
        cells.task,
    )
    register_cell(
        shell, Command("ray_all", "Run this cell on every node; the value is node → value.", ()), cells.everywhere
    )
