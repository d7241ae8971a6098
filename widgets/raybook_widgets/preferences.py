"""What the person at the front end prefers: the panels' only reader of the environment, read once for each kernel.

RAYBOOK_NONINTERACTIVE=1   plain text, once at the start and once at the end: for CI and for running notebooks headless
RAYBOOK_PANEL_HZ=2         fewer updates on a slow link (at most 4 a second)
RAYBOOK_AUTO_PANELS=0      no panel but those asked for
RAYBOOK_RICH_VIEW=0        plain ipywidgets under cells: for front ends that cannot load an anywidget's code
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TICKS_PER_S_MAX = 4.0
"""Jupyter servers drop output above 1,000 messages a second; four ticks of five panels are far below, and smooth."""
TICKS_PER_S_MIN = 0.2
FALSE_WORDS = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True)
class Preferences:
    """How panels show themselves."""

    interactive: bool = True
    ticks_per_s: float = TICKS_PER_S_MAX
    auto_panels: bool = True
    rich_view: bool = True

    @property
    def period_ms(self) -> float:
        """The shortest time between two updates of a panel."""
        return 1_000.0 / self.ticks_per_s


def read_preferences(environ: Mapping[str, str]) -> Preferences:
    """Raises ValueError, naming the variable, when RAYBOOK_PANEL_HZ is no number."""
    raw = environ.get("RAYBOOK_PANEL_HZ", "")
    try:
        wanted = float(raw) if raw else TICKS_PER_S_MAX
    except ValueError:
        raise ValueError(f"The environment variable RAYBOOK_PANEL_HZ must be a number, got {raw!r}.") from None
    return Preferences(
        interactive=environ.get("RAYBOOK_NONINTERACTIVE", "").lower() in FALSE_WORDS,
        ticks_per_s=min(TICKS_PER_S_MAX, max(TICKS_PER_S_MIN, wanted)),
        auto_panels=environ.get("RAYBOOK_AUTO_PANELS", "1").lower() not in FALSE_WORDS,
        rich_view=environ.get("RAYBOOK_RICH_VIEW", "1").lower() not in FALSE_WORDS,
    )
