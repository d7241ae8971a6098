"""A whole sweep in virtual time: real searcher, scheduler, controller and table; only the trials are scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raybook.testing.fake_trial_executor import FakeTrialExecutor, MemoryTrialFiles, Script, VirtualClock
from raybook.tune.controller import TuneController
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.stopper import make_stopper
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.observer import SweepObserver
from raybook.tune.search.basic_variant import BasicVariantGenerator
from raybook.tune.sweep_settings import SweepSettings


class Recorder(SweepObserver):
    """Notes what observers hear, and checks the table's invariants at every turn."""

    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []
        self.results: list[tuple[str, dict[str, Any]]] = []
        self.ended = 0

    def on_trial_changed(self, trial: Trial, now_ms: int) -> None:
        self.states.append((trial.trial_id, trial.state))

    def on_result(self, trial: Trial, result: Mapping[str, Any], now_ms: int) -> None:
        self.results.append((trial.trial_id, dict(result)))

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        if len(table) < 50:
            table.check_invariants()

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        table.check_invariants()
        self.ended += 1


class VirtualSweep:
    """One sweep of scripts. saves: whether trials save when paused or told to, as class trainables do."""

    def __init__(
        self,
        script: Script,
        space: Mapping[str, Any] | None = None,
        *,
        num_samples: int = 1,
        scheduler: TrialScheduler | None = None,
        searcher: Searcher | None = None,
        stop: Any = None,
        cpus: float = 2.0,
        saves: bool = False,
        **settings: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.executor = FakeTrialExecutor(script, self.clock, {"CPU": cpus}, saves=saves)
        self.files = MemoryTrialFiles()
        self.recorder = Recorder()
        settings = {"metric": "acc", "mode": "max", "trial_id_prefix": "t", **settings}
        searcher = searcher or BasicVariantGenerator(random_state=0)
        searcher.set_search_properties(settings["metric"], settings["mode"], space or {}, num_samples=num_samples)
        scheduler = scheduler or FIFOScheduler()
        scheduler.set_search_properties(settings["metric"], settings["mode"])
        limit = None if num_samples < 0 else num_samples
        self.controller = TuneController(
            SweepSettings("sweep", num_samples=limit, param_space=space or {}, **settings),
            searcher,
            scheduler,
            make_stopper(stop),
            self.executor,
            self.files,
            self.clock.now_ms,
            [self.recorder],
        )
        self.table = self.controller.table

    def run(self) -> VirtualSweep:
        """Run to the end."""
        self.controller.run()
        return self

    def states(self) -> list[str]:
        """Return the states of all trials, in the order they were made."""
        return [trial.state for trial in self.table]
