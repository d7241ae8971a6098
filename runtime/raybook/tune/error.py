"""Errors of Tune. Each says whose move it is; those of user code keep the user's own type."""

from __future__ import annotations


class TuneError(Exception):
    """A sweep could not be run as asked, or could not go on."""


class TrainableTypeError(TuneError, TypeError, ValueError):
    """What was given as a trainable is none. Both of Python's kinds, because Ray raises one here and one there."""


class TrialError(TuneError):
    """A trial's own exception could not be sent back as an object; its traceback is in the message."""


class TrialTraceback(Exception):
    """Carries the traceback of a trial's process as text, as the cause of the exception raised there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"
