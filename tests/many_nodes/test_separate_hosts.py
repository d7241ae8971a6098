"""Three "machines" that share nothing: no folder, no process, no network but the cable between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.many_nodes.hosts import Host, Network, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

CONNECT = """
import time, numpy, raybook as ray
ray.init(address="{address}", log_to_driver=False)
@ray.remote
def where(seconds=0.0):
    time.sleep(seconds)
    return ray.get_runtime_context().get_node_id()
"""

KILL_GCS = (
    "for each in /proc/[0-9]*; do grep -qs raybook[.]gcs[.]main $each/cmdline && kill -KILL ${each#/proc/}; done; true"
)
"""The brackets keep the pattern from finding itself."""


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[list[Host], str]]:
    with Network() as network:
        head = network.add_host()
        head.raybook("start", "--head", "--host", head.ip, "--port", "6379", "--num-cpus", "2")
        address = f"{head.ip}:6379"
        token = head.run("sh", "-c", "cat /tmp/s/*/token | base64")
        for number in (1, 2):
            host = network.add_host()
            host.run("sh", "-c", "base64 -d > /tmp/token", stdin=token)
            named = f'{{"host{number}": 1}}'
            joining = ["start", "--address", address, "--host", host.ip, "--token-file", "/tmp/token"]
            host.raybook(*joining, "--num-cpus", "2", "--resources", named)
        yield network.hosts, address


def test_tasks_use_all_hosts_from_a_driver_on_the_head(three: tuple[list[Host], str]):
    hosts, address = three
    program = CONNECT + "print(len(set(ray.get([where.remote(0.5) for _ in range(6)], timeout=30))))"
    assert hosts[0].python(program.format(address=address)) == "3\n"


def test_a_driver_on_another_host_finds_the_cluster_through_the_node_that_joined_there(three: tuple[list[Host], str]):
    hosts, address = three
    program = CONNECT + "print(len(ray.nodes()), len(set(ray.get([where.remote(0.5) for _ in range(6)], timeout=30))))"
    assert hosts[1].python(program.format(address=address)) == "3 3\n"


def test_five_hundred_megabytes_cross_the_cable_and_arrive_whole(three: tuple[list[Host], str]):
    hosts, address = three
    program = (
        CONNECT
        + """
@ray.remote(resources={{"host1": 1}}, num_cpus=0)
def make():
    return numpy.arange(62_500_000)
@ray.remote(resources={{"host2": 1}}, num_cpus=0)
def check(array):
    return bool((numpy.diff(array) == 1).all()), array.nbytes
made = make.remote()
print(ray.get(check.remote(made), timeout=60), int(ray.get(made, timeout=60)[-1]))
"""
    )
    assert hosts[0].python(program.format(address=address), 120) == "(True, 500000000) 62499999\n"


def test_the_gcs_is_killed_in_the_middle_of_a_sweep_and_every_result_is_right(three: tuple[list[Host], str]):
    hosts, address = three
    program = (
        CONNECT
        + """
@ray.remote
def trial(number):
    time.sleep(0.2)
    return numpy.full(100_000, number)
@ray.remote(num_cpus=0)
class Counter:
    count = 0
    def increase(self):
        self.count += 1
        return self.count
kept = Counter.options(name="kept", resources={{"host1": 0.1}}).remote()
assert ray.get(kept.increase.remote(), timeout=30) == 1
refs = [trial.remote(number) for number in range(40)]
ray.wait(refs, num_returns=5, timeout=30)
print("go", flush=True)
assert [ray.get(kept.increase.remote(), timeout=30) for _ in range(100)] == list(range(2, 102))
fresh = Counter.options(resources={{"host2": 0.1}}).remote()
assert ray.get(fresh.increase.remote(), timeout=30) == 1
assert ray.get(ray.get_actor("kept").increase.remote(), timeout=30) == 102
print([int(array[0]) for array in ray.get(refs, timeout=60)] == list(range(40)), len(ray.nodes()))
"""
    )
    running = hosts[0].start_python(program.format(address=address))
    assert running.stdout is not None
    assert running.stdout.readline() == "go\n"
    hosts[0].run("sh", "-c", KILL_GCS)
    assert running.stdout.read() == "True 3\n"
    assert running.wait(30) == 0


def test_a_host_loses_its_power_in_the_middle_of_a_sweep_and_every_result_is_right(three: tuple[list[Host], str]):
    hosts, address = three
    program = (
        CONNECT
        + """
@ray.remote(max_retries=-1)
def trial(number):
    time.sleep(0.3)
    return numpy.full(100_000, number)
refs = [trial.remote(number) for number in range(40)]
ready, _ = ray.wait(refs, num_returns=10, timeout=30)
print("go", flush=True)
print([int(array[0]) for array in ray.get(refs, timeout=90)] == list(range(40)))
"""
    )
    running = hosts[0].start_python(program.format(address=address))
    assert running.stdout is not None
    assert running.stdout.readline() == "go\n"
    hosts[2].pull_the_plug()
    assert running.stdout.read() == "True\n"
    assert running.wait(30) == 0
