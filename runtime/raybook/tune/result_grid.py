"""Result grid: the outcome of a sweep, one result a trial, in the order the trials were made.

Answers which trial was best and shows itself as a table. Knows nothing of how the sweep was run.
Source: the surface of Ray's `ResultGrid`; a best-result question that cannot be answered raises RuntimeError, as there.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from raybook.ml.core.metrics import SCOPES, WORST, MetricSummary, check_mode, flatten, is_number, score
from raybook.ml.filesystem import arrow_filesystem
from raybook.ml.result import Result
from raybook.tune.core.automatic_metrics import AUTOMATIC_KEYS, user_metrics
from raybook.tune.progress import format_table

if TYPE_CHECKING:
    import pandas

ROWS_SHOWN_MAX = 20


class ResultGrid:
    """All results of a sweep."""

    def __init__(
        self,
        results: Sequence[Result],
        summaries: Sequence[Mapping[str, MetricSummary]],
        metric: str | None = None,
        mode: str | None = None,
        experiment_path: str = "",
        storage_filesystem: Any | None = None,
    ) -> None:
        self._results = list(results)
        self._summaries = list(summaries)
        self._metric = metric
        self._mode = mode
        self.experiment_path = experiment_path
        self._filesystem = storage_filesystem

    def __len__(self) -> int:
        return len(self._results)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        return self._results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    @property
    def filesystem(self) -> Any:
        """The pyarrow filesystem that the run lies on. Imports pyarrow."""
        return arrow_filesystem(self._filesystem)

    @property
    def errors(self) -> list[BaseException]:
        """The errors of the trials that failed."""
        return [result.error for result in self._results if result.error is not None]

    @property
    def num_errors(self) -> int:
        """How many trials failed."""
        return len(self.errors)

    @property
    def num_terminated(self) -> int:
        """How many trials ended without an error."""
        return len(self._results) - self.num_errors

    def get_best_result(
        self,
        metric: str | None = None,
        mode: str | None = None,
        scope: str = "last",
        filter_nan_and_inf: bool = True,
    ) -> Result:
        """Return the result of the best trial.

        metric, mode: those of TuneConfig if None. scope: which of a trial's reports count: last, all (its best), avg,
        last-5-avg or last-10-avg. filter_nan_and_inf: leave out trials whose figure is not finite; otherwise NaN ranks
        last. Raises ValueError for missing or wrong arguments, RuntimeError if no trial has such a figure.
        """
        if len(self._results) == 1:
            return self._results[0]  # As with Ray: of one trial it is the best, whatever it reported.
        metric = metric or self._metric
        mode = mode or self._mode
        if metric is None or mode is None:
            missing = "metric" if metric is None else "mode"
            raise ValueError(f"get_best_result() needs a {missing}: give it here or in TuneConfig({missing}=...).")
        check_mode(mode, "mode")
        if scope not in SCOPES:
            raise ValueError(f"scope must be one of {', '.join(SCOPES)}, not {scope!r}.")
        best, best_score = None, WORST
        for result, summaries in zip(self._results, self._summaries, strict=True):
            if metric not in summaries:
                continue
            value = summaries[metric].value(scope, mode)
            finite = value == value and abs(value) != float("inf")
            if (finite or not filter_nan_and_inf) and (best is None or score(value, mode) > best_score):
                best, best_score = result, score(value, mode)
        if best is None:
            raise RuntimeError(self._no_best(metric))
        return best

    def get_dataframe(self, filter_metric: str | None = None, filter_mode: str | None = None) -> pandas.DataFrame:
        """Return one row a trial: its last report, or with filter_metric its best one. Needs pandas.

        Cost: with filter_metric one file read a trial.
        """
        import pandas

        if (filter_metric is None) != (filter_mode is None):
            raise ValueError("Give both filter_metric and filter_mode, or neither.")
        rows = []
        for result in self._results:
            metrics: Mapping[str, Any] = result.metrics or {}
            if filter_metric is not None:
                metrics = self._best_report(result, filter_metric, str(filter_mode)) or metrics
            row = flatten({key: value for key, value in metrics.items() if key != "config"})
            row |= {f"config/{name}": value for name, value in flatten(result.config or {}).items()}
            rows.append({**row, "logdir": result.path})
        return pandas.DataFrame(rows)

    @staticmethod
    def _best_report(result: Result, metric: str, mode: str) -> dict[str, Any] | None:
        check_mode(mode, "filter_mode")
        history = result.metrics_dataframe
        if history is None or metric not in history:
            return None
        column = history[metric].dropna()
        if column.empty:
            return None
        return history.loc[column.idxmax() if mode == "max" else column.idxmin()].to_dict()

    def _no_best(self, metric: str) -> str:
        reported = sorted({name for entry in self._summaries for name in entry} - AUTOMATIC_KEYS)
        if not reported:
            return (
                f"No trial reported anything, so none is best by {metric!r}. {self.num_errors} of {len(self)} failed."
            )
        if metric in reported:
            return f"Every value of {metric!r} is NaN or infinite. Pass filter_nan_and_inf=False to get one anyway."
        return f"No trial reported a metric {metric!r}. Reported were: {', '.join(reported)}."

    def _table(self) -> tuple[list[str], list[list[str]]]:
        shown = self._results[:ROWS_SHOWN_MAX]
        metrics = [user_metrics(flatten(result.metrics or {})) for result in shown]
        names = dict.fromkeys(
            name
            for entry in metrics
            for name, value in entry.items()
            if is_number(value) and not name.startswith("config/")
        )
        rows = []
        for result, entry in zip(shown, metrics, strict=True):
            state = f"{type(result.error).__name__}" if result.error is not None else "ok"
            config = ", ".join(f"{name}={_cell(value)}" for name, value in flatten(result.config or {}).items())
            iteration = str((result.metrics or {}).get("training_iteration", 0))
            rows.append([state, iteration, *(_cell(entry.get(name)) for name in names), config])
        return ["state", "iter", *names, "config"], rows

    def __repr__(self) -> str:
        head = f"ResultGrid: {len(self)} trials, {self.num_errors} failed"
        columns, rows = self._table()
        more = [f"… and {len(self) - len(rows)} more"] if len(self) > len(rows) else []
        return "\n".join([head, *(format_table(columns, rows) if rows else []), *more])

    def _repr_html_(self) -> str:
        columns, rows = self._table()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        more = f"<p>… and {len(self) - len(rows)} more</p>" if len(self) > len(rows) else ""
        return (
            f"<div><p><b>ResultGrid</b>: {len(self)} trials, {self.num_errors} failed</p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
        )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
