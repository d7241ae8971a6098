"""Tools for tests that run a cluster: actors that remote code waits on, waiting for conditions, drivers from strings.

Names, parameters and failures are those of Ray's ``ray._common.test_utils``, so that tests written for it run here.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from raybook.api import remote
from raybook.base.config import AS_RAY_VARIABLE

DRIVER_TIMEOUT_S = 300
"""A driver that has not ended by then is killed, and its test fails instead of hanging."""
TIMED_OUT = "The condition wasn't met before the timeout expired."
RUN_STDIN = "import sys; script = sys.stdin.read(); sys.stdin.close(); exec(compile(script, '<stdin>', 'exec'))"


class _SignalActor:
    """Remote code waits at ``wait()`` until somebody calls ``send()``; ``send(clear=True)`` lets through only those who
    wait now."""

    def __init__(self) -> None:
        self.ready_event = asyncio.Event()
        self.num_waiters = 0

    async def send(self, clear: bool = False) -> None:
        self.ready_event.set()
        if clear:
            self.ready_event.clear()

    async def wait(self, should_wait: bool = True) -> None:
        if should_wait:
            self.num_waiters += 1
            await self.ready_event.wait()
            self.num_waiters -= 1

    async def cur_num_waiters(self) -> int:
        return self.num_waiters


class _Semaphore:
    """At most ``value`` holders at a time."""

    def __init__(self, value: int = 1) -> None:
        self._semaphore = asyncio.Semaphore(value)

    async def acquire(self) -> None:
        await self._semaphore.acquire()

    async def release(self) -> None:
        self._semaphore.release()

    async def locked(self) -> bool:
        return self._semaphore.locked()


SignalActor = remote(num_cpus=0)(_SignalActor)
Semaphore = remote(num_cpus=0)(_Semaphore)


def wait_for_condition(
    condition_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    raise_exceptions: bool = False,
    **kwargs: Any,
) -> None:
    """Call it until it is true. An exception counts as not yet, unless ``raise_exceptions``. RuntimeError after
    ``timeout`` seconds, with the last exception."""
    end = time.monotonic() + timeout
    last = ""
    while time.monotonic() <= end:
        try:
            if condition_predictor(**kwargs):
                return
        except Exception:  # noqa: BLE001 - whatever a condition raises may go away.
            if raise_exceptions:
                raise
            last = f" Last exception: {traceback.format_exc()}"
        time.sleep(retry_interval_ms / 1000)
    raise RuntimeError(TIMED_OUT + last)


async def async_wait_for_condition(
    condition_predictor: Callable[..., Any] | Callable[..., Awaitable[Any]],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    **kwargs: Any,
) -> None:
    """As ``wait_for_condition``, for coroutines and for conditions that are some."""
    end = time.monotonic() + timeout
    last = ""
    while time.monotonic() <= end:
        try:
            met = condition_predictor(**kwargs)
            if await met if inspect.isawaitable(met) else met:
                return
        except Exception as error:  # noqa: BLE001 - whatever a condition raises may go away.
            last = f" Last exception: {error!r}"
        await asyncio.sleep(retry_interval_ms / 1000)
    raise RuntimeError(TIMED_OUT + last)


def driver_command(env: Mapping[str, str] | None) -> list[str]:
    """A Python that runs the script from its input; where ``import ray`` means raybook, there too."""
    as_ray = (os.environ if env is None else env).get(AS_RAY_VARIABLE) or os.environ.get(AS_RAY_VARIABLE)
    prelude = "import raybook; raybook.install_as_ray(); " if as_ray else ""
    return [sys.executable, "-c", prelude + RUN_STDIN]


def run_string_as_driver(
    driver_script: str,
    env: Mapping[str, str] | None = None,
    encode: str = "utf-8",
    timeout: float | None = DRIVER_TIMEOUT_S,
) -> str:
    """Run a script in a process of its own; what it printed, stderr included. subprocess.CalledProcessError when it
    fails, TimeoutExpired (and the process is gone) when it does not end."""
    done = subprocess.run(
        driver_command(env),
        input=driver_script.encode(encode),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
        timeout=timeout,
    )
    output = done.stdout.decode(encode, errors="replace")
    if done.returncode:
        print(output)
        raise subprocess.CalledProcessError(done.returncode, done.args, output)
    return output


class FakeTimer:
    """A clock that moves when it is told to."""

    def __init__(self, start_time: float | None = None) -> None:
        self.reset(start_time)

    def reset(self, start_time: float | None = None) -> None:
        """Begin anew; None: now."""
        self._now = time.time() if start_time is None else start_time

    def time(self) -> float:
        """The time it shows."""
        return self._now

    def advance(self, by: float) -> None:
        """Move on by so many seconds."""
        self._now += by

    def realistic_sleep(self, amt: float) -> None:
        """A sleep that takes a little longer than asked, as real ones do."""
        self._now += amt + 0.001


def is_named_tuple(cls: type) -> bool:
    """Whether a class is one that ``namedtuple`` makes."""
    return cls.__bases__ == (tuple,) and all(isinstance(name, str) for name in getattr(cls, "_fields", (None,)))


__all__ = [
    "FakeTimer",
    "Semaphore",
    "SignalActor",
    "async_wait_for_condition",
    "is_named_tuple",
    "run_string_as_driver",
    "wait_for_condition",
]
