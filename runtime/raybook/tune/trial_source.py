"""Trial source: turns a searcher's suggestions, and a user's clones, into trials of the table.

Decides when the search is over, and tells the scheduler as soon as that is known: some wait for it. Does not launch.
Invariants: every suggested trial is completed at the searcher exactly once, and it never hears of a cloned one; a trial
that could never fit is an error before it is in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.ml.core.metrics import flatten
from raybook.tune.core.resource_request import ResourceRequest, as_request
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import FINISHED, Searcher
from raybook.tune.core.trial_config import merged, with_flat_values
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.core.variants import varying_leaves
from raybook.tune.error import TuneError
from raybook.tune.sweep_settings import SweepSettings, TrialFiles
from raybook.tune.sweep_view import SweepView
from raybook.tune.trial import Trial as SweepTrial


class TrialSource:
    """Where the trials of one sweep come from. last_request: the size of the last one, to guess the next one's."""

    def __init__(
        self,
        settings: SweepSettings,
        table: TrialTable,
        searcher: Searcher,
        scheduler: TrialScheduler,
        view: SweepView,
        files: TrialFiles,
        check_feasible: Callable[[ResourceRequest], None],
    ) -> None:
        self.is_exhausted = False
        self.last_request: ResourceRequest | None = None
        self._settings = settings
        self._table = table
        self._searcher = searcher
        self._scheduler = scheduler
        self._view = view
        self._files = files
        self._check_feasible = check_feasible
        self._unsuggested: set[str] = set()

    def next_trial(self, now_ms: int) -> Trial | None:
        """Ask the searcher once; return the new trial, None if there is none now or ever."""
        self._note_whether_exhausted()
        if self.is_exhausted:
            return None
        trial_id = self._next_id()
        config = self._searcher.suggest(trial_id)
        if config == FINISHED:
            self._end_search()
            return None
        if config is None:
            return None
        if not isinstance(config, Mapping):
            raise TuneError(f"{type(self._searcher).__name__} suggested {config!r}, which is no configuration dict.")
        trial = self._add(trial_id, merged(self._settings.constants, config), now_ms)
        self._note_whether_exhausted()
        return trial

    def clone(self, trial: Trial, changes: Mapping[str, Any], now_ms: int) -> Trial:
        """Add a trial with the configuration of another one, changed."""
        trial_id = self._next_id()
        self._unsuggested.add(trial_id)
        return self._add(trial_id, with_flat_values(trial.config, changes), now_ms)

    def state(self) -> dict[str, Any]:
        """Return what must be known to go on in a later run."""
        return {"is_exhausted": self.is_exhausted, "unsuggested": sorted(self._unsuggested)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what state returned."""
        self._unsuggested = set(state.get("unsuggested", ()))
        # The scheduler, restored as well, has been told already; a new one has not.
        if state.get("is_exhausted"):
            self._end_search()

    def is_suggested(self, trial: Trial) -> bool:
        """Ask whether the searcher knows the trial."""
        return trial.trial_id not in self._unsuggested

    def complete(self, trial: Trial, error: bool) -> None:
        """Tell the searcher that a trial is over."""
        if not self.is_suggested(trial):
            return
        if error:
            self._searcher.on_trial_complete(trial.trial_id, None, error=True)
        else:
            self._searcher.on_trial_complete(trial.trial_id, trial.last_result or None)

    def make_trial(self, trial_id: str, index: int, config: dict[str, Any]) -> Trial:
        """Return a trial that is in no table yet. Raises TuneError if it could never fit."""
        request = as_request(self._settings.resources(config))
        self._check_feasible(request)
        self.last_request = request
        keep = self._settings.checkpoint_config
        return SweepTrial(
            trial_id=trial_id,
            index=index,
            name=f"{self._settings.trainable_name}_{trial_id}",
            config=config,
            resources=request.required_resources,
            request=request,
            checkpoints=CheckpointLedger(
                keep.num_to_keep, keep.checkpoint_score_attribute, keep.checkpoint_score_order
            ),
            varying=varying_part(self._settings.param_space, config),
            trainable_name=self._settings.trainable_name,
        )

    def _add(self, trial_id: str, config: dict[str, Any], now_ms: int) -> Trial:
        trial = self.make_trial(trial_id, len(self._table), config)
        self._scheduler.on_trial_add(self._view, trial)
        if trial.config is not config:
            trial = self.make_trial(trial_id, trial.index, trial.config)
        self._scheduler.on_trial_resources(trial_id, trial.request)
        if self._settings.trial_name is not None:
            trial.name = str(self._settings.trial_name(trial))
        self._table.add(trial, now_ms)
        trial.folder = self._files.create(trial)
        return trial

    def _next_id(self) -> str:
        return f"{self._settings.trial_id_prefix}_{len(self._table):05d}"

    def _note_whether_exhausted(self) -> None:
        total = self._searcher.total_samples if self._searcher.counts_trials else self._settings.num_samples
        if total is not None and len(self._table) - len(self._unsuggested) >= total:
            self._end_search()

    def _end_search(self) -> None:
        if not self.is_exhausted:
            self.is_exhausted = True
            self._scheduler.on_search_end()


def varying_part(space: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return what tells this trial from others; all of config where the space has another shape (define-by-run)."""
    try:
        return varying_leaves(space, config) or flatten(config)
    except (KeyError, IndexError, TypeError):
        return flatten(config)
