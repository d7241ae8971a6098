"""Figures: what one measured row is, and how figures become ratios, a geometric mean and a table.

Pure arithmetic and text: knows nothing of engines, processes or clocks, so it is tested without any of them.

Invariants: a ratio above one always means that ours is the better one, for times and for rates alike; a row without
both figures has no ratio and never enters the mean.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

TIME_UNIT = "s"
"""The one unit where less is better; every other unit is something per second."""

STATUS_OK = "ok"
STATUS_NOT_YET = "not yet"
STATUS_FAILED = "failed"
STATUS_NOT_RUN = "not run"


@dataclass(frozen=True)
class Figure:
    """One measurement: a value and its unit (``"/s"``, ``"GB/s"`` or ``"s"``)."""

    value: float
    unit: str = "/s"


@dataclass(frozen=True)
class RowResult:
    """What one engine delivered for one row: all its samples, or why there are none.

    ``status`` is one of the ``STATUS_*`` words; ``reason`` is the first line of the error for the two bad ones.
    """

    row: str
    status: str
    unit: str = "/s"
    samples: tuple[float, ...] = ()
    reason: str = ""

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None

    @property
    def spread(self) -> float | None:
        """Half the distance from smallest to largest sample, as a share of the median; None below two samples."""
        if len(self.samples) < 2 or not self.median:
            return None
        return (max(self.samples) - min(self.samples)) / 2 / self.median

    def to_json(self) -> dict[str, object]:
        return {
            "row": self.row,
            "status": self.status,
            "unit": self.unit,
            "samples": list(self.samples),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: dict) -> RowResult:
        return cls(data["row"], data["status"], data["unit"], tuple(data["samples"]), data["reason"])


@dataclass(frozen=True)
class TableLine:
    """One row of the table: ours and the peer's result, and the goal where the architecture sets one. others: results of
    further peers by their titles; they are shown, and enter no mean."""

    title: str
    ours: RowResult
    peer: RowResult
    goal: float | None = None
    goal_note: str = ""
    others: tuple[tuple[str, RowResult], ...] = ()

    @property
    def ratio(self) -> float | None:
        return ratio(self.ours.median, self.peer.median, self.ours.unit)

    @property
    def goal_reached(self) -> bool | None:
        """Whether ours is as good as the goal: no where it failed, None where nobody ran it or no goal is set."""
        if self.ours.status == STATUS_NOT_RUN:
            return None
        return goal_reached(self.ours.median, self.goal, self.ours.unit)


@dataclass(frozen=True)
class Summary:
    """The two sentences a table is judged by: the geometric mean of the ratios and the lowest of them."""

    mean: float | None
    lowest: TableLine | None
    compared: int
    goals_reached: int
    goals: int
    missing: tuple[str, ...] = field(default=())


def ratio(ours: float | None, peer: float | None, unit: str) -> float | None:
    """How many times better ours is: peer ÷ ours for times, ours ÷ peer for rates. None where one is missing."""
    if not ours or not peer:
        return None
    return peer / ours if unit == TIME_UNIT else ours / peer


def goal_reached(ours: float | None, goal: float | None, unit: str) -> bool | None:
    """Whether ours is at least as good as the goal; None without a goal. A missing figure has not reached it."""
    if goal is None:
        return None
    if ours is None:
        return False
    return ours <= goal if unit == TIME_UNIT else ours >= goal


def geometric_mean(ratios: Iterable[float]) -> float | None:
    """The n-th root of the product, through logarithms so that a long table cannot overflow. None for no ratios."""
    logarithms = [math.log(value) for value in ratios]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None


def summarize(lines: Sequence[TableLine]) -> Summary:
    compared = [line for line in lines if line.ratio is not None]
    with_goal = [line for line in lines if line.goal_reached is not None]
    return Summary(
        mean=geometric_mean(line.ratio for line in compared if line.ratio is not None),
        lowest=min(compared, key=lambda line: line.ratio or 0.0, default=None),
        compared=len(compared),
        goals_reached=sum(1 for line in with_goal if line.goal_reached),
        goals=len(with_goal),
        missing=tuple(line.title for line in lines if line.ratio is None),
    )


def merge(results: Sequence[RowResult], row: str) -> RowResult:
    """Join the results of one row from several rounds. Samples are pooled; the row fails only if no round delivered."""
    good = [result for result in results if result.status == STATUS_OK]
    if good:
        return RowResult(row, STATUS_OK, good[0].unit, tuple(value for result in good for value in result.samples))
    return results[0] if results else RowResult(row, STATUS_NOT_RUN)


def format_value(value: float | None, unit: str) -> str:
    """A figure for people: three significant digits for times and bandwidths, thousands separated for rates."""
    if value is None:
        return "–"
    if unit == TIME_UNIT:
        return f"{value:.3g} s" if value >= 0.1 else f"{value * 1000:.3g} ms"
    if unit == "/s" and value >= 100:
        return f"{value:,.0f} /s"
    return f"{value:.3g} {unit}"


def format_result(result: RowResult) -> str:
    if result.status != STATUS_OK:
        return result.status
    spread = f" ±{result.spread:.0%}" if result.spread is not None else ""
    return format_value(result.median, result.unit) + spread


def format_other(ours: RowResult, other: RowResult) -> str:
    """A further peer's figure, and in brackets how many times better ours is. What it does not have is a dash."""
    if other.status != STATUS_OK:
        return "–" if other.status in (STATUS_NOT_YET, STATUS_NOT_RUN) else other.status
    times = ratio(ours.median, other.median, ours.unit)
    return format_value(other.median, other.unit) + (f" ({times:.1f}×)" if times is not None else "")


def format_table(lines: Sequence[TableLine], peer_name: str = "Ray 2.60") -> str:
    """The ratio table as aligned plain text, followed by the reasons of the rows that have no figure."""
    others = [name for name, _ in lines[0].others] if lines else []
    header = ("row", "raybook", peer_name, "ratio", "goal", "reached", *others)
    body = [
        (
            line.title,
            format_result(line.ours),
            format_result(line.peer),
            f"{line.ratio:.1f}×" if line.ratio is not None else "–",
            (format_value(line.goal, line.ours.unit) if line.goal is not None else "–") + line.goal_note,
            {True: "yes", False: "no", None: "–"}[line.goal_reached],
            *(format_other(line.ours, result) for _, result in line.others),
        )
        for line in lines
    ]
    widths = [max(len(cells[column]) for cells in (header, *body)) for column in range(len(header))]

    def text(cells: tuple[str, ...]) -> str:
        first = cells[0].ljust(widths[0])
        return "  ".join([first, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))])

    rows = [text(header), "  ".join("-" * width for width in widths), *map(text, body)]
    for line in lines:
        for name, result in (("raybook", line.ours), (peer_name, line.peer), *line.others):
            if result.reason and not (result.status == STATUS_NOT_YET and name in others):
                rows.append(f"  {line.title} · {name} · {result.status}: {result.reason}")
    return "\n".join(rows)


def format_summary(summary: Summary) -> str:
    if summary.mean is None or summary.lowest is None:
        return f"No row has figures of both engines. Goals reached: {summary.goals_reached} of {summary.goals}."
    text = (
        f"Geometric mean of {summary.compared} ratios: {summary.mean:.1f}× (goal ≥ 15×). "
        f"Lowest row: {summary.lowest.title}, {summary.lowest.ratio:.1f}× (goal ≥ 3×). "
        f"Goals reached: {summary.goals_reached} of {summary.goals}."
    )
    if summary.missing:
        text += f"\nWithout a ratio: {', '.join(summary.missing)}."
    return text
