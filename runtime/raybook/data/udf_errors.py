"""Errors of users' functions: which function failed, and on which row or batch.

What is raised is both `UserCodeException` and the class of what the function raised, so that ``except ValueError`` and
``except UserCodeException`` both catch it; the original is its ``__cause__``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from raybook.data.exceptions import RayDataUserCodeException

SHOWN_CHARACTERS_MAX = 200


@lru_cache(maxsize=64)
def _both(kind: type[BaseException]) -> type[RayDataUserCodeException]:
    return type(
        f"UserCodeException({kind.__name__})",
        (RayDataUserCodeException, kind),
        {"__reduce__": _reduce, "user_kind": kind},
    )


def _reduce(error: BaseException) -> Any:
    return _rebuild, (
        type(error).user_kind,  # type: ignore[attr-defined]
        error.args,  # type: ignore[attr-defined]
        {k: v for k, v in vars(error).items() if k != "cause"},
    )


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = _make(kind, *args)
    error.__dict__.update(state)
    return error


def _make(kind: type[BaseException], *args: Any) -> BaseException:
    """Of both classes if the user's allows it; its ``__init__`` is not called, it may take anything."""
    if issubclass(RayDataUserCodeException, kind):
        return RayDataUserCodeException(*args)
    try:
        both = _both(kind)  # type: ignore[arg-type]
        error = both.__new__(both, *args)
        error.args = args
        return error
    except TypeError:
        return RayDataUserCodeException(*args)


def user_error(error: BaseException, where: str) -> BaseException:
    """The error to raise from `error`. where: "the function `f` of Map(f), row 3 of task 0: {...}"."""
    return _make(type(error), f"UDF failed to process a data block. {type(error).__name__}: {error} ({where})")


def short(value: Any) -> str:
    """A value's repr, cut."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - the repr of a user's object.
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[: SHOWN_CHARACTERS_MAX - 1]}…"
