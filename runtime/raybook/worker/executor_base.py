"""Executor base: what the I/O thread asks of whatever runs tasks in this process. A driver has none."""

from __future__ import annotations

from typing import Any

from raybook.worker.peers import Peer


class Executor:
    """What the I/O thread needs of a worker's executor; a driver has none. All of it runs on the I/O thread."""

    current: Any = None
    """Spec of the task or call that runs on the main thread."""
    actor: Any = None
    """The actor executor, once this worker is an actor."""

    def on_message(self, peer: Peer, message: Any) -> None:
        """A push, cancel or steal from an owner."""

    def on_raylet(self, message: Any) -> None:
        """StartActor, RevokeLease, LeaseProbe, ExitWorker."""

    def on_peer_gone(self, client_id: bytes) -> None:
        """A caller is gone."""

    def on_idle(self) -> None:
        """Called before each sleep: replies that nobody flushed go out."""

    def is_busy(self) -> bool:
        """Whether work is queued or running."""
        return False

    def is_at_rest(self) -> bool:
        """Whether no code of users runs here, or can run before a message comes."""
        return False
