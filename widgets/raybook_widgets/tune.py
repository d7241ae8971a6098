"""Tune: each sweep with its trials; a sparkline of the metric for each, the best one marked.

All sparklines of a sweep share one scale, so that a higher line is a higher value; the outermost 2 % of the points are
clipped, so that one diverging trial does not flatten the others.
"""

from __future__ import annotations

from raybook.observe import ExperimentRow, TrialRow, View, duration_text, metric_text
from raybook_widgets.markup import element, span, text

SPARK_WIDTH = 104
SPARK_HEIGHT = 18
CLIPPED_SHARE = 0.02

_TONES = {
    "RUNNING": "rb-run",
    "PENDING": "rb-dim",
    "PAUSED": "rb-warn",
    "ERROR": "rb-bad",
    "FAILED": "rb-bad",
    "STOPPED": "rb-dim",
}
_WORDS = {"TERMINATED": "done", "COMPLETED": "done", "FINISHED": "done", "ERROR": "failed", "PENDING": "waiting"}


def render(view: View, rows_max: int) -> str:
    """ "" before the first trial."""
    return "".join(_experiment(experiment, rows_max) for experiment in view.experiments)


def _experiment(experiment: ExperimentRow, rows_max: int) -> str:
    shown = _kept(experiment.trials, rows_max)
    hidden = experiment.trials_hidden + len(experiment.trials) - len(shown)
    scale = _scale(shown)
    metric = experiment.metric or "value"
    titles = (
        ("Trial", ""), ("State", ""), (metric, ""), ("", "rb-num"), ("Step", "rb-num"), ("Parameters", ""),
    )  # fmt: skip
    header = element("tr", [element("th", text(title), class_=class_ or None, scope="col") for title, class_ in titles])
    rows = [_trial(trial, scale) for trial in shown]
    table = element("table", [element("thead", header), element("tbody", rows)], class_="rb-table")
    body = [_head(experiment), _progress(experiment), element("div", table, class_="rb-scroll") if shown else ""]
    if hidden > 0:
        body.append(element("div", f"and {hidden} more trials", class_="rb-dim rb-small"))
    return element("div", body, class_="rb-experiment", data_experiment=experiment.experiment_id)


def _head(experiment: ExperimentRow) -> str:
    parts = [f"{experiment.trials_done}/{experiment.trials_total} trials"]
    parts += [f"{experiment.trials_running} running"] if experiment.trials_running else []
    parts += [duration_text(experiment.seconds * 1e6)] if experiment.seconds >= 1 else []
    best = ""
    if experiment.best_value is not None:
        goal = "lowest" if experiment.mode == "min" else "highest"
        best = element(
            "span",
            [
                span(f"best {experiment.metric or 'value'} ", "rb-dim"),
                element("strong", text(metric_text(experiment.best_value))),
            ],
            class_="rb-small rb-push",
            title=f"{goal} so far: {experiment.best_trial_id} {experiment.best_parameters}".rstrip(),
        )
    failed = span(f"{experiment.trials_failed} failed", "rb-bad rb-small") if experiment.trials_failed else ""
    return element(
        "div",
        [
            span("Tune", "rb-title"),
            span(experiment.name, "rb-code rb-cut"),
            span(" · ".join(parts), "rb-dim rb-small"),
            failed,
            best,
        ],
        class_="rb-head",
    )


def _progress(experiment: ExperimentRow) -> str:
    whole = max(1, experiment.trials_total)
    stretches = (
        ("rb-fill-good", experiment.trials_done - experiment.trials_failed),
        ("rb-fill-bad", experiment.trials_failed),
        ("rb-fill-run", experiment.trials_running),
    )
    bar = [
        element("i", "", class_=class_, style=f"width:{100.0 * count / whole:.2f}%")
        for class_, count in stretches
        if count
    ]
    told = f"{experiment.trials_done} of {experiment.trials_total} trials done"
    return element("div", bar, class_="rb-bar", role="img", aria_label=told, title=told, style="margin:2px 0 5px")


def _trial(trial: TrialRow, scale: tuple[float, float]) -> str:
    star = element("span", "★" if trial.best else "", class_="rb-star", title="best trial" if trial.best else None)
    word = _WORDS.get(trial.state, trial.state.lower())
    tone = _TONES.get(trial.state, "rb-good")
    step = f"{trial.step}/{trial.step_max}" if trial.step_max else str(trial.step)
    cells = [
        element("td", star + span(trial.label, "rb-code"), class_="rb-cut", title=trial.label),
        element("td", element("span", element("b", text(word)), class_=f"rb-chip {tone}"), title=trial.error or None),
        element(
            "td", sparkline(trial.history, scale, "rb-run" if trial.state == "RUNNING" or trial.best else "rb-dim")
        ),
        element("td", text(metric_text(trial.value)), class_="rb-num"),
        element("td", span(step, "rb-dim"), class_="rb-num"),
        element(
            "td", span(trial.parameters, "rb-dim rb-small"), class_="rb-wide rb-cut", title=trial.parameters or None
        ),
    ]
    return element("tr", cells, class_="rb-best" if trial.best else None, data_trial=trial.trial_id)


def sparkline(points: list[float], scale: tuple[float, float], class_: str) -> str:
    """An inline SVG line over the points, a dot on the last; an empty box of the same size below two points."""
    low, high = scale
    spread = (high - low) or 1.0
    if len(points) < 2:
        return element("svg", "", class_="rb-spark", width=SPARK_WIDTH, height=SPARK_HEIGHT, aria_hidden="true")
    step = (SPARK_WIDTH - 4) / (len(points) - 1)
    placed = [
        (2 + index * step, 2 + (SPARK_HEIGHT - 4) * (1 - min(1.0, max(0.0, (point - low) / spread))))
        for index, point in enumerate(points)
    ]
    line = element("polyline", "", points=" ".join(f"{x:.0f},{y:.1f}" for x, y in placed))
    dot = element("circle", "", cx=f"{placed[-1][0]:.0f}", cy=f"{placed[-1][1]:.1f}", r="2")
    return element(
        "svg",
        line + dot,
        class_=f"rb-spark {class_}",
        width=SPARK_WIDTH,
        height=SPARK_HEIGHT,
        viewBox=f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}",
        role="img",
        aria_label=f"from {metric_text(points[0])} to {metric_text(points[-1])}",
    )


def _scale(trials: list[TrialRow]) -> tuple[float, float]:
    points = sorted(point for trial in trials for point in trial.history)
    if not points:
        return (0.0, 1.0)
    clipped = int(len(points) * CLIPPED_SHARE)
    return (points[clipped], points[-1 - clipped])


def _kept(trials: list[TrialRow], rows_max: int) -> list[TrialRow]:
    """The last ones, and always the best."""
    if len(trials) <= rows_max:
        return trials
    kept = trials[-rows_max:]
    best = next((trial for trial in trials if trial.best), None)
    return kept if best is None or best in kept else [best, *kept[1:]]
