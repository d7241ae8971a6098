"""Rerun: ``%ray_rerun`` runs a task that failed here in the kernel, with its arguments, so that ``%debug`` works.

The runtime keeps the last few tasks whose code raised (``KEPT_MAX``), with what they refer to.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook.api.own_tasks import FailedTask, bring_here, failed_tasks
from raybook_kernel.magics.arguments import ArgumentMistake, Command, Option, Request, nearest
from raybook_kernel.magics.lines import Call, register_line
from raybook_kernel.session import KernelSession, session_of

NAME = "rerun"
"""The variable that has the function and the arguments."""


class Rerun:
    """What the magic does; one per shell."""

    def __init__(self, shell: InteractiveShell, session: KernelSession) -> None:
        self._shell = shell
        self._session = session

    def run(self, request: Request) -> Any:
        """``%ray_rerun``: the value of the call; what it raises is raised here."""
        task = self._chosen(request.words[0] if request.words else "")
        function, args, kwargs = bring_here(task)
        brought = SimpleNamespace(function=function, args=args, kwargs=kwargs)
        self._shell.user_ns[NAME] = brought
        where = f", submitted at {task.call_site}" if task.call_site else ""
        print(f"Task `{task.name}`{where}: `{NAME}.function`, `{NAME}.args` and `{NAME}.kwargs` are here.")
        if request.values.get("bring"):
            return None
        print("It runs in this kernel now; after an error, %debug looks around in it.")
        return Call(function, args, kwargs)

    def _chosen(self, word: str) -> FailedTask:
        kept = failed_tasks() if self._session.is_connected else []
        if not kept:
            raise ArgumentMistake("No task that this notebook submitted has raised an error since raybook was loaded.")
        if not word:
            return kept[0]
        for task in kept:
            if task.name == word or task.task_id.hex().startswith(word):
                return task
        names = [task.name for task in kept]
        raise ArgumentMistake(f"{word!r} is none of the last that failed: {', '.join(names)}.{nearest(word, names)}")


def register(shell: InteractiveShell) -> None:
    """Make the magic known to a shell."""
    session = session_of(shell)
    rerun = Rerun(shell, session)

    def names() -> list[str]:
        return list(dict.fromkeys(task.name for task in failed_tasks())) if session.is_connected else []

    register_line(
        shell,
        Command(
            "ray_rerun",
            "Run a task that failed here in the kernel, with its arguments; without a name, the last one.",
            ("[NAME|ID]",),
            (Option("--bring", "", "only bring its function and arguments; run nothing"),),
            names,
        ),
        rerun.run,
    )
