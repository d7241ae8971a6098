"""A kernel that is killed mid-run takes its cluster with it: processes, shared memory, session folder, record."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.kernel.kernel_process import KernelProcess

GONE_WITHIN_S = 5.0
BUSY = """
import raybook as ray, time
ray.init(num_cpus=2)

@ray.remote
def spin(n):
    time.sleep(60)

@ray.remote
class Holder:
    def __init__(self): self.data = ray.put(b"x" * 20_000_000)
    def ready(self): return 1

holder = Holder.remote()
ray.get(holder.ready.remote())
ref = ray.put(b"y" * 30_000_000)
refs = [spin.remote(n) for n in range(20)]
print("session", ray.init(ignore_reinit_error=True)["session_dir"], flush=True)
ray.get(refs)
"""


def arenas_held() -> dict[int, int]:
    """Inode → one pid that maps or holds an arena of raybook's, over all processes that we may look into."""
    held: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            held.update({inode: int(folder.name) for inode in _arenas_of(folder)})
    return held


def _arenas_of(folder: Path) -> set[int]:
    inodes = set()
    try:
        for line in (folder / "maps").read_text().splitlines():
            if "memfd:raybook" in line:
                inodes.add(int(line.split()[4]))
        for descriptor in (folder / "fd").iterdir():
            if "memfd:raybook" in os.readlink(descriptor):
                inodes.add(os.stat(descriptor).st_ino)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return inodes


def wait_until(is_true: Callable[[], bool], timeout_s: float) -> bool:
    """Look again every 50 ms; False when time is up."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
def test_killed_kernel_leaves_nothing_within_five_seconds(tmp_path):
    with KernelProcess(tmp_path) as kernel:
        kernel.begin(BUSY)
        message = kernel.listen_until(
            lambda m: m["msg_type"] == "error" or "session" in m["content"].get("text", ""), timeout_s=30
        )
        assert message["msg_type"] == "stream", message["content"]
        session_dir = message["content"]["text"].split()[-1]
        family = {child.pid: child.create_time() for child in psutil.Process(kernel.pid).children(recursive=True)}
        # Those of this cluster: others may start beside us.
        arenas = {inode for pid in (kernel.pid, *family) for inode in _arenas_of(Path(f"/proc/{pid}"))}
        registry = tmp_path / "registry"
        assert len(family) >= 3, "The head, its zygote and workers should have been running."
        assert arenas, "The object store should have been mapped."
        assert list(registry.glob("*.json"))
        assert Path(session_dir).is_dir()

        kernel.kill()

        def survivors() -> list[int]:
            return [pid for pid, created in family.items() if _is_same_process(pid, created)]

        def is_all_gone() -> bool:
            return not (
                survivors()
                or (arenas & set(arenas_held()))
                or list(registry.glob("*.json"))
                or Path(session_dir).exists()
            )

        assert wait_until(is_all_gone, GONE_WITHIN_S), {
            "processes": survivors(),
            "arenas": arenas & set(arenas_held()),
            "records": list(registry.glob("*.json")),
            "session folder": Path(session_dir).exists(),
        }


def _is_same_process(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
