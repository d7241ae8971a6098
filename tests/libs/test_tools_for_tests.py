"""raybook._private.test_utils: tests written for Ray find their tools here, and they do what those do."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

import pytest

import raybook as ray
from raybook._common import test_utils as common
from raybook._private import test_utils as tools
from raybook._private.worker import global_worker

pytestmark = pytest.mark.usefixtures("four_cpus")


def test_a_signal_lets_waiters_go_and_counts_them():
    signal = tools.SignalActor.remote()
    waiting = [signal.wait.remote() for _ in range(2)]
    tools.wait_for_condition(lambda: ray.get(signal.cur_num_waiters.remote()) == 2)
    assert ray.get(signal.wait.remote(should_wait=False)) is None
    ray.get(signal.send.remote(clear=True))
    ray.get(waiting)
    late = signal.wait.remote()
    assert ray.wait([late], timeout=0.05) == ([], [late])
    ray.get(signal.send.remote())
    ray.get(late)


def test_a_semaphore_has_so_many_places():
    semaphore = tools.Semaphore.options(name="places").remote(value=1)
    ray.get(semaphore.acquire.remote())
    assert ray.get(semaphore.locked.remote())
    second = semaphore.acquire.remote()
    assert ray.wait([second], timeout=0.05) == ([], [second])
    ray.get(semaphore.release.remote())
    ray.get(second)


def test_a_condition_that_is_never_met_says_what_it_raised_last():
    def broken(what):
        raise OSError(what)

    with pytest.raises(RuntimeError, match="(?s)wasn't met.*Last exception:.*no disk"):
        tools.wait_for_condition(broken, timeout=0.05, retry_interval_ms=10, what="no disk")
    with pytest.raises(OSError):
        tools.wait_for_condition(broken, raise_exceptions=True, what="no disk")

    async def is_three(numbers):
        numbers.append(0)
        return len(numbers) == 3

    asyncio.run(tools.async_wait_for_condition(is_three, retry_interval_ms=1, numbers=[]))
    with pytest.raises(RuntimeError, match="wasn't met"):
        asyncio.run(tools.async_wait_for_condition(lambda: False, timeout=0.05, retry_interval_ms=10))


def test_an_assertion_is_waited_for_and_raised_in_the_end():
    seen = []

    def holds(at_least):
        seen.append(0)
        assert len(seen) >= at_least

    tools.wait_for_assertion(holds, retry_interval_ms=1, at_least=3)
    with pytest.raises(AssertionError):
        tools.wait_for_assertion(holds, timeout=0.02, retry_interval_ms=10, at_least=1000)
    assert tools.wait_until_succeeded_without_exception(holds, (AssertionError,), 1)
    assert not tools.wait_until_succeeded_without_exception(holds, (AssertionError,), 1000, timeout_ms=20)


@pytest.mark.slow
def test_a_script_runs_as_a_driver_of_its_own():
    assert tools.run_string_as_driver("import sys; print('out'); print('err', file=sys.stderr)") == "out\nerr\n"
    assert tools.run_string_as_driver_stdout_stderr("import sys; print('out')") == ("out\n", "")
    with pytest.raises(subprocess.CalledProcessError):
        tools.run_string_as_driver("raise SystemExit(3)")
    with pytest.raises(subprocess.TimeoutExpired):
        tools.run_string_as_driver("import time; time.sleep(60)", timeout=0.3)
    process = tools.run_string_as_driver_nonblocking("import time; print('up', flush=True); time.sleep(60)")
    assert process.stdout.readline() == b"up\n"
    process.kill()
    tools.wait_for_pid_to_exit(process.pid)
    process.communicate()


def test_processes_are_waited_for():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tools.wait_for_children_of_pid(os.getpid(), 1)
    with pytest.raises(TimeoutError, match=str(child.pid)):
        tools.wait_for_pid_to_exit(child.pid, timeout=0.1)
    child.communicate(b"\n")
    tools.wait_for_pid_to_exit(child.pid)
    assert tools.check_call_subprocess([sys.executable, "-c", "print(1)"], capture_stdout=True) == b"1\n"


@pytest.mark.slow
def test_the_command_line_and_servers_are_reached():
    assert b"raybook" in tools.check_call_ray(["--help"], capture_stdout=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert tools.wait_until_server_available(address)
    assert not tools.wait_until_server_available(address, timeout_ms=50)


def test_actors_are_counted_and_killed():
    @ray.remote(num_cpus=0)
    class Idle:
        pass

    actor = Idle.remote()
    ray.get(actor.__ray_ready__.remote())
    tools.wait_for_num_actors(1, "ALIVE")
    assert tools.get_actor_node_id(actor) == ray.get_runtime_context().get_node_id()
    tools.kill_actor_and_wait_for_failure(actor)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(actor.__ray_ready__.remote())
    with pytest.raises(TimeoutError):
        tools.wait_for_num_actors(10_000, timeout=0.1)


def test_groups_that_are_removed_leave_nothing_behind():
    groups = [ray.util.placement_group([{"CPU": 1}]) for _ in range(2)]
    ray.get([group.ready() for group in groups])
    tools.placement_group_assert_no_leak(groups)
    assert all(tools.is_placement_group_removed(group) for group in groups)
    assert tools.no_resource_leaks_excluding_node_resources()


def test_a_batch_queue_gives_several_items_at_once():
    items = tools.BatchQueue()
    for number in range(5):
        items.put(number)
    assert items.get_batch(batch_size=2) == [0, 1]
    assert items.get_batch(total_timeout=0) == [2, 3, 4]
    with pytest.raises(ray.util.queue.Empty):
        items.get_batch(batch_size=1, first_timeout=0.01)
    items.shutdown(force=True)


def test_small_tools(tmp_path):
    assert tools.same_elements([{1}, {2}], [{2}, {1}]) and not tools.same_elements([1], [1, 2])
    assert [ray.get(tools.put_object(3, use_ray_put=put)) for put in (True, False)] == [3, 3]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.log").touch()
    assert tools.recursive_fnmatch(str(tmp_path), "*.log") == [str(tmp_path / "sub" / "a.log")]
    with tools.chdir(str(tmp_path)):
        assert os.getcwd() == str(tmp_path)
    assert os.getcwd() != str(tmp_path) and tools.get_current_unused_port() > 0
    timer = common.FakeTimer(10)
    timer.advance(5)
    assert timer.time() == 15


def test_the_worker_object_tells_who_this_is():
    assert global_worker.connected and global_worker.mode == ray.SCRIPT_MODE
    assert global_worker.current_job_id.hex() == ray.get_runtime_context().get_job_id()
    seen = ray.get(ray.remote(lambda: (global_worker.mode, global_worker.worker_id.hex())).remote())
    assert seen[0] == ray.WORKER_MODE and seen[1] != global_worker.worker_id.hex()


@pytest.mark.slow
def test_nodes_other_than_the_drivers_are_told_apart():
    code = """
import raybook as ray
from raybook._private import test_utils as tools
from raybook.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
other = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)
assert tools.get_other_nodes(cluster) == tools.get_non_head_nodes(cluster) == [other]
assert tools.get_other_nodes(cluster, exclude_head=True) == [other]
ray.shutdown()
cluster.shutdown()
"""
    tools.run_string_as_driver(code)
