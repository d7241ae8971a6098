"""Progress reporters under Ray's names: what a user hands to RunConfig(progress_reporter=...) to say what is printed.

The printing is `progress`'s; a reporter picks columns, intervals and limits. A reporter of the user's own overrides
`should_report` and `report`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from raybook.ml.core.metrics import flatten, has_metric, lookup, score
from raybook.tune.core.trial_table import Trial, TrialTable
from raybook.tune.observer import SweepObserver
from raybook.tune.progress import format_table, terminal_writer
from raybook.tune.sweep_settings import SweepSettings


class ProgressReporter:
    """Base of reporters. setup is called once, should_report at every round, report when that says so and at the end."""

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        """The sweep begins."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Ask whether it is time to report."""
        raise NotImplementedError

    def report(self, trials: list[Trial], done: bool, *sys_info: Any) -> None:
        """Show how the trials stand."""
        raise NotImplementedError

    def as_observer(self, settings: SweepSettings, total: int | None) -> SweepObserver:
        """Return what makes this reporter follow a sweep."""
        return ReporterObserver(self, settings, total)


class ReporterObserver(SweepObserver):
    """Asks a reporter at every round."""

    def __init__(self, reporter: ProgressReporter, settings: SweepSettings, total: int | None) -> None:
        self._reporter = reporter
        self._settings = settings
        self._total = total

    def on_start(self, table: TrialTable, now_ms: int) -> None:
        self._reporter.setup(
            start_time=time.time(),
            total_samples=self._total,
            metric=self._settings.metric,
            mode=self._settings.mode,
        )

    def on_tick(self, table: TrialTable, now_ms: int) -> None:
        self._report(table, done=False)

    def on_end(self, table: TrialTable, now_ms: int) -> None:
        self._report(table, done=True)

    def _report(self, table: TrialTable, done: bool) -> None:
        trials = list(table)
        if self._reporter.should_report(trials, done=done):
            self._reporter.report(trials, done)


class TuneReporterBase(ProgressReporter):
    """A table of the trials, at most every max_report_frequency seconds.

    metric_columns, parameter_columns: names, or {name: title}; those that are reported, and those that vary, if None.
    max_progress_rows, max_error_rows, max_column_length: limits. sort_by_metric: the best first. print_intermediate_tables:
    False shows the table at the end only.
    """

    def __init__(
        self,
        *,
        metric_columns: Sequence[str] | Mapping[str, str] | None = None,
        parameter_columns: Sequence[str] | Mapping[str, str] | None = None,
        total_samples: int | None = None,
        max_progress_rows: int = 20,
        max_error_rows: int = 20,
        max_column_length: int = 20,
        max_report_frequency: float = 5,
        infer_limit: int = 3,
        print_intermediate_tables: bool | None = None,
        metric: str | None = None,
        mode: str | None = None,
        sort_by_metric: bool = False,
    ) -> None:
        self._metrics = _titles(metric_columns)
        self._parameters = _titles(parameter_columns)
        self._total = total_samples
        self._rows_max = max_progress_rows
        self._errors_max = max_error_rows
        self._length_max = max_column_length
        self._interval_s = max_report_frequency
        self._infer_limit = infer_limit
        self._shows_all = print_intermediate_tables is not False
        self._metric = metric
        self._mode = mode
        self._sorts = sort_by_metric
        self._reported_s = 0.0

    def setup(
        self,
        start_time: float | None = None,
        total_samples: int | None = None,
        metric: str | None = None,
        mode: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._total = self._total if self._total is not None else total_samples
        self._metric, self._mode = self._metric or metric, self._mode or mode
        self._reported_s = time.monotonic()

    def add_metric_column(self, metric: str, representation: str | None = None) -> None:
        """Show one more metric, under a title of its own if given. Raises ValueError if it is shown already."""
        self._metrics = _with_column(self._metrics, metric, representation)

    def add_parameter_column(self, parameter: str, representation: str | None = None) -> None:
        """Show one more parameter, under a title of its own if given. Raises ValueError if it is shown already."""
        self._parameters = _with_column(self._parameters, parameter, representation)

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        if done or time.monotonic() - self._reported_s >= self._interval_s:
            self._reported_s = time.monotonic()
            return done or self._shows_all
        return False

    def text(self, trials: list[Trial], done: bool) -> str:
        """Return what is shown."""
        counts: dict[str, int] = {}
        for trial in trials:
            counts[trial.status] = counts.get(trial.status, 0) + 1
        of = f"/{self._total}" if self._total is not None else ""
        states = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        lines = [f"Number of trials: {len(trials)}{of} ({states})"]
        if self._metric and self._mode and (best := self._best(trials)) is not None:
            value = lookup(best.last_result, self._metric)
            lines.append(
                f"Current best trial: {best.trial_id} with {self._metric}={value} and parameters={best.config}"
            )
        shown = sorted(trials, key=self._rank, reverse=True) if self._sorts and self._metric else trials
        metrics, parameters = self._metrics or self._reported(shown), self._parameters or self._varying(shown)
        titles = ["Trial name", "status", *parameters.values(), *metrics.values()]
        rows = [self._row(trial, parameters, metrics) for trial in shown[: self._rows_max]]
        if rows:
            lines += format_table(titles, rows)
        if len(shown) > self._rows_max:
            lines.append(f"... {len(shown) - self._rows_max} more trials not shown")
        failed = [trial for trial in trials if trial.error is not None][: self._errors_max]
        if failed:
            lines.append(f"Number of errored trials: {len(failed)}")
            lines += format_table(
                ["Trial name", "# failures", "error file"],
                [[trial.name, str(trial.failures), f"{trial.folder}/error.txt"] for trial in failed],
            )
        return "\n".join(lines)

    def _row(self, trial: Trial, parameters: Mapping[str, str], metrics: Mapping[str, str]) -> list[str]:
        config = flatten(trial.config)
        cells = [config.get(name) for name in parameters]
        cells += [lookup(trial.last_result, n) if has_metric(trial.last_result, n) else None for n in metrics]
        return [trial.name, trial.status, *(self._cell(value) for value in cells)]

    def _cell(self, value: Any) -> str:
        text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        return text if len(text) <= self._length_max else text[: self._length_max - 1] + "…"

    def _reported(self, trials: list[Trial]) -> dict[str, str]:
        usual = {"training_iteration": "iter", "time_total_s": "total time (s)"}
        named = {self._metric: self._metric} if self._metric else {}
        ignored = {"config", "trial_id", "done", "timestamp", "date", "pid", "hostname", "checkpoint_dir_name"}
        own = {
            name: name
            for trial in trials[: self._rows_max]
            for name, summary in trial.summaries.items()
            if name not in ignored and not name.startswith(("time_", "iterations_", "training_"))
        }
        return {**usual, **named, **dict(list(own.items())[: self._infer_limit])}

    @staticmethod
    def _varying(trials: list[Trial]) -> dict[str, str]:
        return {name: name for trial in trials for name in trial.varying}

    def _rank(self, trial: Trial) -> float:
        known = has_metric(trial.last_result, str(self._metric))
        return score(lookup(trial.last_result, str(self._metric)) if known else None, self._mode or "max")

    def _best(self, trials: list[Trial]) -> Trial | None:
        rated = [trial for trial in trials if has_metric(trial.last_result, str(self._metric))]
        return max(rated, key=self._rank, default=None)


class CLIReporter(TuneReporterBase):
    """Prints a table of the trials. Arguments as TuneReporterBase."""

    def report(self, trials: list[Trial], done: bool, *sys_info: Any) -> None:
        terminal_writer()(self.text(trials, done))


class JupyterNotebookReporter(TuneReporterBase):
    """Shows a table of the trials under the cell, in place of the one before.

    overwrite: False adds a new one each time. The other arguments are those of TuneReporterBase.
    """

    def __init__(self, overwrite: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._overwrite = overwrite
        self._shown: Any = None

    def report(self, trials: list[Trial], done: bool, *sys_info: Any) -> None:
        from IPython.display import Pretty, display

        text = Pretty(self.text(trials, done))
        if self._overwrite and self._shown is not None:
            self._shown.update(text)
        else:
            self._shown = display(text, display_id=True)


def _titles(columns: Sequence[str] | Mapping[str, str] | None) -> dict[str, str]:
    if columns is None:
        return {}
    return dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}


def _with_column(columns: dict[str, str], name: str, title: str | None) -> dict[str, str]:
    if name in columns:
        raise ValueError(f"Column {name!r} is shown already.")
    return {**columns, name: title or name}
