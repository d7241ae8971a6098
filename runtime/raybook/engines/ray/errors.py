"""Errors: what Ray raises, as raybook's classes, with Ray's as the cause.

An error of user code is a RayTaskError that is of its cause's class, too, as on every engine.
"""

from __future__ import annotations

import re
from typing import Any

import ray
import ray.exceptions

from raybook.base.errors import ERROR_CLASSES, ActorDiedError, RaySystemError, RayTaskError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NAME = re.compile(r"ray::([^(]+)\(")


def translated(error: BaseException) -> BaseException:
    """Raybook's error for one of Ray's; any other as it is. Its ``__cause__`` is Ray's."""
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = getattr(error, "cause", None)
        if isinstance(cause, BaseException) and isinstance(cause, ray.exceptions.RayError):
            cause = translated(cause)
        # Ray's own attributes are not on an error that is of its cause's class, too: only its text is.
        known = vars(error)
        text = _COLOUR.sub("", str(error))
        name = _NAME.match(text)
        task_error = RayTaskError(
            name[1] if name else "task",
            text,
            cause,
            pid=known.get("pid"),
            ip=known.get("ip"),
            actor_id=known.get("actor_id"),
        )
        found: BaseException = task_error.as_instanceof_cause()
    elif isinstance(error, ray.exceptions.RayError):
        found = _of_same_name(error)
    else:
        return error
    found.__cause__ = error
    return found


def _of_same_name(error: Any) -> BaseException:
    for kind in type(error).__mro__:
        known = ERROR_CLASSES.get(kind.__name__)
        if known is not None and known is not RayTaskError:
            found = known.of_text(str(error))  # type: ignore[attr-defined]
            if isinstance(found, ActorDiedError):
                found.actor_id = getattr(error, "actor_id", None)
            return found  # type: ignore[no-any-return]
    return RaySystemError(f"Ray raised {type(error).__name__}: {error}")
