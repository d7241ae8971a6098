"""Dual errors: the class that is both RayTaskError and what the user's code raised, and what making one takes.

Classes of users may refuse subclasses, keep state in C fields or take anything in ``__init__``; nothing here calls that
``__init__``. It knows nothing of tasks or of how errors travel.
"""

from __future__ import annotations

import functools
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any


@functools.lru_cache(maxsize=64)
def dual_type(task_error: type, cause_type: type) -> type:
    """``RayTaskError(ValueError)``, of RayTaskError and the class of the cause. A bounded memo, because a sweep may fail
    ten thousand times in one way."""
    name = f"RayTaskError({cause_type.__name__})"
    body = {
        "__module__": "raybook.exceptions",
        "__qualname__": name,
        "__getattr__": _attribute_of_cause,
        # Many exceptions of users (HTTP, SystemExit) have a code of their own: theirs is what they look for.
        "code": property(lambda error: getattr(error.cause, "code", "task")),
    }
    return type(cause_type)(name, (task_error, cause_type), body)


def _attribute_of_cause(error: Any, name: str) -> Any:
    if name == "cause" or (name.startswith("__") and name.endswith("__")):
        raise AttributeError(name)
    return getattr(error.cause, name)


def native_base(kind: type) -> type:
    """The first builtin class among the bases of an exception class: its ``__new__`` makes the C part."""
    return next(base for base in kind.__mro__ if base.__module__ == "builtins")


def copy_members(source: BaseException, target: BaseException) -> None:
    """Copy what lives in C fields and slots (``OSError.errno``): ``__getattr__`` is never asked for those."""
    for base in type(source).__mro__:
        if base in (BaseException, object):
            continue
        for name, member in vars(base).items():
            if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__"):
                try:
                    setattr(target, name, getattr(source, name))
                except (AttributeError, TypeError):
                    continue  # Unset, or read-only and made by __new__ already (ExceptionGroup.exceptions).


def _class_attribute(kind: type, name: str) -> Any:
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def is_plainly_reduced(kind: type) -> bool:
    """Whether pickle would rebuild an exception by ``kind(*args)`` although ``kind.__init__`` is the user's: the call
    that fails for every ``__init__`` whose parameters are not ``args``. Those are rebuilt without ``__init__``."""
    return (
        isinstance(_class_attribute(kind, "__init__"), FunctionType)
        and kind.__reduce__ is native_base(kind).__reduce__
        and kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
        and not hasattr(kind, "__getnewargs__")
        and not isinstance(_class_attribute(kind, "__setstate__"), FunctionType)
    )
