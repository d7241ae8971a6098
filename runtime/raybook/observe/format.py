"""Numbers for people: counts, bytes, durations, rates and metrics as short text.

Knows nothing of panels or facts. Every function is total: odd input (NaN, negative) gives a readable text, not an
error, because a panel must never fail over a number.
"""

from __future__ import annotations

import math

_BYTE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def count_text(value: float) -> str:
    """1234567 → "1,234,567"; a fraction of a resource keeps what it needs: 0.25 → "0.25"."""
    if not math.isfinite(value):
        return "–"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.4f}".rstrip("0").rstrip(".")


def bytes_text(value: float) -> str:
    """12,900,000 → "12.3 MiB". Three significant digits, binary units as memory is counted in."""
    if not math.isfinite(value):
        return "–"
    size = float(value)
    for unit in _BYTE_UNITS:
        if abs(size) < 1024 or unit == _BYTE_UNITS[-1]:
            break
        size /= 1024
    if unit == "B":
        return f"{int(size)} B"
    digits = 2 if abs(size) < 10 else 1 if abs(size) < 100 else 0
    return f"{size:.{digits}f} {unit}"


def bytes_pair_text(used: float, total: float, between: str = "/") -> str:
    """ "1.21/4.00 GiB": one unit where both have the same."""
    first, second = bytes_text(used), bytes_text(total)
    if first.rpartition(" ")[2] == second.rpartition(" ")[2]:
        first = first.rpartition(" ")[0]
    return first + between + second


def duration_text(microseconds: float) -> str:
    """850 → "850 µs", 2100 → "2.1 ms", 3.4e6 → "3.4 s", 1.25e8 → "2 min 05 s"."""
    if not math.isfinite(microseconds) or microseconds < 0:
        return "–"
    if microseconds < 1_000:
        return f"{microseconds:.0f} µs"
    if microseconds < 1_000_000:
        milliseconds = microseconds / 1_000
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    seconds = microseconds / 1_000_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def rate_text(per_second: float) -> str:
    """12400 → "12.4k/s", 350 → "350/s", 2.5 → "2.5/s"; "" when nothing moves."""
    if not math.isfinite(per_second) or per_second <= 0:
        return ""
    if per_second >= 10_000:
        return f"{per_second / 1_000:.1f}k/s"
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


def metric_text(value: float | None) -> str:
    """Four significant digits, as a learning curve is read: 0.95312 → "0.9531"."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def shortened(text: str, length_max: int) -> str:
    """At most ``length_max`` characters; the middle goes first, because names differ at both ends."""
    if len(text) <= length_max:
        return text
    head = (length_max - 1) * 2 // 3
    tail = length_max - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"
