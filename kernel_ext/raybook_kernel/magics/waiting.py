"""Waiting: ``%ray_why REF`` says what an object waits for; ``%ray_cancel`` ends what a cell has submitted."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook import ObjectRef, cancel
from raybook.api.own_tasks import UnfinishedTask, cancel_tasks, settle, unfinished_tasks, why
from raybook_kernel.magics.arguments import ArgumentMistake, Command, Option, Request, nearest
from raybook_kernel.magics.lines import register_line
from raybook_kernel.session import KernelSession, session_of

REFS_TOLD_MAX = 8


class Waiting:
    """What the magics do; one per shell."""

    def __init__(self, shell: InteractiveShell, session: KernelSession) -> None:
        self._shell = shell
        self._session = session

    def why(self, request: Request) -> None:
        """``%ray_why``."""
        if not request.words:
            settle()
            self._why_all()
            return
        refs = self._refs(request.words[0])
        for ref in refs[:REFS_TOLD_MAX]:
            print(why(ref))
        if len(refs) > REFS_TOLD_MAX:
            print(f"and {len(refs) - REFS_TOLD_MAX} more.")

    def _why_all(self) -> None:
        waiting = [task for task in unfinished_tasks() if not task.is_running]
        if not waiting:
            running = len(unfinished_tasks())
            print(f"Nothing of this notebook waits; {_tasks(running)} run{'s' if running == 1 else ''}.")
            return
        reasons: dict[str, int] = {}
        for task in waiting:
            reasons[task.why] = reasons.get(task.why, 0) + 1
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:REFS_TOLD_MAX]:
            print(f"{_tasks(count)}: {reason.rstrip('.')}.")

    def cancel(self, request: Request) -> None:
        """``%ray_cancel``."""
        settle()
        force = bool(request.values.get("force"))
        if request.values.get("all"):
            if request.words:
                raise ArgumentMistake("--all cancels everything: leave the name out.")
            self._cancel(unfinished_tasks(), force, "this notebook")
            return
        if request.words:
            word = request.words[0]
            by_name = [task for task in unfinished_tasks() if task.name == word]
            if by_name:
                self._cancel(by_name, force, f"`{word}`")
                return
            refs = self._refs(word)
            for ref in refs:
                cancel(ref, force=force)
            print(f"Cancelled {_tasks(len(refs))} of {word}.")
            return
        for cell in self._session.cells.newest_first():
            if tasks := unfinished_tasks(cell.started_s, cell.ended_s):
                self._cancel(tasks, force, cell.name)
                return
        print("Nothing that the last cells submitted is unfinished.")

    @staticmethod
    def _cancel(tasks: list[UnfinishedTask], force: bool, whose: str) -> None:
        count = cancel_tasks(tasks, force)
        print(f"Cancelled {_tasks(count)} of {whose}." if count else f"Nothing of {whose} is unfinished.")

    def _refs(self, word: str) -> list[ObjectRef]:
        """The references in a variable: one, or a list, tuple, set or dict of them."""
        namespace = self._shell.user_ns
        if word not in namespace:
            names = {task.name for task in unfinished_tasks()} | {n for n in namespace if not n.startswith("_")}
            raise ArgumentMistake(f"There is no variable and no unfinished task {word!r}.{nearest(word, names)}")
        found = list(_references(namespace[word]))
        if not found:
            raise ArgumentMistake(f"{word} holds no ObjectRef; it is {type(namespace[word]).__name__}.")
        return found


def _references(value: Any) -> list[ObjectRef]:
    if isinstance(value, ObjectRef):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [each for each in value if isinstance(each, ObjectRef)]
    return []


def _tasks(count: int) -> str:
    return f"{count:,} task" + ("" if count == 1 else "s")


def register(shell: InteractiveShell) -> None:
    """Make the magics known to a shell."""
    session = session_of(shell)
    waiting = Waiting(shell, session)

    def names() -> list[str]:
        known = [name for name, value in shell.user_ns.items() if not name.startswith("_") and _references(value)]
        return known + (sorted({task.name for task in unfinished_tasks()}) if session.is_connected else [])

    register_line(
        shell,
        Command("ray_why", "Why an object is not ready; without a name, what this notebook waits for.", ("[REF]",), (),
                names),
        waiting.why,
    )  # fmt: skip
    register_line(
        shell,
        Command(
            "ray_cancel",
            "Cancel what a variable refers to, tasks by name, or all that the last cell submitted.",
            ("[REF|NAME]",),
            (
                Option("--all", "", "everything that this notebook has submitted"),
                Option("--force", "", "end the worker processes of tasks that do not listen"),
            ),
            names,
        ),
        waiting.cancel,
    )
