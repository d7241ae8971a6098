"""Process names: one process among all machines and for ever, so that another machine's pid is not taken for one of ours."""

from __future__ import annotations

import os
from contextlib import suppress

import msgspec

from raybook.io.process import is_alive, start_time


class ProcessName(msgspec.Struct, frozen=True):
    """Which life of which kernel, which process namespace, pid and start time."""

    boot_id: str
    namespace: str
    pid: int
    start_time: int

    def is_known_dead(self) -> bool:
        """Whether it runs no more, as far as can be seen from here: of processes elsewhere nothing is known."""
        here = this_process()
        return (self.boot_id, self.namespace) == (here.boot_id, here.namespace) and not is_alive(
            self.pid, self.start_time
        )


def this_process() -> ProcessName:
    """The name of the process that asks."""
    boot_id = namespace = ""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return ProcessName(boot_id, namespace, os.getpid(), start_time(os.getpid()) or 0)
