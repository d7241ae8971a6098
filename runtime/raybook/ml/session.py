"""Session: what user code inside a trial or a training worker talks to.

Holds the contract of a session and finds the one that is current; does not know how a report travels.
Invariant: the current session is a context variable, so two trials in two threads of one process never see each
other's. A thread that user code starts by itself has the process's session, in a process that belongs to one (a worker
of Train); elsewhere it has none, and gets an error that says so.
"""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from raybook.ml.checkpoint import Checkpoint


class RunContext:
    """Facts about the running trial or worker, with the getters of Ray's context objects."""

    def __init__(
        self,
        *,
        experiment_name: str,
        trial_id: str,
        trial_name: str,
        trial_dir: str,
        trial_resources: Mapping[str, float],
        storage_path: str,
        world_size: int = 1,
        world_rank: int = 0,
    ) -> None:
        self._experiment_name = experiment_name
        self._trial_id = trial_id
        self._trial_name = trial_name
        self._trial_dir = trial_dir
        self._trial_resources = dict(trial_resources)
        self._storage_path = storage_path
        self._world_size = world_size
        self._world_rank = world_rank

    def get_experiment_name(self) -> str:
        """Return the name of the run, which is also its folder's."""
        return self._experiment_name

    def get_trial_id(self) -> str:
        """Return the id of this trial."""
        return self._trial_id

    def get_trial_name(self) -> str:
        """Return the name of this trial."""
        return self._trial_name

    def get_trial_dir(self) -> str:
        """Return the folder of this trial's files."""
        return self._trial_dir

    def get_trial_resources(self) -> dict[str, float]:
        """Return what this trial holds, for instance {'CPU': 1.0}."""
        return dict(self._trial_resources)

    def get_storage_path(self) -> str:
        """Return the folder under which all runs of this storage lie."""
        return self._storage_path

    def get_world_size(self) -> int:
        """Return the number of workers that train together; 1 in a plain trial."""
        return self._world_size

    def get_world_rank(self) -> int:
        """Return this worker's number among them; 0 in a plain trial."""
        return self._world_rank


class Session(Protocol):
    """One running trial or worker, seen from user code."""

    context: RunContext

    def report(self, metrics: Mapping[str, Any], checkpoint: Checkpoint | None) -> None:
        """Hand over metrics and wait for the verdict. May end the calling thread by an exception."""

    def get_checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint to go on from, None at a fresh start."""


# A handle, not state: the value lives in the context of the thread that runs the user's function.
_current: contextvars.ContextVar[Session] = contextvars.ContextVar("raybook_session")


# The same for a whole process, in a list because threads share it and contexts do not.
_of_process: list[Any] = []


def enter_session(session: Session) -> None:
    """Make session the current one of the calling thread."""
    _current.set(session)


def enter_process_session(session: Any) -> None:
    """Make session the current one of all threads of this process, but those that have entered another."""
    _of_process[:] = [session]


@contextmanager
def session_for_block(session: Any) -> Iterator[None]:
    """Make session the current one for the time of a `with` block, in all threads."""
    before = list(_of_process)
    token = _current.set(session)
    _of_process[:] = [session]
    try:
        yield
    finally:
        _of_process[:] = before
        _current.reset(token)


def current_session(caller: str) -> Session:
    """Return the current session. caller: the public name, for the message. Raises RuntimeError outside of one."""
    session = _current.get(None)
    if session is None and _of_process:
        return _of_process[0]
    if session is None:
        raise RuntimeError(
            f"{caller}() was called outside of a trial. Call it in the function given to Tuner(...).fit(), on the "
            "thread that runs that function; nothing was reported."
        )
    return session
