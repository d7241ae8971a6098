"""Leftovers: fails when something of raybook that was started after a given moment still runs, or holds its memory.

    python tests/leftovers.py --since 1767225600

Last step of `make test`. A process counts as raybook's when its command names one of raybook's modules or it maps an
arena (`memfd:raybook`), and runs on this environment's interpreter: what was there before, or belongs to another
checkout, is none of its business. Waits up to `PATIENCE_S`, because an owned cluster may end up to five seconds after
its kernel.
"""

from __future__ import annotations

import argparse
import re
import sys
import time

import psutil

PATIENCE_S = 8.0
POLL_S = 0.2
COMMAND = re.compile(r"(-m raybook[._]|raybook[:.](head|gcs|raylet|worker|session|zygote))")


def is_raybooks(process: psutil.Process) -> bool:
    command = process.cmdline()
    if not command or not command[0].startswith(sys.prefix):
        return False
    if COMMAND.search(" ".join(command)):
        return True
    return any("memfd:raybook" in region.path for region in process.memory_maps())


def find(since_unix_s: float) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.create_time() >= since_unix_s and process.status() != "zombie" and is_raybooks(process):
                found.append(f"  pid {process.pid}: {' '.join(process.cmdline())[:160] or process.name()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Fail when processes of raybook are left behind.")
    parser.add_argument("--since", type=float, required=True, help="seconds since 1970: older processes do not count")
    since_unix_s = parser.parse_args().since
    deadline = time.monotonic() + PATIENCE_S
    while (found := find(since_unix_s)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if found:
        print(f"raybook: {len(found)} processes are left behind by the tests:", *found, sep="\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
