"""Code pickle: the user's code as bytes for replicas: by value whatever a replica could not import."""

from __future__ import annotations

import copyreg
import sys
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
