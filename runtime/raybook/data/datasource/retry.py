"""Retries: a remote store's hiccup is waited out, and everything else is raised at once.

Which errors are hiccups is a list of texts or patterns, `DataContext.retried_io_errors`. The waits double from one second
to thirty-two with some chance in them, so that the readers of a cluster do not come back all at once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from raybook.data.context import DataContext

Result = TypeVar("Result")

ATTEMPTS_MAX = 10
BACKOFF_S_MAX = 32.0
FIRST_BACKOFF_S = 1.0


def is_retried(error: BaseException, patterns: Sequence[str]) -> bool:
    """Whether an error's text has one of the patterns in it: as a text, else as a regular expression."""
    text = f"{type(error).__name__}: {error}"
    return any(pattern in text or re.search(pattern, text) is not None for pattern in patterns)


def call_with_retry(
    function: Callable[[], Result],
    what: str,
    patterns: Sequence[str] | None = None,
    attempts_max: int = ATTEMPTS_MAX,
    first_backoff_s: float = FIRST_BACKOFF_S,
) -> Result:
    """`function()`, again while it fails with what is worth another try. patterns: None, those of the `DataContext`.

    The last error is raised with a note that says how often `what` was tried.
    """
    for attempt in range(1, attempts_max + 1):
        try:
            return function()
        except Exception as error:
            wanted = DataContext.get_current().retried_io_errors if patterns is None else patterns
            if not is_retried(error, wanted):
                raise
            if attempt == attempts_max:
                error.args = (f"{error} (tried {attempt} times to {what})", *error.args[1:])
                raise
            back_off(attempt, first_backoff_s)
    raise AssertionError("attempts_max is at least one")


def back_off(attempt: int, first_backoff_s: float = FIRST_BACKOFF_S) -> None:
    """Wait before the try behind the `attempt`-th."""
    time.sleep(min(first_backoff_s * 2 ** (attempt - 1), BACKOFF_S_MAX) * random.uniform(0.5, 1.0))
