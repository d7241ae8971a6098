"""Hub: what one kernel has on its pages, and the one daemon thread ("raybook-ui") that feeds it.

    engine's thread ─▶ Feed ─▶ note_change ─▶ raybook-ui: view ─▶ each panel sends what changed, at 4 Hz at most

The thread starts with the first thing to feed and sleeps on an event when nothing changes. An interrupt goes to the
main thread only, so panels survive it. Invariants: panels are touched under ``_tick_lock`` only; a closing kernel's
failed sends are dropped, every other error ends the thread with a traceback (and the next panel starts a new one).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from raybook.observe import Feed, View
from raybook_widgets.base import Panel
from raybook_widgets.channel import Channel, ParentHeader
from raybook_widgets.coalescer import Coalescer
from raybook_widgets.preferences import Preferences, read_preferences
from raybook_widgets.render import SECTIONS
from raybook_widgets.subject import Command

HUB_ATTRIBUTE = "raybook_hub"
POLL_INTERVAL_S = 0.25
"""How often a hub without a feed looks for a cluster while a cell runs (``raybook.init()`` may be its first line)."""
SWEEP_END_TIMEOUT_S = 0.8
"""Tune tells its last facts within a quarter of a second, the engine passes them on within another."""
FINISHED_STATES = frozenset(
    {"TERMINATED", "FINISHED", "COMPLETED", "DONE", "ERROR", "FAILED", "STOPPED", "INTERRUPTED"}
)
SHOWN_UNASKED = frozenset({"experiment", "trial", "progress"})
"""Kinds of facts that may bring a panel nobody asked for."""
PANELS_LIVE_MAX = 12
"""Older panels become final when more are shown: a cell run again and again must not multiply messages."""


class Hub:
    """Panels, their feed and their thread. Methods may be called from any thread unless their text says otherwise."""

    def __init__(self, shell: InteractiveShell, preferences: Preferences) -> None:
        self.channel = Channel(shell)
        self.preferences = preferences
        self.feed: Feed | None = None
        self.on_stop: Callable[[], None] | None = None
        """What the stop button does; set by whoever can stop clusters."""
        self.find_feed: Callable[[], None] | None = None
        """Called by the thread while a cell runs and there is no feed: attach one if there is a cluster."""
        self.on_tick: Callable[[bool], None] | None = None
        """Called by the thread at the end of every tick, for output that is no panel; with True for the last time."""
        self.cluster_id = ""
        """The registry's name for the cluster that feeds the panels; "" while there is none."""
        self.commands: dict[str, Command] = {}
        """What buttons under cells can do through this kernel; set by whoever can do it."""
        self._panels: list[Panel] = []
        self._actions: deque[Callable[[], None]] = deque()
        self._tick_lock = threading.RLock()
        self._coalescer = Coalescer(preferences.period_ms)
        self._wake = threading.Event()
        self._ending = False
        self._thread: threading.Thread | None = None
        self._cell: ParentHeader | None = None
        self._experiments_seen: set[str] = set()
        self._experiments_shown: frozenset[str] = frozenset()
        """Those with a panel of their own: the cluster panel shows only their sums."""
        self._looked_at = 0
        """The feed's version at the last tick."""
        self._subjects: frozenset[tuple[str, str]] = frozenset()
        """Sweeps and bars that there were when a panel was last thought of."""
        self._bars_seen: set[str] = set()
        """Progress bars of tasks that have been shown, or began before anybody looked."""

    # The feed.

    def attach(self, feed: Feed, cluster_id: str = "") -> None:
        """Feed the panels from this cluster from now on. cluster_id: of the registry, where pages find it."""
        with self._tick_lock:
            self.feed = feed
            self.cluster_id = cluster_id
            self._looked_at = 0
            self._subjects = frozenset()
            self._experiments_shown = frozenset()
            view = feed.view()
            self._experiments_seen = {experiment.experiment_id for experiment in view.experiments}
            self._bars_seen = {bar.progress_id for bar in view.progress}
        feed.listen(lambda facts, reset: self.note_change())
        self._start_thread()
        self.note_change()

    def detach(self, state: str = "STOPPED") -> None:
        """The cluster has ended (or we leave it): every panel shows its last state as HTML and is final."""
        with self._tick_lock:
            feed = self.feed
            if feed is None:
                return
            feed.end(state)
            self._run_on_tick(is_last=True)
            self.feed = None
            self.cluster_id = ""
            view = feed.view()
            for panel in self._panels:
                panel.finish(self._view_for(panel, view))
            self._panels.clear()

    def view(self) -> View:
        """What is known of the cluster now; an empty view without one."""
        feed = self.feed
        return feed.view() if feed is not None else View(cluster_state="STOPPED")

    # Panels.

    def show(self, sections: tuple[str, ...] = SECTIONS) -> Panel:
        """Show a panel under the running cell. Main thread."""
        return self._show(sections, None, None)

    def note_change(self) -> None:
        """There is something new to show."""
        self._coalescer.note_change()
        self._wake.set()

    def enqueue(self, action: Callable[[], None]) -> None:
        """Let the thread do something: for buttons, whose handlers must return at once."""
        self._actions.append(action)
        self._start_thread()
        self._wake.set()

    def cell_started(self, name: str = "") -> None:
        """A cell of the user's begins; name: "In[3]". Main thread."""
        self.channel.note_cell(name)
        self._cell = self.channel.parent()
        self._wake.set()

    def cell_ended(self) -> None:
        """The cell has ended; the last changes it made are shown by the next tick. A sweep that it ran is waited for, a
        moment at most, because front ends without a person (nbconvert, nbclient) listen to a cell only until it ends.
        Main thread."""
        cell, self._cell = self._cell, None
        feed = self.feed
        sweeps = {p.experiment_id for p in self._panels if p.experiment_id and cell and p.is_under(cell)}
        if feed is not None and sweeps:
            feed.wait_until(lambda view: sweeps <= _ended_experiments(view), SWEEP_END_TIMEOUT_S)
            self.tick()
        elif self._panels:
            self.note_change()

    def close(self) -> None:
        """End the thread; panels stay as they are. Idempotent."""
        self._ending = True
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2.0)

    @property
    def panels(self) -> tuple[Panel, ...]:
        """The live ones."""
        return tuple(self._panels)

    def _show(self, sections: tuple[str, ...], parent: ParentHeader | None, experiment_id: str | None) -> Panel:
        stop = self.on_stop if "cluster" in sections else None
        panel = Panel(
            sections,
            self.channel,
            self.preferences,
            stop,
            experiment_id,
            cluster_id=self.cluster_id,
            commands=self._button_commands(),
            hand_on=self.enqueue,
        )
        with self._tick_lock:
            view = self.view()
            panel.show(self._view_for(panel, view), parent)
            self._panels.append(panel)
            while len(self._panels) > PANELS_LIVE_MAX:
                oldest = self._panels.pop(0)
                oldest.finish(self._view_for(oldest, view))
        self._start_thread()
        self.note_change()
        return panel

    def _button_commands(self) -> dict[str, Command]:
        on_stop = self.on_stop
        if on_stop is None:
            return dict(self.commands)

        def stop(body: dict[str, Any]) -> str:
            on_stop()
            return "Stopping the cluster."

        return {**self.commands, "stop": stop}

    # The thread.

    def _start_thread(self) -> None:
        if self._ending or (self._thread is not None and self._thread.is_alive()):
            return
        self._thread = threading.Thread(target=self._run, name="raybook-ui", daemon=True)
        self._thread.start()

    def start_watching(self) -> None:
        """Start the thread even without a panel, so that ``find_feed`` is asked while cells run."""
        self._start_thread()

    def _run(self) -> None:
        while not self._ending:
            while self._actions:
                self._actions.popleft()()
            wait_ms = self._coalescer.until_tick_ms(time.monotonic() * 1_000)
            if wait_ms is None:
                self._wait_for_change()
            elif wait_ms > 0:
                time.sleep(wait_ms / 1_000)
            else:
                self._tick_unless_closing()

    def _wait_for_change(self) -> None:
        is_looking = self.feed is None and self._cell is not None and self.find_feed is not None
        is_woken = self._wake.wait(POLL_INTERVAL_S if is_looking else None)
        self._wake.clear()
        if not is_woken and self.find_feed is not None:
            self.find_feed()

    def _tick_unless_closing(self) -> None:
        try:
            self.tick()
        except (OSError, RuntimeError, AttributeError):
            # Sockets and event loops go first when a kernel ends; until then these are real errors.
            if not self.channel.is_closing():
                raise
            self._ending = True

    def tick(self) -> int:
        """Send what changed. Returns the number of messages. The thread's work; tests call it by hand."""
        with self._tick_lock:
            self._coalescer.begin_tick(time.monotonic() * 1_000)
            if not (self._panels or self._may_show_unasked()):
                self._run_on_tick()
                return 0
            view = self.view()
            self._show_new_experiments(view)
            self._show_new_progress(view)
            busy = self._cell is not None
            sent = 0
            for panel in self._panels:
                panel.note_busy(busy)
                sent += panel.update(self._view_for(panel, view))
            self._finish_ended_experiments(view)
            if view.moving:
                self._coalescer.note_change()
            self._run_on_tick()
        return sent

    def _may_show_unasked(self) -> bool:
        """Whether there is news that may bring a panel. Without one, nothing is worth a view."""
        feed = self.feed
        if feed is None or not self.preferences.auto_panels:
            return False
        since, self._looked_at = self._looked_at, feed.version
        if not feed.changed_since(since) & SHOWN_UNASKED:
            return False
        # A sweep whose trials report is no news: only another sweep or bar is.
        before, self._subjects = self._subjects, feed.subjects()
        return not self._subjects <= before

    def _run_on_tick(self, is_last: bool = False) -> None:
        if self.on_tick is not None:
            self.on_tick(is_last)

    def _show_new_experiments(self, view: View) -> None:
        """A sweep that begins while a cell runs gets a Tune panel under that cell, unasked."""
        cell = self._cell
        for experiment in view.experiments:
            if experiment.experiment_id in self._experiments_seen or not experiment.trials:
                continue
            self._experiments_seen.add(experiment.experiment_id)
            if cell and self.preferences.auto_panels and not self._tune_is_shown_under(cell):
                self._show(("tune",), cell, experiment.experiment_id)
                self._experiments_shown |= {experiment.experiment_id}

    def _show_new_progress(self, view: View) -> None:
        """So does a task's progress bar: a panel of tasks, one for each cell."""
        new = {bar.progress_id for bar in view.progress if not bar.over} - self._bars_seen
        if not new:
            return
        self._bars_seen |= new
        cell = self._cell
        if (
            cell
            and self.preferences.auto_panels
            and not any("tasks" in panel.sections and panel.is_under(cell) for panel in self._panels)
        ):
            self._show(("tasks",), cell, None)

    def _view_for(self, panel: Panel, view: View) -> View:
        return view.without_trials_of(self._experiments_shown) if "cluster" in panel.sections else view

    def _tune_is_shown_under(self, cell: ParentHeader) -> bool:
        return any("tune" in panel.sections and panel.is_under(cell) for panel in self._panels)

    def _finish_ended_experiments(self, view: View) -> None:
        ended = _ended_experiments(view)
        for panel in [panel for panel in self._panels if panel.experiment_id in ended]:
            panel.finish(view)
            self._panels.remove(panel)


def _ended_experiments(view: View) -> set[str]:
    return {e.experiment_id for e in view.experiments if e.state.upper() in FINISHED_STATES}


def hub_of(shell: InteractiveShell) -> Hub:
    """The shell's hub, made at first use. It lives on the shell: no state in a module, one hub a kernel."""
    hub = getattr(shell, HUB_ATTRIBUTE, None)
    if hub is None:
        hub = Hub(shell, read_preferences(os.environ))
        setattr(shell, HUB_ATTRIBUTE, hub)
    return hub


def close_hub(shell: InteractiveShell) -> None:
    """End the shell's hub, if it has one: panels become final, the thread ends."""
    hub = getattr(shell, HUB_ATTRIBUTE, None)
    if hub is not None:
        hub.detach()
        hub.close()
        delattr(shell, HUB_ATTRIBUTE)
