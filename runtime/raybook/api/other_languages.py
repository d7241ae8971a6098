"""Other languages: Ray's names for functions and classes of Java and C++, which raybook does not run."""

from __future__ import annotations

import enum
from typing import NoReturn


class Language(enum.IntEnum):
    """Languages of Ray's workers; raybook has Python's."""

    PYTHON = 0
    JAVA = 1
    CPP = 2


def java_function(class_name: str, function_name: str) -> NoReturn:
    """CrossLanguageError."""
    _refuse(f"the Java function {class_name}.{function_name}")


def java_actor_class(class_name: str) -> NoReturn:
    """CrossLanguageError."""
    _refuse(f"the Java class {class_name}")


def cpp_function(function_name: str) -> NoReturn:
    """CrossLanguageError."""
    _refuse(f"the C++ function {function_name}")


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(
        f"raybook runs Python only, and cannot call {what}. Call it from a Python function (ctypes, JPype, pybind11), or "
        "run this program on Ray."
    )
