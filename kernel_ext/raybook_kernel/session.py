"""Session: what this kernel holds. The cluster it is connected to, the panels it shows, the cell that runs.

Magics ask it to act; IPython tells it of cells. It lives on the shell (one a kernel, none in a module). Owned clusters
die with the kernel by the runtime's own watch; nothing here keeps them alive or has to run for that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook.api.own_tasks import keep_failed_tasks
from raybook.api.state import list_actors
from raybook.exceptions import RayError
from raybook.observe import ClusterRecord, FactSource, Feed, View, WorkerNote, find_cluster
from raybook.ssh_hosts import HostsFile
from raybook_kernel.button_commands import commands_of
from raybook_kernel.cells import Cells
from raybook_kernel.cluster_access import ClusterAccess
from raybook_kernel.code_versions import CodeVersions
from raybook_kernel.code_watch import CodeWatch
from raybook_kernel.interrupts import Interrupts
from raybook_kernel.kernel_identity import kernel_id_of
from raybook_kernel.output_router import OutputRouter
from raybook_widgets import SECTIONS, Hub, hub_of

SESSION_ATTRIBUTE = "raybook_session"
FAILED_KEPT = 8
"""Tasks that raised are kept with their arguments, for ``%ray_rerun``."""
SETTLE_TIMEOUT_S = 0.6
"""Facts come four times a second: so long may the last ones take before a final picture is drawn."""


class KernelSession:
    """One kernel's connection to at most one cluster at a time."""

    def __init__(self, shell: InteractiveShell, access: ClusterAccess) -> None:
        self.access = access
        self.hub: Hub = hub_of(shell)
        self._router = OutputRouter(self.hub.channel, self._workers, self.hub.note_change)
        self._engine: FactSource | None = None
        self._record: ClusterRecord | None = None
        self._lost: FactSource | None = None
        """The engine of a cluster that died under us. It stays the process's own: a verb should say what happened, not
        start a new cluster unasked."""
        self._following = threading.RLock()
        """The main thread and the panels' thread may find the same new cluster at once."""
        self.hub.on_stop = lambda: self.hub.enqueue(self.end)
        self.hub.find_feed = self.follow
        self.hub.on_tick = self._router.flush
        self._shell = shell
        self.cells = Cells()
        self.code = CodeWatch(CodeVersions(self._cell_of_file), lambda: self.access.engine(), self._cell_name)
        self.hub.commands = commands_of(self.cells)
        self.hub.channel.kernel_id = kernel_id_of(shell)
        self.interrupts = Interrupts(self._say, lambda: self.is_connected)

    @property
    def name(self) -> str:
        """The name of the cluster this kernel is connected to; "" when it is not."""
        return self._record.title if self._record else ""

    @property
    def is_connected(self) -> bool:
        """Whether this kernel is connected to a living cluster now."""
        self.follow()
        engine = self.access.engine()
        return engine is not None and engine is not self._lost

    def view(self) -> View:
        """What is known of the cluster now."""
        return self.hub.view()

    # Acting. Main thread, except stop, which the panels' thread may call for the stop button.

    def start(self, options: dict[str, Any]) -> None:
        """Start a cluster and show it. Errors of ``ClusterAccess.start``."""
        self._leave_lost()
        self.access.start(**options)
        self.follow()
        self.show()

    def start_nodes(
        self, count: int, hosts: HostsFile | None, say: Callable[[str], None], options: dict[str, Any]
    ) -> None:
        """Start a cluster of several nodes and show it. Errors of ``ClusterAccess.start_nodes``."""
        self._leave_lost()
        self.access.start_nodes(count, hosts, say, **options)
        self.follow()
        self.show()

    def connect(self, address: str, session: str = "", token_file: str = "", engine: str | None = None) -> None:
        """Connect to a running cluster and show it; as ``ClusterAccess.connect``."""
        self._leave_lost()
        self.access.connect(address, session, token_file, engine)
        self.follow()
        self.show()

    def show(self, sections: tuple[str, ...] = SECTIONS) -> None:
        """A live panel under the running cell."""
        self.hub.show(sections)

    def stop(self, state: str = "") -> None:
        """End the connection, and the cluster if it is this kernel's; panels keep their last state. state: what they
        call it, when the caller knows better."""
        self.settle()
        self.access.leave()
        with self._following:
            self._forget(state)

    def end(self) -> None:
        """Stop the cluster this kernel is connected to, also one that would live on: the stop button."""
        record = self._record
        self.stop("STOPPED" if record is not None and record.persist else "")
        if record is not None and record.persist:
            self.access.stop_cluster(record)

    def settle(self) -> None:
        """Wait, for a moment at most, until no task waits or runs as far as facts say: they are told four times a
        second, and what is shown now should be what has happened."""
        if self.hub.feed is not None:
            self.hub.feed.wait_until(_is_quiet, SETTLE_TIMEOUT_S)

    def stop_cluster(self, record: ClusterRecord) -> bool:
        """End any cluster of this machine. False when it has not ended in time."""
        if self.is_connected and self._is_mine(record):
            self.stop("STOPPED")
        return self.access.stop_cluster(record)

    def _is_mine(self, record: ClusterRecord) -> bool:
        mine = self.access.record()
        return mine is not None and mine.cluster_id == record.cluster_id

    # Following: code may call raybook.init() and shutdown() as it likes.

    def follow(self) -> None:
        """Feed the panels from whatever this process is connected to now."""
        with self._following:
            engine = self.access.engine()
            if engine is not None and engine is self._engine and self._has_died():
                self._lost = engine
                self._forget("LOST")
            if engine is self._engine or (engine is not None and engine is self._lost):
                return
            self._forget()
            if engine is not None:
                self._attach(engine, self.access.record())

    def _leave_lost(self) -> None:
        """Let go of a cluster that died, so that there can be another."""
        if self._lost is not None and self.access.engine() is self._lost:
            self.access.leave()
        self._lost = None

    def _has_died(self) -> bool:
        """Whether the cluster ended by itself: the registry drops a dead head's record."""
        return self._record is not None and find_cluster(self._record.cluster_id) is None

    def _attach(self, engine: FactSource, record: ClusterRecord | None) -> None:
        self._engine, self._record = engine, record
        is_ours = record is not None and record.owner is not None and record.owner.pid == os.getpid()
        self._router.begin_cluster(is_ours)
        if hasattr(engine, "own_tasks"):
            # A source of facts that is no engine runs no tasks.
            keep_failed_tasks(FAILED_KEPT)
        feed = Feed(engine, self.name or self.access.ray_title(), self._router.take)
        self.hub.attach(feed, record.cluster_id if record is not None else "")

    def _workers(self) -> dict[int, WorkerNote]:
        feed = self.hub.feed
        return feed.workers() if feed is not None else {}

    def _forget(self, state: str = "") -> None:
        """Let go of the cluster. One that lives on in the registry was left, not stopped."""
        record, self._record = self._record, None
        self._engine = None
        lives_on = record is not None and record.persist and find_cluster(record.cluster_id) is not None
        self.hub.detach(state or ("LEFT" if lives_on else "STOPPED"))

    # Cells. IPython's events; they may fire on a subshell's thread, which is nobody's cell.

    def before_cell(self, info: Any = None) -> None:
        """``pre_run_cell``."""
        if threading.current_thread() is threading.main_thread():
            self.cells.begin(self._shell.execution_count, time.time())
            self._router.begin_cell()
            self.hub.cell_started(f"In[{self._shell.execution_count}]")

    def after_cell(self, result: Any = None) -> None:
        """``post_run_cell``."""
        if threading.current_thread() is threading.main_thread():
            cell = self.cells.end(time.time())
            self.follow()
            self.hub.cell_ended()
            if cell is not None:
                self._tell_of_code(cell.name)
            if cell is not None and isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
                self.interrupts.cell_interrupted(cell)

    def _tell_of_code(self, cell: str) -> None:
        """Under the cell that has ended: what of the notebook's code is large, and who runs an older version."""
        if not self.code.has_exports:
            return
        feed = self.hub.feed
        known = feed.fact_tables().rows("actor") if feed is not None else {}
        try:
            lines = self.code.after_cell(self._shell.user_ns, cell, self._actors_now, known)
        except (RuntimeError, ConnectionError, TimeoutError, RayError):
            return  # The cluster is ending; whoever uses it next is told so.
        for line in lines:
            self._say(line)

    def code_report(self) -> list[str]:
        """What workers and actors run that is older than the notebook's, a line each."""
        if not (self.is_connected and self.code.has_exports):
            return []
        return self.code.report(self._shell.user_ns, self._actors_now())

    @staticmethod
    def _actors_now() -> dict[str, dict[str, Any]]:
        return {row["actor_id"]: row for row in list_actors()}

    def _cell_name(self) -> str:
        return f"In[{self._shell.execution_count}]"

    def _cell_of_file(self, filename: str) -> str:
        named = self._shell.compile.format_code_name(filename)
        return named[1] if named else ""

    def _say(self, text: str) -> None:
        """A line under the cell that ran last."""
        self.hub.channel.stream(text + "\n", "stderr", self._router.last_parent())


def _is_quiet(view: View) -> bool:
    """No task waits or runs, as far as facts say."""
    return not (view.tasks_total.pending or view.tasks_total.running)


def session_of(shell: InteractiveShell) -> KernelSession:
    """The shell's session, made at first use."""
    session = getattr(shell, SESSION_ATTRIBUTE, None)
    if session is None:
        session = KernelSession(shell, ClusterAccess(kernel_id_of(shell)))
        setattr(shell, SESSION_ATTRIBUTE, session)
    return session
