"""Error values: exceptions as failed objects, and back.

Errors cross processes as ``base.specs.ErrorValue``: ``code`` is the class name of ``base/errors`` (or "task" for what user
code raised), ``text`` is the whole message. Invariant: ``text`` wins over what is in ``payload``.
"""

from __future__ import annotations

import builtins
import pickle
from collections.abc import Callable
from typing import Any

from raybook.base.errors import ERROR_CLASSES, INIT_FAILED, TASK_CODE, RayActorError, RaySystemError, RayTaskError
from raybook.base.specs import ErrorValue
from raybook.base.task_traceback import FAILED_ARGUMENT, header, with_source_lines

_BUILTIN_CODES = frozenset({"ValueError", "TypeError", "RuntimeError", "ConnectionError", "TimeoutError", "KeyError"})


def error_from_code(code: str, text: str) -> Exception:
    """The exception for an error code and its message; an unknown code (a newer peer) becomes RaySystemError."""
    known = ERROR_CLASSES.get(code)
    if known is not None and known is not RayTaskError:
        return known.of_text(text)  # type: ignore[attr-defined,no-any-return]
    if code in _BUILTIN_CODES:
        return getattr(builtins, code)(text)
    return RaySystemError(f"{code}: {text}")


def error_from_value(value: ErrorValue, loads: Callable[[bytes], Any] = pickle.loads) -> BaseException:
    """The exception to raise for a failed object, ready for ``raise``. loads: the other half of the ``dumps`` that
    ``value_from_error`` was given. Runs the unpickling code of user exceptions; one that fails leaves a RayTaskError
    with the text."""
    if value.code != TASK_CODE and not value.is_of_task:
        known = error_from_code(value.code, value.text)
        if value.actor_id and isinstance(known, RayActorError):
            known.actor_id = value.actor_id.hex()
            known.actor_init_failed = value.text.startswith(INIT_FAILED)
        return known
    text = with_source_lines(value.text)
    error = None
    if value.payload:
        try:
            error = loads(value.payload)
        except Exception as failure:  # noqa: BLE001 - loading runs user code, and may miss its modules.
            text += (
                f"\n(The exception itself could not be rebuilt in this process: {type(failure).__name__}: {failure})"
            )
    if not isinstance(error, RayTaskError):
        return RayTaskError("task", text, None)
    error.traceback_str = text
    return error.as_instanceof_cause()


def value_from_error(error: BaseException, dumps: Callable[[Any], bytes]) -> ErrorValue:
    """An exception as a failed object. dumps: the pickler for user values. A RayTaskError whose cause cannot be pickled
    travels without it."""
    if not isinstance(error, RayTaskError):
        return ErrorValue(type(error).__name__, str(error))
    try:
        payload = dumps(error)
    except Exception:  # noqa: BLE001 - pickling runs the cause's __reduce__, which is user code. The text remains.
        payload = dumps(error._without_cause())
    return ErrorValue(TASK_CODE, error.traceback_str, payload)


def failed_argument(value: ErrorValue, name: str) -> ErrorValue:
    """The error of task ``name``, one of whose arguments failed with ``value``: a RayTaskError that has the class of
    the first failure too. A chain of failures names its last task only, so that the text stays bounded."""
    _, marked, rest = value.text.partition(FAILED_ARGUMENT + "\n")
    text = f"{header(name, None, None)}\n  {FAILED_ARGUMENT}\n{rest if marked else value.text}"
    payload = value.payload
    if value.code != TASK_CODE and not value.is_of_task:
        # It was not the user's code that failed: as the error of a task it needs to be one.
        cause = error_from_value(value)
        payload = pickle.dumps(RayTaskError(name, text, cause, actor_id=value.actor_id.hex() or None))
    return ErrorValue(value.code, text, payload, actor_id=value.actor_id, is_of_task=value.code != TASK_CODE)
