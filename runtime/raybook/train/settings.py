"""Settings: the environment variables that Ray Train reads, read once in the driver and handed to the other processes.

Source: names and meanings are Ray's; where a default differs, the line says why.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class TrainSettings(msgspec.Struct, frozen=True):
    """Times in seconds; None is no limit."""

    group_start_timeout_s: float = 60.0
    """How long a group may take to find room before the wait is reported and begun anew."""
    collective_timeout_s: float | None = None
    collective_warn_interval_s: float = 60.0
    preemption_poll_interval_s: float = 1.0
    """Ray asks every 5 s; asking costs one round trip here, and a notice may be as short as 30 s."""
    watch_preemption: bool = True


def read_settings(environ: Mapping[str, str]) -> TrainSettings:
    """Return the settings that an environment asks for. Raises ValueError for what is no number."""
    defaults = TrainSettings()
    timeout = environ.get("RAY_TRAIN_COLLECTIVE_TIMEOUT_S", "")
    return TrainSettings(
        group_start_timeout_s=_seconds(
            environ, "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", defaults.group_start_timeout_s
        ),
        collective_timeout_s=None if timeout in ("", "None", "-1") else float(timeout),
        collective_warn_interval_s=_seconds(
            environ, "RAY_TRAIN_COLLECTIVE_WARN_INTERVAL_S", defaults.collective_warn_interval_s
        ),
        preemption_poll_interval_s=_seconds(
            environ, "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", defaults.preemption_poll_interval_s
        ),
        watch_preemption=environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "1") not in ("0", "false", "False"),
    )


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    try:
        return default if text is None else float(text)
    except ValueError:
        raise ValueError(f"The environment variable {name} must be a number of seconds, not {text!r}.") from None
