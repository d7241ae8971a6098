"""Values that people type on a magic's line: counts, sizes, names. A reader raises ValueError with a full sentence."""

from __future__ import annotations

import math
import re

NATIVE, RAY = ENGINES = ("native", "ray")
"""raybook's own runtime, and a real Ray."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def cpu_count(text: str) -> float:
    """A number of CPUs, more than none: "4", "0.5"."""
    value = _number(text, "a number of CPUs such as 4")
    if value <= 0:
        raise ValueError(f"a cluster needs more than {text} CPUs.")
    return value


def node_bounds(text: str) -> str:
    """ "0:3", or "3" for 0:3: how few and how many nodes there may be beside the first."""
    least, colon, most = text.rpartition(":")
    if not most.isdigit() or (colon and not least.isdigit()):
        raise ValueError(f"MIN:MAX nodes, such as 0:3, or MAX alone are needed, got {text!r}.")
    if int(least or 0) > int(most) or not int(most):
        raise ValueError(f"{text} is no range: MIN may not be more than MAX, and MAX not 0.")
    return text


def engine_name(text: str) -> str:
    """Who runs the cluster: "native", or "ray"."""
    if text not in ENGINES:
        raise ValueError(f"{text!r} is none of {', '.join(ENGINES)}.")
    return text


def seconds(text: str) -> float:
    """A time that is not negative: "60", "0.5"."""
    value = _number(text, "a number of seconds such as 60")
    if value < 0:
        raise ValueError(f"nothing takes {text} seconds.")
    return value


def node_count(text: str) -> int:
    """A number of nodes, one at least."""
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"a number of nodes such as 2 is needed, got {text!r}.")
    return int(text)


def gpu_count(text: str) -> float:
    """A number of GPUs, none allowed."""
    value = _number(text, "a number of GPUs such as 1")
    if value < 0:
        raise ValueError(f"a cluster cannot have {text} GPUs.")
    return value


def positive_count(text: str) -> int:
    """How many rows or lines: "20"."""
    if not text.isdigit() or not int(text):
        raise ValueError(f"a number such as 20 is needed, got {text!r}.")
    return int(text)


def worker_count(text: str) -> int:
    """ "workers=8", or "8"."""
    count = text.removeprefix("workers=")
    if not count.isdigit() or not int(count):
        raise ValueError(f"workers=N, such as workers=8, is needed, got {text!r}.")
    return int(count)


def size_bytes(text: str) -> int:
    """ "512MB" and "512MiB" → bytes. A unit without i is decimal (MB = 10^6), one with it binary; a single letter is
    binary, as in `-Xmx2g` and `docker -m 2g`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"a size such as 512MB or 2GiB is needed, got {text!r}.")
    amount, prefix, binary, byte = match.groups()
    base = 1024 if binary or not byte else 1000
    value = int(float(amount) * base ** _POWERS[prefix.lower()])
    if value <= 0:
        raise ValueError("a size of nothing makes no sense.")
    return value


def cluster_name(text: str) -> str:
    """A name that fits on a line and into a file name."""
    if not _NAME.fullmatch(text):
        raise ValueError(f"a name has letters, digits, '.', '_' and '-' only, at most 63, got {text!r}.")
    return text


def _number(text: str, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{wanted} is needed, got {text!r}.") from None
    if not math.isfinite(value):
        raise ValueError(f"{wanted} is needed, got {text!r}.")
    return int(value) if value == int(value) else value
