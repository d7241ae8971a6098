"""Trial events and verdicts: the words that pass between the controller and whatever runs the trials.

Facts about a trial are in the past tense and carry the attempt they belong to, so that a late one of an earlier
attempt can be told apart and dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

# What a scheduler answers to a result, spelled as in Ray. COMPLETE is ours: the trial got all the budget the
# scheduler ever gives (ASHA's max_t), so it counts as finished and not as stopped early.
CONTINUE = "CONTINUE"
PAUSE = "PAUSE"
STOP = "STOP"
COMPLETE = "COMPLETE"
# Also ours: go on, but save a checkpoint first; and pause without saving, because the state will be replaced.
SAVE = "SAVE"
YIELD = "YIELD"
VERDICTS = (CONTINUE, PAUSE, STOP, COMPLETE, SAVE, YIELD)
# Ours in the words of Ray's, for whoever calls a scheduler's hooks.
IN_RAYS_WORDS = {COMPLETE: STOP, SAVE: CONTINUE, YIELD: PAUSE}
# Ray's word of a scheduler that has told the controller itself what to do with the trial. Otherwise a CONTINUE.
NOOP = "NOOP"


class TrialStarted(msgspec.Struct, frozen=True):
    """The trial's process is up and its function is about to run."""

    trial_id: str
    attempt: int
    placement: Mapping[str, Any]


class TrialReported(msgspec.Struct, frozen=True):
    """The trial reported metrics and now waits for a verdict. checkpoint: name of the folder saved with it."""

    trial_id: str
    attempt: int
    metrics: Mapping[str, Any]
    checkpoint: str | None = None


class TrialSaved(msgspec.Struct, frozen=True):
    """The trial has saved the checkpoint that a SAVE asked for, None if it cannot, and waits for a CONTINUE."""

    trial_id: str
    attempt: int
    checkpoint: str | None = None


class TrialFinished(msgspec.Struct, frozen=True):
    """The trial's function returned by itself. Its room is free again."""

    trial_id: str
    attempt: int
    checkpoint: str | None = None


class TrialFailed(msgspec.Struct, frozen=True):
    """The trial raised, or its process was lost. Its room is free again. details: the traceback as text."""

    trial_id: str
    attempt: int
    error: BaseException
    details: str
    is_lost: bool = False


class TrialReleased(msgspec.Struct, frozen=True):
    """The trial has obeyed a PAUSE, YIELD, STOP or COMPLETE (or was killed). Its room is free again."""

    trial_id: str
    attempt: int
    checkpoint: str | None = None


TrialEvent = TrialStarted | TrialReported | TrialSaved | TrialFinished | TrialFailed | TrialReleased
