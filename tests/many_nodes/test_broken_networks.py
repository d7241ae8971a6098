"""Hosts that vanish without a word, networks that break between two of them, and what holds all the same."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.many_nodes.hosts import Host, Network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

PROGRAM = """
import os, time, numpy, raybook as ray
from raybook.exceptions import *
from raybook.util.scheduling_strategies import NodeAffinitySchedulingStrategy
ray.init(address="{address}", log_to_driver=False)

@ray.remote(num_cpus=0)
class Holder:
    def __init__(self):
        self.kept = None
    def pid(self):
        return ray.get_runtime_context().get_node_id()
    def put(self):
        # Owned by this actor; whoever gets it borrows it.
        self.kept = ray.put(numpy.arange(300_000))
        return [self.kept]

@ray.remote(max_retries=-1)
def where(seconds=0.0):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()

@ray.remote(num_cpus=0, max_retries=-1)
def make(number):
    return numpy.full(300_000, number)

def say(*words):
    print(*words, flush=True)

def outcome(ref, timeout=40):
    begin = time.monotonic()
    try:
        value = ray.get(ref, timeout=timeout)
        return "value", value, time.monotonic() - begin
    except GetTimeoutError:
        return "HANG", None, time.monotonic() - begin
    except Exception as error:
        return type(error).__name__.split("(")[0], str(error), time.monotonic() - begin
"""


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[list[Host], str]]:
    """A head with one CPU, and two hosts with two CPUs and a resource of their own each. Nodes are dead after 1.5 s. The
    last test loses one of them."""
    with Network() as network:
        head = network.add_host()
        head.raybook("start", "--head", "--host", head.ip, "--port", "6379", "--num-cpus", "1")
        address = f"{head.ip}:6379"
        token = head.run("sh", "-c", "cat /tmp/s/*/token | base64")
        for number in (1, 2):
            host = network.add_host()
            host.run("sh", "-c", "base64 -d > /tmp/token", stdin=token)
            named = f'{{"host{number}": 1}}'
            joining = ["start", "--address", address, "--host", host.ip, "--token-file", "/tmp/token"]
            host.raybook(*joining, "--num-cpus", "2", "--resources", named)
        yield network.hosts, address


def lines_until(running, last: str) -> list[str]:
    """What it prints, up to a line. AssertionError with everything when it ends before."""
    lines: list[str] = []
    for line in running.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == last:
            return lines
    raise AssertionError("\n".join(lines))


def test_a_network_that_breaks_between_two_nodes_is_worked_around_and_used_again_when_it_is_whole(
    three: tuple[list[Host], str],
):
    """Host 1 and host 2 do not hear each other; the head hears both, so nobody is dead."""
    hosts, address = three
    program = (
        PROGRAM.format(address=address)
        + """
there = {"host2": 0.01}
holder = Holder.options(resources=there).remote()
node = ray.get(holder.pid.remote(), timeout=30)
made = make.options(resources=there).remote(3)
ray.wait([made], timeout=30)
hard = NodeAffinitySchedulingStrategy(node, soft=False)
assert ray.get(where.options(scheduling_strategy=hard).remote(), timeout=30) == node
slow = [where.options(scheduling_strategy="SPREAD").remote(2.0) for _ in range(5)]
time.sleep(0.3)
say("go")
while not os.path.exists("/tmp/go"):
    time.sleep(0.01)
kind, text, seconds = outcome(holder.pid.remote()); say("call", kind, "cannot be reached" in str(text), seconds < 20)
say("tasks", [outcome(ref)[0] for ref in slow])
kind, array, seconds = outcome(made)
say("made", kind, int(array.sum()), seconds < 20)
kind, text, _ = outcome(where.options(scheduling_strategy=hard).remote())
say("hard", kind, "cannot be reached" in str(text))
say("alive", all(row["Alive"] for row in ray.nodes()))
say("parted")
deadline = time.monotonic() + 40
while time.monotonic() < deadline:
    kind, value, _ = outcome(where.options(scheduling_strategy=hard).remote())
    if kind == "value":
        break
    time.sleep(0.2)
say("healed", kind, value == node)
say("call", outcome(holder.pid.remote())[:2] == ("value", node))
say("end")
"""
    )
    running = hosts[1].start_python(program)
    lines_until(running, "go")
    hosts[1].part_from(hosts[2])
    hosts[1].run("touch", "/tmp/go")
    said = lines_until(running, "parted")
    assert said == [
        "call ActorUnavailableError True True",
        "tasks ['value', 'value', 'value', 'value', 'value']",
        "made value 900000 True",
        "hard TaskUnschedulableError True",
        "alive True",
        "parted",
    ]
    hosts[1].meet(hosts[2])
    assert lines_until(running, "end") == ["healed value True", "call True", "end"]
    assert running.wait(30) == 0


def test_a_host_whose_cable_is_pulled_is_dead_in_time_and_leaves_when_it_is_plugged_in_again(
    three: tuple[list[Host], str],
):
    """No connection of it is closed: everything must come from silence. All that waits for it goes on or says why."""
    hosts, address = three
    program = (
        PROGRAM.format(address=address)
        + """
lost = {"host2": 0.01}
holder = Holder.options(resources=lost).remote()
mover = Holder.options(resources=lost, max_restarts=1, max_task_retries=3).remote()
node = ray.get(holder.pid.remote(), timeout=30)
assert ray.get(mover.pid.remote(), timeout=30) == node
(borrowed,) = ray.get(holder.put.remote(), timeout=30)
soft = NodeAffinitySchedulingStrategy(node, soft=True)
made = make.options(scheduling_strategy=soft).remote(7)
ray.wait([made], timeout=30)
slow = [where.remote(1.5) for _ in range(5)]
time.sleep(0.3)
say("go")
while not os.path.exists("/tmp/go"):
    time.sleep(0.01)
begin = time.monotonic()
kind, text, _ = outcome(holder.pid.remote())
say("call", kind, node in text)
kind, nodes, _ = outcome(slow[0]); say("task", kind)
say("tasks", all(outcome(ref)[0] == "value" for ref in slow))
kind, array, _ = outcome(made); say("made", kind, int(array.sum()))
kind, text, _ = outcome(borrowed); say("borrowed", kind, node in str(text), "1.5 s" in str(text) or "answered" in str(text))
say("late", time.monotonic() - begin < 25)
say([row["Alive"] for row in ray.nodes() if row["NodeID"] == node])
say("end")
"""
    )
    running = hosts[0].start_python(program)
    lines_until(running, "go")
    hosts[2].unplug_the_cable()
    hosts[0].run("touch", "/tmp/go")
    said = lines_until(running, "end")
    assert said == [
        "call ActorDiedError True",
        "task value",
        "tasks True",
        "made value 2100000",
        "borrowed OwnerDiedError True True",
        "late True",
        "[False]",
        "end",
    ]
    assert running.wait(30) == 0
    assert hosts[2].processes("raybook")
    hosts[2].plug_it_in_again()
    deadline = time.monotonic() + 20
    while left := hosts[2].processes("raybook"):
        assert time.monotonic() < deadline, f"Processes {left} of the fenced node still run."
        time.sleep(0.1)
