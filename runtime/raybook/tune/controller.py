"""Tune controller: the loop that turns suggestions into trials and results into verdicts.

Decides nothing by itself: searcher, scheduler and stopper do, the table knows what is legal, the executor acts. The
controller keeps them in step. It does not know actors, panels or files, and takes its clock as an argument, so a whole
sweep runs in virtual time.
Invariants: an event of an attempt that is over is dropped; every suggested trial is completed at the searcher exactly
once; at most one generated trial waits for room, so that a searcher proposes with all results known; when `run` returns
or raises, no trial is live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from raybook.ml.core.metrics import flatten, has_metric
from raybook.tune.core import trial_table as states
from raybook.tune.core.automatic_metrics import user_metrics
from raybook.tune.core.orders import plain_config
from raybook.tune.core.resource_request import as_request
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.searcher import Searcher
from raybook.tune.core.stopper import Stopper
from raybook.tune.core.trial_events import (
    COMPLETE,
    CONTINUE,
    PAUSE,
    SAVE,
    STOP,
    VERDICTS,
    YIELD,
    TrialEvent,
    TrialFailed,
    TrialFinished,
    TrialReleased,
    TrialReported,
    TrialSaved,
    TrialStarted,
)
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.error import TuneError
from raybook.tune.executor import TrialExecutor, TrialLaunch
from raybook.tune.observer import SweepObserver
from raybook.tune.steering import Steering, TrialRequest
from raybook.tune.sweep_settings import SweepSettings, TrialFiles
from raybook.tune.sweep_view import SweepView
from raybook.tune.trial_source import TrialSource, varying_part

# The longest wait for an event: bounds how late an interrupt or a time budget is noticed.
POLL_MS = 250


class TuneController:
    """One sweep, from the first suggestion to the last trial's end."""

    def __init__(
        self,
        settings: SweepSettings,
        searcher: Searcher,
        scheduler: TrialScheduler,
        stopper: Stopper,
        executor: TrialExecutor,
        files: TrialFiles,
        now_ms: Callable[[], int],
        observers: Sequence[SweepObserver] = (),
    ) -> None:
        self.table = TrialTable()
        self._settings = settings
        self._searcher = searcher
        self._scheduler = scheduler
        self._stopper = stopper
        self._executor = executor
        self._files = files
        self.now_ms = now_ms
        self._observers = tuple(observers)
        self._deadline_ms: int | None = None
        self._steering = Steering(self, scheduler)
        self._view = SweepView(self.table, self._steering, executor.has_room, scheduler, searcher)
        self._source = TrialSource(
            settings, self.table, searcher, scheduler, self._view, files, executor.check_feasible
        )
        self._halt_reason: str | None = None
        self._stop_request: str | None = None
        self._is_cut_off = False
        self._fatal: BaseException | None = None

    @property
    def halt_reason(self) -> str | None:
        """Why the sweep was ended before its trials were, or None."""
        return self._halt_reason

    def request_stop(self, reason: str) -> None:
        """Ask for the sweep's end at its next round. Safe to call from a signal handler: it sets one field."""
        self._stop_request = reason

    def interrupt(self, reason: str) -> None:
        """Like request_stop, but what is live then counts as unfinished, and can be resumed."""
        self._is_cut_off = True
        self._stop_request = reason

    def knows(self, trial_id: str) -> bool:
        """Ask whether this sweep has a trial of this id. Safe from any thread."""
        return trial_id in self.table

    def take_over(
        self,
        trials: Sequence[Trial],
        source_state: Mapping[str, Any] | None,
        is_new_scheduler: bool = False,
        is_new_searcher: bool = False,
    ) -> None:
        """Go on with the trials of an earlier run. Call before `run`. is_new_…: the old one could not be kept."""
        now = self.now_ms()
        for trial in trials:
            self.table.take_over(trial, now)
            if is_new_scheduler:
                self._scheduler.on_trial_add(self._view, trial)
            if is_new_searcher:
                self._searcher.suggest(trial.trial_id)  # What a new one would suggest first has been tried.
        for trial in trials:
            if not trial.is_terminal:
                self._executor.check_feasible(trial.request)
            self._changed(trial, now)
        self._source.restore(source_state or {})

    def source_state(self) -> dict[str, Any]:
        """Return what an earlier run's `take_over` wants beside its trials."""
        return self._source.state()

    def request(self, request: TrialRequest) -> None:
        """Ask for something to be done with a trial at the next round. Safe from any thread."""
        self._steering.submit(request)

    def run(self) -> None:
        """Run the sweep to its end. Raises what a searcher, a scheduler or fail_fast="raise" raises."""
        if self._settings.time_budget_ms is not None:
            self._deadline_ms = self.now_ms() + self._settings.time_budget_ms
        for observer in self._observers:
            observer.on_start(self.table, self.now_ms())
        try:
            while self.step():
                pass
        except BaseException:
            self._cut_off()
            raise
        finally:
            # Also after an error: finished trials are kept, live ones are ended and say so.
            self._halt(self._halt_reason or "the sweep ended early")
            self._executor.shutdown()
            now = self.now_ms()
            for observer in self._observers:
                observer.on_end(self.table, now)
        if self._fatal is not None:
            raise self._fatal

    def step(self) -> bool:
        """Do one round: launch what fits, wait for events, answer them. Returns False once all is over."""
        self._steering.serve()
        self._enforce_limits()
        if self._halt_reason is None:
            self._launch_what_fits()
        if self._is_over():
            return False
        for event in self._executor.events(self._wait_ms()):
            self._handle(event)
        now = self.now_ms()
        for observer in self._observers:
            observer.on_tick(self.table, now)
        return True

    # Launching.

    def _launch_what_fits(self) -> None:
        limit = self._settings.max_concurrent_trials
        while limit is None or self.table.count(*states.LIVE) < limit:
            trial = self._next_trial()
            if trial is None or not self._executor.has_room(trial.request):
                return
            self._launch(trial)

    def _next_trial(self) -> Trial | None:
        if self.table.count(states.PENDING) == 0 and self._may_have_room():
            fresh = self._source.next_trial(self.now_ms())
            self._steering.obey()
            if fresh is not None:
                self._changed(fresh, self.now_ms())
        chosen = self._choose()
        if chosen is not None or self._executor.is_busy() or self._steering.has_held():
            return chosen
        waiting = self.table.count(states.PENDING, states.PAUSED)
        if not waiting and self._source.is_exhausted:
            return None
        self._scheduler.on_stall()
        self._steering.obey()
        chosen = self._choose()
        waiting = self.table.count(states.PENDING, states.PAUSED)
        if chosen is None and (waiting or not self._source.is_exhausted):
            stuck = f"{waiting} trials wait" if waiting else "no trial is left"
            raise TuneError(
                f"The sweep cannot go on: nothing runs, {stuck}, and neither {type(self._searcher).__name__} nor "
                f"{type(self._scheduler).__name__} starts one. Finished trials are kept."
            )
        return chosen

    def _choose(self) -> Trial | None:
        waiting = [*self.table.in_state(states.PENDING), *self.table.in_state(states.PAUSED)]
        able = [trial for trial in waiting if self._steering.may_launch(trial.trial_id)]
        chosen = self._view.choice_among(able)
        self._steering.obey()
        return chosen

    def _may_have_room(self) -> bool:
        """Ask whether a new trial would start at once, judged by the size of the last one (its own is not known yet).

        A searcher that is asked too early proposes without the results that come in meanwhile.
        """
        return (
            self._source.last_request is None
            or not self._executor.is_busy()
            or self._executor.has_room(self._source.last_request)
        )

    def _launch(self, trial: Trial) -> None:
        now = self.now_ms()
        self.table.apply(trial.trial_id, "launch", now)
        latest = trial.checkpoints.latest()
        reached = latest.metrics if latest is not None else {}
        keep = self._settings.checkpoint_config
        self._executor.launch(
            TrialLaunch(
                trial_id=trial.trial_id,
                attempt=trial.attempt,
                name=trial.name,
                experiment_name=self._settings.experiment_name,
                config=trial.config,
                resources=trial.resources,
                request=trial.request,
                folder=trial.folder,
                storage_path=self._settings.storage_path,
                checkpoint=self._files.checkpoint_path(trial, latest.name) if latest is not None else None,
                next_checkpoint=trial.next_checkpoint,
                iteration=int(reached.get("training_iteration", 0)),
                time_total_s=float(reached.get("time_total_s", 0.0)),
                checkpoint_frequency=keep.checkpoint_frequency,
                checkpoint_at_end=keep.checkpoint_at_end,
                log_files=self._settings.log_files,
                changes_folder=self._settings.changes_folder,
                storage=getattr(trial, "storage", None),
            )
        )
        self._changed(trial, now)

    # Events.

    def _handle(self, event: TrialEvent) -> None:
        trial = self.table.get(event.trial_id)
        if event.attempt != trial.attempt:
            return
        if isinstance(event, TrialReleased):
            self._on_released(trial, event)
        elif not trial.is_live:
            return  # It was ended while the event was on its way.
        elif isinstance(event, TrialStarted):
            trial.placement = dict(event.placement)
            self._changed(self.table.apply(trial.trial_id, "start", self.now_ms()), self.now_ms())
        elif isinstance(event, TrialReported):
            self._on_reported(trial, event)
        elif isinstance(event, TrialSaved):
            self._register_checkpoint(trial, event.checkpoint)
            self._executor.answer(trial.trial_id, CONTINUE)
        elif isinstance(event, TrialFinished):
            self._on_finished(trial, event)
        elif isinstance(event, TrialFailed):
            self._on_failed(trial, event)

    def _on_reported(self, trial: Trial, event: TrialReported) -> None:
        now = self.now_ms()
        result = {**event.metrics, "config": trial.config}
        if trial.reports == 0:
            self._check_metric(trial, result)
        self.table.record_result(trial.trial_id, result, self._settings.metric, now)
        self._register_checkpoint(trial, event.checkpoint)
        verdict = self._judge(trial, result)
        if verdict == SAVE and event.checkpoint is not None:
            verdict = CONTINUE
        trial.last_result["done"] = verdict in (STOP, COMPLETE)  # So that the trial's files say it too.
        for observer in self._observers:
            observer.on_result(trial, trial.last_result, now)
        if verdict in (PAUSE, YIELD):
            self._changed(self.table.apply(trial.trial_id, "pause", now), now)
        elif verdict in (STOP, COMPLETE):
            self._end_well(trial, "stop" if verdict == STOP else "complete", type(self._scheduler).__name__)
        self._executor.answer(trial.trial_id, verdict)
        self._steering.obey()

    def _judge(self, trial: Trial, result: dict[str, Any]) -> str:
        is_done = self._stopper(trial.trial_id, result) or result.get("done") is True
        if self._stopper.stop_all():
            self.request_stop("the stopper ended the sweep")
        if is_done:
            return COMPLETE
        self._scheduler.on_cluster(self._executor.total_resources())
        verdict = self._view.verdict_on(trial, result)
        if verdict not in VERDICTS:
            raise TuneError(f"{type(self._scheduler).__name__} answered {verdict!r}; it must be one of {VERDICTS}.")
        if verdict in (CONTINUE, SAVE, PAUSE, YIELD) and self._source.is_suggested(trial):
            self._searcher.on_trial_result(trial.trial_id, result)
        asked = self._steering.verdict_for(trial.trial_id)
        return asked if asked is not None and verdict in (CONTINUE, SAVE) else verdict

    def _on_finished(self, trial: Trial, event: TrialFinished) -> None:
        self._register_checkpoint(trial, event.checkpoint)
        metric = self._settings.metric
        if trial.reports == 0 and metric is not None:
            text = (
                f"The trainable of trial {trial.trial_id} returned without a report, and TuneConfig(metric={metric!r}) "
                f"needs one. Call tune.report({{{metric!r}: value}}) in it, or return that dict."
            )
            self._fail(trial, TuneError(text), text)
            return
        self._end_well(trial, "complete", "the function returned")

    def _on_failed(self, trial: Trial, event: TrialFailed) -> None:
        trial.failures += 1
        allowed = self._settings.failure_config.max_failures
        now = self.now_ms()
        if allowed == -1 or trial.failures <= allowed:
            note = f"failure {trial.failures}: {_one_line(event.error)}"
            self._changed(self.table.apply(trial.trial_id, "retry", now, note), now)
            return
        self._fail(trial, event.error, event.details)

    def _on_released(self, trial: Trial, event: TrialReleased) -> None:
        self._register_checkpoint(trial, event.checkpoint)
        now = self.now_ms()
        if trial.state == states.PAUSING:
            self.table.apply(trial.trial_id, "release", now)
            self._changed(trial, now)
            self._steering.obey()
        elif event.checkpoint is not None:
            self._changed(trial, now)

    # Endings.

    def _end_well(self, trial: Trial, edge: str, note: str) -> None:
        now = self.now_ms()
        self.table.apply(trial.trial_id, "stop" if edge == "remove" else edge, now, note)
        if trial.reports:
            trial.last_result["done"] = True
        if edge == "remove":
            self._scheduler.on_trial_remove(self._view, trial)
        else:
            self._scheduler.on_trial_complete(self._view, trial, trial.last_result)
        self._tell_searcher(trial)
        self._changed(trial, now)
        self._steering.obey()

    def _fail(self, trial: Trial, error: BaseException, details: str) -> None:
        now = self.now_ms()
        trial.error, trial.error_details = error, details
        self.table.apply(trial.trial_id, "fail", now, _one_line(error))
        self._scheduler.on_trial_error(self._view, trial)
        self._tell_searcher(trial, error=True)
        self._changed(trial, now)
        self._steering.obey()
        policy = self._settings.failure_config.fail_fast
        if policy:
            self._fatal = error if policy == "raise" else None
            self._halt(f"fail_fast: trial {trial.trial_id} failed")

    def _cut_off(self) -> None:
        if self._halt_reason is None:
            for observer in self._observers:
                observer.on_cut_off(self.table, self.now_ms())

    def _halt(self, reason: str) -> None:
        """End every trial that has not ended. The first reason stays."""
        open_trials = [trial for trial in self.table if not trial.is_terminal]
        if open_trials or not self._source.is_exhausted:
            self._halt_reason = self._halt_reason or reason
        for trial in open_trials:
            if trial.is_live:
                self._executor.kill(trial.trial_id)
            now = self.now_ms()
            self.table.apply(trial.trial_id, "stop", now, reason)
            self._tell_searcher(trial)
            self._changed(trial, now)

    def _enforce_limits(self) -> None:
        if self._stop_request is not None:
            if self._is_cut_off:
                self._cut_off()
            self._halt(self._stop_request)
        elif self._deadline_ms is not None and self.now_ms() >= self._deadline_ms:
            self._halt(f"the time budget of {self._settings.time_budget_ms / 1000:g} s is used up")  # type: ignore[operator]

    def _is_over(self) -> bool:
        if self._executor.is_busy():
            return False
        if self._halt_reason is not None:
            return True
        return self._source.is_exhausted and self.table.is_settled()

    def _wait_ms(self) -> int:
        if self._deadline_ms is None:
            return POLL_MS
        return max(0, min(POLL_MS, self._deadline_ms - self.now_ms()))

    # What steering asks for (`steering.SteeredSweep`).

    def end_waiting(self, trial: Trial, note: str) -> None:
        self._end_well(trial, "remove", note)

    def end_live(self, trial: Trial, note: str) -> None:
        self._executor.kill(trial.trial_id)
        self._end_well(trial, "stop", note)

    def copy_checkpoint(self, source: Trial, target: Trial) -> None:
        latest = source.checkpoints.latest()
        assert latest is not None
        name = f"checkpoint_{target.next_checkpoint:06d}"
        self._files.copy_checkpoint(source, latest.name, target, name)
        target.next_checkpoint += 1
        for surplus in target.checkpoints.register(name, latest.metrics):
            self._files.delete_checkpoint(target, surplus)

    def reconfigure(self, trial: Trial, config: dict[str, Any]) -> None:
        trial.config = plain_config(config)
        trial.varying = varying_part(self._settings.param_space, trial.config) | {
            name: value for name, value in flatten(trial.config).items() if name in trial.varying
        }
        self._changed(trial, self.now_ms())

    def resize(self, trial: Trial, request: Any) -> None:
        trial.request = as_request(request)
        trial.resources = trial.request.required_resources

    def write_file(self, name: str, text: str) -> None:
        self._files.write_file(name, text)

    def clone(self, trial: Trial, changes: Mapping[str, Any]) -> None:
        self._changed(self._source.clone(trial, changes, self.now_ms()), self.now_ms())

    # Small parts.

    def _register_checkpoint(self, trial: Trial, name: str | None) -> None:
        if name is None:
            return
        trial.next_checkpoint += 1
        for surplus in trial.checkpoints.register(name, trial.last_result):
            self._files.delete_checkpoint(trial, surplus)
        self._scheduler.on_checkpoint(trial.trial_id)
        for observer in self._observers:
            observer.on_checkpoint(trial, name, self.now_ms())

    def _check_metric(self, trial: Trial, result: Mapping[str, Any]) -> None:
        wanted = {self._settings.metric, self._scheduler.metric, self._searcher_metric()} - {None}
        wanted |= set(getattr(self._stopper, "metrics", ())) - {"done"}
        missing = sorted(name for name in wanted if not has_metric(result, name))  # type: ignore[arg-type, type-var]
        if not missing:
            return
        reported = sorted(flatten(user_metrics(result)))
        raise TuneError(
            f"Trial {trial.trial_id} reported no metric {missing[0]!r}, by which this sweep is tuned. It reported: "
            f"{', '.join(reported) or 'nothing'}. Use one of these in TuneConfig(metric=...), or report "
            f"{missing[0]!r} (nan until it is known). Running trials were ended, finished ones are kept."
        )

    def _searcher_metric(self) -> str | None:
        metric = self._searcher.metric
        return metric if isinstance(metric, str) else None

    def _tell_searcher(self, trial: Trial, error: bool = False) -> None:
        self._steering.forget(trial)
        self._source.complete(trial, error)

    def _changed(self, trial: Trial, now_ms: int) -> None:
        self._scheduler.on_trial_state(trial.trial_id, trial.state)
        for observer in self._observers:
            observer.on_trial_changed(trial, now_ms)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
