"""Tasks: one progress bar for each function, with counts, rate and mean time."""

from __future__ import annotations

from raybook.observe import ProgressRow, TaskGroupRow, View, count_text, duration_text, progress_parts, rate_text
from raybook_widgets.markup import element, span


def render(view: View, rows_max: int) -> str:
    """ "" before the first task or progress bar."""
    if not (view.task_groups or view.progress):
        return ""
    shown = view.task_groups[:rows_max]
    hidden = view.task_groups_hidden + len(view.task_groups) - len(shown)
    total = view.tasks_total
    head = [span("Tasks", "rb-title"), element("span", _summary(total), class_="rb-dim rb-small")]
    rows = [part for group in shown for part in _row(group)]
    rows += [part for bar in view.progress[:rows_max] for part in _progress(bar)]
    body = [element("div", head, class_="rb-head"), element("div", rows, class_="rb-tasks")]
    if hidden:
        body.append(element("div", f"and {hidden} more functions", class_="rb-dim rb-small"))
    hidden_bars = view.progress_hidden + max(0, len(view.progress) - rows_max)
    if hidden_bars:
        body.append(element("div", f"and {hidden_bars} more progress bars", class_="rb-dim rb-small"))
    return "".join(body)


def _progress(row: ProgressRow) -> list[str]:
    """A bar of a task's own, in the same columns."""
    told = ", ".join(progress_parts(row))
    share = min(1.0, row.done / row.total) if row.total else 0.0
    fill = element("i", "", class_="rb-fill-good" if row.over else "rb-fill-run", style=f"width:{100.0 * share:.2f}%")
    return [
        span(row.name, "rb-cut", title=row.name),
        element("span", fill, class_="rb-bar", role="img", aria_label=told, title=told),
        element("span", span(told, "rb-dim"), class_="rb-facts"),
    ]


def _summary(total: TaskGroupRow) -> str:
    parts = [f"{count_text(total.ended)} of {count_text(total.total)} done"]
    parts += [rate_text(total.rate_per_s)] if total.rate_per_s else []
    return " · ".join(parts)


def _row(group: TaskGroupRow) -> list[str]:
    whole = max(1, group.total)
    stretches = (
        ("rb-fill-good", group.finished, "finished"),
        ("rb-fill-bad", group.failed, "failed"),
        ("rb-fill-warn", group.cancelled, "cancelled"),
        ("rb-fill-run", group.running, "running"),
    )
    bar = [
        element("i", "", class_=class_, style=f"width:{100.0 * count / whole:.2f}%")
        for class_, count, _ in stretches
        if count
    ]
    told = ", ".join(
        f"{count_text(count)} {word}" for _, count, word in (*stretches, ("", group.pending, "waiting")) if count
    )
    return [
        span(group.name, "rb-code rb-cut", title=group.name),
        element("span", bar, class_="rb-bar", role="img", aria_label=told, title=told),
        element("span", _facts(group), class_="rb-facts"),
    ]


def _facts(group: TaskGroupRow) -> list[str]:
    facts = []
    if group.running:
        facts.append(span(f"{count_text(group.running)} running", "rb-run"))
    if group.failed:
        facts.append(span(f"{count_text(group.failed)} failed", "rb-bad"))
    if group.cancelled:
        facts.append(span(f"{count_text(group.cancelled)} cancelled", "rb-warn"))
    if group.rate_per_s:
        facts.append(span(rate_text(group.rate_per_s), "rb-dim"))
    if group.mean_us:
        facts.append(span(duration_text(group.mean_us), "rb-dim", title="mean time of a task"))
    facts.append(span(f"{count_text(group.ended)} / {count_text(group.total)}"))
    return facts
