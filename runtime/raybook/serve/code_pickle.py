"""Code pickle: the user's code as bytes for replicas: by value whatever a replica could not import."""

from __future__ import annotations

import copyreg
import os
import sys
from collections.abc import Iterable
from typing import Any

import cloudpickle


def pickle_code(value: Any) -> bytes:
    """cloudpickle, with a form for starlette's State, whose own recurses without end. Raises what cannot be pickled."""
    datastructures = sys.modules.get("starlette.datastructures")
    if datastructures is not None:
        copyreg.pickle(datastructures.State, _reduce_state)
    return cloudpickle.dumps(value)


def _reduce_state(state: Any) -> tuple[Any, ...]:
    return type(state), (state._state,)


def pickle_with_path(value: Any) -> bytes:
    """The same with the folders that modules are imported from here: code that is pickled by name is found in them."""
    folders = [os.path.abspath(folder or ".") for folder in sys.path]
    own = [
        folder for folder in folders if not folder.startswith((sys.prefix, sys.base_prefix)) and os.path.isdir(folder)
    ]
    return cloudpickle.dumps((own, pickle_code(value)))


def load_with_path(code: bytes) -> Any:
    """The other end. Raises what importing raises."""
    folders, payload = cloudpickle.loads(code)
    extend_path(folders)
    return cloudpickle.loads(payload)


def extend_path(folders: Iterable[str]) -> None:
    """Let imports find what is there too, after what they find already."""
    for folder in folders:
        if folder not in sys.path:
            sys.path.append(folder)
