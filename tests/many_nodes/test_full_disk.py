"""The disk under the GCS's store is full: a machine of its own with a file system of a megabyte, so that it really is."""

from __future__ import annotations

import sys

import pytest

from tests.many_nodes.hosts import Network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

PROGRAM = """
import os, pathlib, signal, time
import raybook as ray
from raybook.api.context import started_engine
from raybook.base.errors import RaySystemError
from raybook.protocol.messages.gcs import KvGet, KvPut

ballast = pathlib.Path("/tmp/small/ballast")
ray.init(address="auto", namespace="tests", log_to_driver=False)

def put(number):
    started_engine().gcs_call("KvPut", KvPut("ns", b"%d" % number, bytes(2000)))

@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Counter:
    count = 0
    def increase(self):
        self.count += 1
        return self.count
    def pid(self):
        return os.getpid()

def fill():
    with ballast.open("ab", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return

kept = Counter.options(name="kept", lifetime="detached").remote()
assert ray.get(kept.increase.remote(), timeout=10) == 1
written = 0
while written < 20:
    put(written)
    written += 1
fill()
try:
    while written < 2000:
        put(written)
        written += 1
    raise SystemExit("the disk was never full")
except RaySystemError as error:
    print("REFUSED", error)
# What runs goes on, and so does what dies.
assert ray.get(kept.increase.remote(), timeout=10) == 2
assert ray.get(ray.remote(lambda: 7).remote(), timeout=20) == 7
os.kill(ray.get(kept.pid.remote(), timeout=10), signal.SIGKILL)
deadline = time.monotonic() + 20
while ray.get(kept.increase.remote(), timeout=20) > 2:
    assert time.monotonic() < deadline
try:
    Counter.options(name="new").remote()
    raise SystemExit("a name was promised")
except RaySystemError as error:
    print("NO ACTOR", error)
try:
    ray.get(Counter.remote().increase.remote(), timeout=20)
    raise SystemExit("an actor was promised")
except ray.exceptions.ActorDiedError as error:
    print("DEAD", " ".join(str(error).split()))
print("STATUS", os.popen("PYTHON -m raybook.cli status").read())
# Room again: it is found without anybody's help.
ballast.unlink()
deadline = time.monotonic() + 10
while True:
    try:
        put(written)
        written += 1
        break
    except RaySystemError:
        assert time.monotonic() < deadline, "the store was not tried again"
        time.sleep(0.1)
assert ray.get(Counter.options(name="new").remote().increase.remote(), timeout=20) == 1
# And nothing that was acknowledged is lost.
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        words = path.read_bytes().split(b"\\0")
    except OSError:
        continue
    if b"raybook.gcs.main" in words:
        os.kill(int(path.parent.name), signal.SIGKILL)
found = [started_engine().gcs_call("KvGet", KvGet("ns", b"%d" % number)).value for number in range(written)]
assert found == [bytes(2000)] * written
assert ray.get(ray.get_actor("kept").increase.remote(), timeout=20) >= 1
print("DONE", written)
"""


def test_full_disk_stops_promises_and_nothing_that_runs_and_nothing_acknowledged_is_lost():
    with Network() as network:
        host = network.add_host()
        host.run("mkdir", "-p", "/tmp/small")
        host.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", "/tmp/small")
        host.raybook("start", "--head", "--port", "0", "--num-cpus", "2", "--store", "sqlite:/tmp/small/gcs.sqlite")
        printed = host.python(PROGRAM.replace("PYTHON", sys.executable), timeout_s=100)
    lines = {line.partition(" ")[0]: line for line in printed.splitlines()}
    for word in ("REFUSED", "NO", "DEAD"):
        assert "database or disk is full. Make room on the file system of /tmp/small" in lines[word], printed
    assert "waiting: The GCS's store /tmp/small/gcs.sqlite cannot be written" in printed
    assert int(lines["DONE"].split()[1]) > 20
