"""Lines: how a magic without sub-commands is made known to a shell: parsed, explained, completed, its mistakes one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from raybook.exceptions import RayError
from raybook_kernel.completer import complete_line_magic
from raybook_kernel.magics.arguments import Command, LineTable, Request

MISTAKES = (ValueError, TypeError, ConnectionError, RuntimeError, TimeoutError, OSError, RayError)
"""What a person's line can bring about; each has a text that says what to do."""


class Call:
    """User code that a line wants run: its errors are raised as they are, not told in one line."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs

    def __call__(self) -> Any:
        __tracebackhide__ = True
        return self._function(*self._args, **self._kwargs)


def register_line(shell: InteractiveShell, command: Command, run: Callable[[Request], Any]) -> None:
    """``%name``: ``run`` is called with the line as understood; what it returns is the cell's value, or a ``Call``."""
    table = LineTable(command.name, command)

    def magic(line: str) -> Any:
        __tracebackhide__ = True
        try:
            request = table.parse(line)
            if request.wants_help:
                print(table.help())
                return None
            found = run(request)
        except MISTAKES as error:
            raise UsageError(str(error)) from None
        return found() if isinstance(found, Call) else found

    magic.__doc__ = table.help()
    shell.register_magic_function(magic, "line", command.name)  # type: ignore[arg-type]
    complete_line_magic(shell, command.name, table.complete)


def register_cell(shell: InteractiveShell, command: Command, run: Callable[[Request, str], Any]) -> None:
    """``%%name``: as ``register_line``, with the cell's text. What goes wrong in the cell itself is raised as it is."""
    table = LineTable(command.name, command)

    def magic(line: str, cell: str) -> Any:
        try:
            request = table.parse(line)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if request.wants_help:
            print(table.help())
            return None
        return run(request, cell)

    magic.__doc__ = table.help()
    shell.register_magic_function(magic, "cell", command.name)  # type: ignore[arg-type]
    complete_line_magic(shell, command.name, table.complete)
