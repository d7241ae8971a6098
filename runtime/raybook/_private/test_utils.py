"""More tools for tests: processes, actors and nodes, waited for; the rest of what tests written for Ray import from here.

Names, parameters and failures are those of Ray's ``ray._private.test_utils``. Those that look into Ray's own daemons
(redis, the dashboard's agent, pubsub of errors) have nothing here to look into, and are absent.
"""

from __future__ import annotations

import fnmatch
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from raybook._common.test_utils import (
    DRIVER_TIMEOUT_S,
    FakeTimer,
    Semaphore,
    SignalActor,
    async_wait_for_condition,
    driver_command,
    run_string_as_driver,
    wait_for_condition,
)
from raybook.api import (
    ActorHandle,
    available_resources,
    cluster_resources,
    get,
    get_runtime_context,
    kill,
    put,
    remote,
)
from raybook.util.placement_group import placement_group_table, remove_placement_group
from raybook.util.queue import Queue
from raybook.util.state import get_actor, list_actors

LOOK_S = 0.1


def _wait_until(is_so: Callable[[], bool], timeout_s: float) -> bool:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(LOOK_S)
    return is_so()


# Processes


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_pid_to_exit(pid: int, timeout: float = 20) -> None:
    """TimeoutError when the process lives on."""
    if not _wait_until(lambda: not _is_alive(pid), timeout):
        raise TimeoutError(f"Timed out while waiting for process {pid} to exit.")


def wait_for_children_of_pid(pid: int, num_children: int = 1, timeout: float = 20) -> None:
    """TimeoutError when the process has fewer children then."""
    parent = psutil.Process(pid)
    if not _wait_until(lambda: len(parent.children()) >= num_children, timeout):
        raise TimeoutError(
            f"Timed out while waiting for process {pid} children to start "
            f"({len(parent.children())}/{num_children} started)."
        )


def wait_for_children_of_pid_to_exit(pid: int, timeout: float = 20) -> None:
    """TimeoutError when some of the children it has now live on."""
    _, alive = psutil.wait_procs(psutil.Process(pid).children(), timeout=timeout)
    if alive:
        raise TimeoutError(f"Timed out while waiting for process children to exit. Still alive: {alive}.")


def check_call_subprocess(argv: list[str], capture_stdout: bool = False, capture_stderr: bool = False) -> Any:
    """Run a command; CalledProcessError when it fails. What was captured: stdout, stderr or both in a pair."""
    done = subprocess.run(
        argv,
        check=True,
        stdout=subprocess.PIPE if capture_stdout else None,
        stderr=subprocess.PIPE if capture_stderr else None,
    )
    captured = [part for part in (done.stdout, done.stderr) if part is not None]
    return captured[0] if len(captured) == 1 else tuple(captured) or None


def check_call_ray(args: list[str], capture_stdout: bool = False, capture_stderr: bool = False) -> Any:
    """``check_call_subprocess`` of the command line: ``check_call_ray(["status"])``."""
    return check_call_subprocess([sys.executable, "-m", "raybook.cli", *args], capture_stdout, capture_stderr)


def wait_until_server_available(address: str, timeout_ms: float = 5000, retry_interval_ms: float = 100) -> bool:
    """Whether somebody accepts connections at ``host:port`` by then."""
    host, _, port = address.rpartition(":")

    def answers() -> bool:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    return _wait_until(answers, timeout_ms / 1000)


def run_string_as_driver_stdout_stderr(
    driver_script: str,
    env: Mapping[str, str] | None = None,
    encode: str = "utf-8",
    timeout: float | None = DRIVER_TIMEOUT_S,
) -> tuple[str, str]:
    """As ``run_string_as_driver``, with the two streams apart."""
    done = subprocess.run(
        driver_command(env), input=driver_script.encode(encode), capture_output=True, env=env, timeout=timeout
    )
    out, err = (part.decode(encode, errors="replace") for part in (done.stdout, done.stderr))
    if done.returncode:
        print(out, err)
        raise subprocess.CalledProcessError(done.returncode, done.args, out, err)
    return out, err


def run_string_as_driver_nonblocking(
    driver_script: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a script in a process of its own; the caller ends it."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(driver_command(env), stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    assert process.stdin is not None
    process.stdin.write(driver_script.encode())
    process.stdin.close()
    process.stdin = None  # Or ``communicate`` would flush it.
    return process


# Actors, groups, nodes


def wait_for_num_actors(num_actors: int, state: str | None = None, timeout: float = 10) -> None:
    """TimeoutError when there are fewer (in that state) then."""
    filters = [("state", "=", state)] if state else None
    if not _wait_until(lambda: len(list_actors(filters=filters, limit=num_actors)) >= num_actors, timeout):
        raise TimeoutError("Timed out while waiting for global state.")


def kill_actor_and_wait_for_failure(actor: ActorHandle, timeout: float = 10, retry_interval_ms: float = 100) -> None:
    """Kill it, and wait until the cluster knows that it is dead or has begun another life. RuntimeError."""
    actor_id = actor._actor_id.hex()
    before = _life(actor_id)
    kill(actor)

    def is_gone() -> bool:
        state, restarts = _life(actor_id)
        return state == "DEAD" or restarts > before[1]

    if not _wait_until(is_gone, timeout):
        raise RuntimeError(f"It took too much time to kill an actor: {actor_id}")


def _life(actor_id: str) -> tuple[str, int]:
    row = get_actor(actor_id)
    return ("DEAD", 0) if row is None else (row.state, row.num_restarts or 0)


def get_actor_node_id(actor_handle: ActorHandle) -> str:
    """The node it runs on."""
    return get(actor_handle.__ray_call__.remote(lambda self: get_runtime_context().get_node_id()))


def is_placement_group_removed(pg: Any) -> bool:
    """Whether the cluster has it in state REMOVED."""
    return placement_group_table(pg).get("state") == "REMOVED"


def placement_group_assert_no_leak(pgs_created: Iterable[Any]) -> None:
    """Remove the groups, and wait until all resources are free again. RuntimeError."""
    for group in pgs_created:
        remove_placement_group(group)
    wait_for_condition(lambda: all(row["state"] == "REMOVED" for row in placement_group_table().values()))
    total = {name: amount for name, amount in cluster_resources().items() if "memory" not in name}

    def is_free() -> bool:
        now = available_resources()
        return all(now.get(name) == amount for name, amount in total.items()) and not any("_group_" in n for n in now)

    wait_for_condition(is_free)


def no_resource_leaks_excluding_node_resources() -> bool:
    """Whether everything is free, but for the nodes' own resources."""
    total, free = cluster_resources(), available_resources()
    return {n: v for n, v in total.items() if "node" not in n} == {n: v for n, v in free.items() if "node" not in n}


def get_other_nodes(cluster: Any, exclude_head: bool = False) -> list[Any]:
    """All nodes of a ``Cluster`` but the one this driver is on."""
    own = get_runtime_context().get_node_id()
    return [node for node in cluster.list_all_nodes() if node.node_id != own and not (exclude_head and node.is_head)]


def get_non_head_nodes(cluster: Any) -> list[Any]:
    """All nodes of a ``Cluster`` but its head."""
    return [node for node in cluster.list_all_nodes() if not node.is_head]


# Odds and ends


def wait_for_assertion(
    assertion_predictor: Callable[..., Any],
    timeout: float = 10,
    retry_interval_ms: float = 100,
    raise_exceptions: bool = False,
    **kwargs: Any,
) -> None:
    """Call it until it asserts nothing false; its AssertionError when the time is up."""

    def holds() -> bool:
        try:
            assertion_predictor(**kwargs)
        except AssertionError:
            return False
        return True

    try:
        wait_for_condition(holds, timeout, retry_interval_ms, raise_exceptions)
    except RuntimeError:
        assertion_predictor(**kwargs)


def wait_until_succeeded_without_exception(
    func: Callable[..., Any],
    exceptions: tuple[type[BaseException], ...],
    *args: Any,
    timeout_ms: float = 1000,
    retry_interval_ms: float = 100,
    raise_last_ex: bool = False,
) -> bool:
    """Call it until it raises none of the exceptions; whether it came to that. raise_last_ex: raise, instead of False."""
    end = time.monotonic() + timeout_ms / 1000
    last = ""
    while time.monotonic() <= end:
        try:
            func(*args)
            return True
        except exceptions:
            last = traceback.format_exc()
            time.sleep(retry_interval_ms / 1000)
    if raise_last_ex:
        raise Exception(f"Timed out while testing, {last}")
    return False


def same_elements(elems_a: Iterable[Any], elems_b: Iterable[Any]) -> bool:
    """Whether each is in the other; for what cannot be hashed."""
    first, second = list(elems_a), list(elems_b)
    return all(item in second for item in first) and all(item in first for item in second)


def put_object(obj: Any, use_ray_put: bool) -> Any:
    """A ref to it: put, or returned by a task."""
    return put(obj) if use_ray_put else remote(_return_it).remote(obj)


def _return_it(obj: Any) -> Any:
    return obj


def recursive_fnmatch(dirpath: str, pattern: str) -> list[str]:
    """Paths below a folder whose names match."""
    return [os.path.join(root, name) for root, _, names in os.walk(dirpath) for name in fnmatch.filter(names, pattern)]


def generate_system_config_map(**kwargs: Any) -> dict[str, Any]:
    """Settings of Ray's daemons, as ``init`` takes them (and raybook does not heed)."""
    return {"_system_config": kwargs}


def client_test_enabled() -> bool:
    """Whether tests run through a thin client."""
    return False


def object_memory_usage() -> float:
    """Bytes of the object store in use."""
    name = "object_store_memory"
    return cluster_resources().get(name, 0) - available_resources().get(name, 0)


def get_current_unused_port() -> int:
    """A port nobody uses at the moment."""
    with socket.create_server(("localhost", 0)) as listener:
        return listener.getsockname()[1]


@contextmanager
def chdir(d: str) -> Iterator[None]:
    """In that folder meanwhile."""
    before = os.getcwd()
    os.chdir(d)
    try:
        yield
    finally:
        os.chdir(before)


class BatchQueue(Queue):
    """A queue from which several items are taken in one call."""

    def get_batch(
        self, batch_size: int | None = None, total_timeout: float | None = None, first_timeout: float | None = None
    ) -> list[Any]:
        """Wait ``first_timeout`` seconds for the first item (Empty if none came), and then take up to ``batch_size`` that
        come within ``total_timeout``."""
        items = [self.get(timeout=first_timeout)]
        end = time.monotonic() + total_timeout if total_timeout is not None else None
        while batch_size is None or len(items) < batch_size:
            waiting = self.size()
            if waiting:
                wanted = waiting if batch_size is None else min(waiting, batch_size - len(items))
                items += self.get_nowait_batch(wanted)
            elif end is None or time.monotonic() >= end:
                break
            else:
                time.sleep(LOOK_S)
        return items


__all__ = [
    "BatchQueue",
    "FakeTimer",
    "Semaphore",
    "SignalActor",
    "async_wait_for_condition",
    "chdir",
    "check_call_ray",
    "check_call_subprocess",
    "client_test_enabled",
    "generate_system_config_map",
    "get_actor_node_id",
    "get_current_unused_port",
    "get_non_head_nodes",
    "get_other_nodes",
    "is_placement_group_removed",
    "kill_actor_and_wait_for_failure",
    "no_resource_leaks_excluding_node_resources",
    "object_memory_usage",
    "placement_group_assert_no_leak",
    "put_object",
    "recursive_fnmatch",
    "run_string_as_driver",
    "run_string_as_driver_nonblocking",
    "run_string_as_driver_stdout_stderr",
    "same_elements",
    "wait_for_assertion",
    "wait_for_children_of_pid",
    "wait_for_children_of_pid_to_exit",
    "wait_for_condition",
    "wait_for_num_actors",
    "wait_for_pid_to_exit",
    "wait_until_server_available",
    "wait_until_succeeded_without_exception",
]
