"""Sweep observers: what wants to hear of a sweep's progress without a say in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.tune.core.trial_table import Trial, TrialTable


class SweepObserver:
    """Base with every hook empty. Hooks run on the controller's thread, between events: they must be quick."""

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        """A trial came into being or changed state."""

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        """A trial reported; the table has it already."""

    def on_checkpoint(self, trial: Trial, name: str, now_ms: int) -> None:
        """A trial has saved a checkpoint, which lies in its folder under name."""

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        """One round of the controller is over."""

    def on_cut_off(self, table: TrialTable, now_ms: int) -> None:
        """The sweep is about to be ended by an interrupt or an error; its live trials are not ended yet."""

    def on_start(self, table: TrialTable, now_ms: int) -> None:
        """The sweep begins."""

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        """The sweep is over; nothing changes after this."""
