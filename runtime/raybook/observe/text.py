"""A view as plain text: for terminals, logs, `text/plain` and notebooks run without a front end.

A pure function of the view: the same view gives the same text, so a saved output changes only when the numbers do.
"""

from __future__ import annotations

from raybook.observe.format import bytes_pair_text, count_text, duration_text, metric_text, rate_text, shortened
from raybook.observe.schema import ActorRow, ExperimentRow, ProgressRow, ResourceRow, TaskGroupRow, View

BAR_WIDTH = 20
NAME_WIDTH = 24
SPARK = "▁▂▃▄▅▆▇█"
STATE_WORDS = {"PENDING_CREATION": "starting", "RESTARTING": "restarting", "ALIVE": "alive", "DEAD": "dead"}


def view_text(view: View, sections: tuple[str, ...] = ("cluster", "tasks", "actors", "objects", "tune")) -> str:
    """The chosen sections; those with nothing to show are left out. Ends without a newline."""
    makers = {
        "cluster": cluster_text,
        "tasks": tasks_text,
        "actors": actors_text,
        "objects": objects_text,
        "tune": tune_text,
    }
    parts = [makers[section](view) for section in sections]
    return "\n".join(part for part in parts if part)


def cluster_text(view: View) -> str:
    """One line on the cluster."""
    alive = sum(node.alive for node in view.nodes) + view.nodes_hidden
    parts = [f"{alive} node" + ("" if alive == 1 else "s")]
    leaving = sum(node.alive and bool(node.draining) for node in view.nodes)
    parts += [f"{leaving} leaving"] if leaving else []
    parts += [resource_text(resource) for resource in view.resources if resource.name != "object_store_memory"]
    state = "" if view.cluster_state == "RUNNING" else f" ({view.cluster_state.lower()})"
    line = f"raybook {view.cluster_name}{state}: ".replace(" :", ":") + ", ".join(parts)
    return "\n".join([line, *scaling_lines(view)])


def scaling_lines(view: View) -> list[str]:
    """How many nodes there may be, what is on its way, and why; [] without an autoscaler."""
    scaling = view.scaling
    if scaling is None or view.cluster_state != "RUNNING":
        return []
    lines = [f"  nodes: {'; '.join([*scaling.bounds, *scaling.pending])}"]
    lines += [f"  {scaling.decision}"] if scaling.decision else []
    lines += [f"  failed: {scaling.failures[-1]}"] if scaling.failures else []
    return lines + [f"  {text}" for text in (*scaling.unmet, *scaling.notes)]


def resource_text(resource: ResourceRow) -> str:
    """ "3/8 CPU", "1.0 GiB/16.0 GiB memory"."""
    if resource.name in ("memory", "object_store_memory"):
        return f"{bytes_pair_text(resource.used, resource.total)} {resource.name.replace('_', ' ')}"
    return f"{count_text(resource.used)}/{count_text(resource.total)} {resource.name}"


def tasks_text(view: View) -> str:
    """One line for each function, and one for each progress bar."""
    if not (view.task_groups or view.progress):
        return ""
    lines = ["Tasks"] + ["  " + _task_line(group) for group in view.task_groups]
    if view.task_groups_hidden:
        lines.append(f"  and {view.task_groups_hidden} more functions")
    lines += ["  " + _progress_line(bar) for bar in view.progress]
    if view.progress_hidden:
        lines.append(f"  and {view.progress_hidden} more progress bars")
    return "\n".join(lines)


def _task_line(group: TaskGroupRow) -> str:
    total = max(1, group.total)
    filled = group.ended * BAR_WIDTH // total
    active = min(BAR_WIDTH - filled, -(-group.running * BAR_WIDTH // total))
    bar = "█" * filled + "▒" * active + "░" * (BAR_WIDTH - filled - active)
    return f"{shortened(group.name, NAME_WIDTH):<{NAME_WIDTH}} {bar} " + ", ".join(task_parts(group))


def _progress_line(bar: ProgressRow) -> str:
    filled = int(min(1.0, bar.done / bar.total) * BAR_WIDTH) if bar.total else 0
    drawn = "█" * filled + "░" * (BAR_WIDTH - filled)
    return f"{shortened(bar.name, NAME_WIDTH):<{NAME_WIDTH}} {drawn} " + ", ".join(progress_parts(bar))


def progress_parts(bar: ProgressRow) -> list[str]:
    """["40/100 it", "3.2/s", "pid 42"]; what ended early says so."""
    counted = f"{count_text(bar.done)}/{count_text(bar.total)}" if bar.total else count_text(bar.done)
    parts = [f"{counted} {bar.unit}".rstrip()]
    parts += [rate_text(bar.rate_per_s)] if bar.rate_per_s and not bar.over else []
    parts += ["ended"] if bar.over and bar.done < bar.total else []
    return parts + ([f"pid {bar.pid}"] if bar.pid else [])


def task_parts(group: TaskGroupRow) -> list[str]:
    """["120/200", "8 running", "1 failed", "350/s", "2.1 ms each"]: what is zero is left out."""
    parts = [f"{count_text(group.ended)}/{count_text(group.total)}"]
    parts += [
        f"{count_text(number)} {word}"
        for number, word in ((group.running, "running"), (group.failed, "failed"), (group.cancelled, "cancelled"))
        if number
    ]
    parts += [rate_text(group.rate_per_s)] if group.rate_per_s else []
    parts += [duration_text(group.mean_us) + " each"] if group.mean_us else []
    return parts


def actors_text(view: View) -> str:
    """One line for each actor."""
    if not view.actors:
        return ""
    lines = ["Actors"] + ["  " + _actor_line(actor) for actor in view.actors]
    if view.actors_hidden:
        lines.append(f"  and {view.actors_hidden} more actors")
    return "\n".join(lines)


def _actor_line(actor: ActorRow) -> str:
    name = actor.class_name + (f" “{actor.name}”" if actor.name else "")
    parts = [STATE_WORDS.get(actor.state, actor.state.lower())]
    parts += [f"pid {actor.pid}"] if actor.pid else []
    parts += [f"{actor.restarts} restarts"] if actor.restarts else []
    parts += [] if actor.calls_done is None else [f"{count_text(actor.calls_done)} calls"]
    parts += [f"{count_text(actor.calls_pending)} waiting"] if actor.calls_pending else []
    parts += [f"old code: {actor.stale}"] if actor.stale else []
    return f"{shortened(name, NAME_WIDTH):<{NAME_WIDTH}} " + ", ".join(parts)


def objects_text(view: View) -> str:
    """One line on the object store."""
    total = view.store_total
    if not (total.objects or total.used_bytes):
        return ""
    noun = "object" if total.objects == 1 else "objects"
    counted = f" in {count_text(total.objects)} {noun}" if total.objects else ""
    return f"Objects\n  {bytes_pair_text(total.used_bytes, total.capacity_bytes, ' of ')}{counted}"


def tune_text(view: View) -> str:
    """A paragraph for each experiment."""
    return "\n".join(_experiment_text(experiment) for experiment in view.experiments)


def _experiment_text(experiment: ExperimentRow) -> str:
    lines = [f"Tune {experiment.name}: " + ", ".join(experiment_parts(experiment))]
    for trial in experiment.trials:
        step = f"{trial.step}/{trial.step_max}" if trial.step_max else str(trial.step)
        name = f"{'*' if trial.best else ' '} {shortened(trial.label, NAME_WIDTH):<{NAME_WIDTH}}"
        figures = f"{trial.state.lower():<10} {metric_text(trial.value):>9} {step:>7}"
        lines.append(f"  {name} {figures} {sparkline_text(trial.history)}".rstrip())
    if experiment.trials_hidden:
        lines.append(f"    and {experiment.trials_hidden} more trials")
    return "\n".join(lines)


def experiment_parts(experiment: ExperimentRow) -> list[str]:
    """["7/16 trials", "3 running", "1 failed", "best accuracy 0.9531"]."""
    parts = [f"{experiment.trials_done}/{experiment.trials_total} trials"]
    parts += [f"{experiment.trials_running} running"] if experiment.trials_running else []
    parts += [f"{experiment.trials_failed} failed"] if experiment.trials_failed else []
    if experiment.best_value is not None:
        parts.append(f"best {experiment.metric or 'value'} {metric_text(experiment.best_value)}")
    return parts


def sparkline_text(points: list[float], width: int = 16) -> str:
    """ "▁▂▅█": the points, thinned to ``width`` characters; "" below two points."""
    if len(points) < 2:
        return ""
    step = max(1, -(-len(points) // width))
    chosen = points[::step]
    low, high = min(chosen), max(chosen)
    if high == low:
        return SPARK[0] * len(chosen)
    return "".join(SPARK[round((point - low) / (high - low) * (len(SPARK) - 1))] for point in chosen)
