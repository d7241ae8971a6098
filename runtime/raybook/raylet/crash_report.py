"""Crash reports: one paragraph on how a worker's process ended, for the error that its owner raises."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from raybook.raylet.log_monitor import last_lines

MIB = 1 << 20


@dataclass(slots=True)
class Ending:
    """How a process ended. ``exit_code`` is negative for a signal."""

    exit_code: int
    out_of_memory: bool
    text: str


def describe_ending(
    pid: int,
    status: int,
    rss_bytes_max: int,
    log_path: str,
    lines_kept: int,
    kill_reason: str = "",
    leaving: str | None = None,
    kernel_ran_out: bool = False,
    short_of_memory: bool = False,
) -> Ending:
    """What to tell people. status: as waitpid gives it. kill_reason: why we killed it, if we did. leaving: what the
    worker said before it ended on purpose. kernel_ran_out: the kernel has ended a process for want of memory lately.
    short_of_memory: that was our reason."""
    code = os.waitstatus_to_exitcode(status)
    if kill_reason:
        return Ending(code, short_of_memory, f"The worker process {pid} was ended by raybook: {kill_reason}")
    if leaving is not None and code == 0:
        return Ending(code, False, f"The worker process {pid} ended on purpose: {leaving or 'no reason given'}.")
    out_of_memory = code == -signal.SIGKILL and kernel_ran_out
    if code < 0:
        how = f"was killed by {_signal_name(-code)} (signal {-code})"
    else:
        how = f"ended with exit code {code}"
    parts = [f"The worker process {pid} {how}; it had used up to {rss_bytes_max // MIB} MiB of memory."]
    if out_of_memory:
        parts.append("The kernel ended it because memory ran out: ask for fewer workers at a time, or smaller inputs.")
    elif code == -signal.SIGKILL:
        parts.append("Somebody outside raybook killed it; on a full machine that is often the kernel's memory guard.")
    elif code == -signal.SIGSEGV:
        parts.append("That is a fault in native code: an extension module, or a write into a read-only array.")
    lines = last_lines(log_path + ".err", lines_kept)
    if lines:
        parts.append("Its last lines on stderr:\n" + "\n".join(f"  {line}" for line in lines))
    else:
        parts.append("It wrote nothing to stderr.")
    return Ending(code, out_of_memory, " ".join(parts))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "an unnamed signal"
