"""Train worker: the actor that one rank runs in.

A thin shell: it says where it is, runs what the backend asks, and then the training function, on the process's main
thread (libraries that set signal handlers need it). Whatever the function raises is an answer, not a death.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import raybook
from raybook import api
from raybook.ml.session import enter_process_session
from raybook.train.core.ranks import WorkerPlace
from raybook.train.exceptions import UserExceptionWithTraceback, user_exception
from raybook.train.train_function import TrainFunction
from raybook.train.worker_session import Assignment, WorkerSession, holds_tensor
from raybook.util.node_address import get_node_ip_address


@dataclass(frozen=True)
class RankOutcome:
    """How a rank's function ended. error: None if it returned."""

    return_value: Any = None
    error: UserExceptionWithTraceback | None = None


class TrainWorker:
    """One worker of a group."""

    def __init__(self) -> None:
        self._session: WorkerSession | None = None
        self._assignment: Assignment | None = None

    def describe(self) -> WorkerPlace:
        """Return where this is."""
        context = api.get_runtime_context()
        gpus = tuple(str(each) for each in raybook.get_gpu_ids())
        return WorkerPlace(context.get_node_id(), get_node_ip_address(), socket.gethostname(), os.getpid(), gpus)

    def execute(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a backend's function here."""
        return function(*args, **kwargs)

    def prepare(self, assignment: Assignment) -> None:
        """Take a rank: from now on `get_context` and its fellows answer in this process."""
        self._assignment = assignment
        self._session = WorkerSession(assignment)
        enter_process_session(self._session)

    def run(self, holder: list[Any]) -> RankOutcome:
        """Run the training function to its end. holder: the reference of a TrainFunction, in a list lest it be fetched
        before this begins (its modules may take seconds to import, or fail to)."""
        assert self._session is not None and self._assignment is not None, "prepare() comes first"
        try:
            function: TrainFunction = api.get(holder[0])
            with self._assignment.backend_config.train_func_context():
                returned = function.call()
            self._session.finish()
            if holds_tensor(returned):
                raise ValueError(
                    "Returning objects containing Torch tensors from the training function is not supported as it will "
                    "throw an exception on deserialization. Convert them to Python objects (`.item()`, `.numpy()`), or "
                    "save them in a checkpoint."
                )
        except BaseException as error:  # noqa: BLE001 - the edge of user code: whatever it raises becomes the answer.
            return RankOutcome(error=user_exception(error))
        return RankOutcome(returned if self._assignment.rank.world_rank == 0 else None)
