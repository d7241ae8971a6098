"""Synchronous calls: the thread that waits turns the I/O loop itself; nothing is torn, lost or left lying by that."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import raybook as ray
from raybook.api.context import current_runtime
from tests.interrupts import repeat_under_interrupts

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.raybook_only, pytest.mark.timeout(30)]

INTERRUPTS = 1000


def core():
    return current_runtime.engine._core


def waits_of(thread_id: int) -> int:
    """How often a thread of this process has gone to sleep."""
    with open(f"/proc/self/task/{thread_id}/status") as status:
        for line in status:
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    raise AssertionError(f"thread {thread_id} tells no context switches")


def on_the_loop(function: Callable[[], object]) -> object:
    """What a function returns or raises when run between two turns of the I/O loop."""
    done = threading.Event()
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(function())
        except AssertionError as error:
            outcome.append(error)
        done.set()

    core().submit_call(run)
    assert done.wait(5.0), "the I/O loop stands still"
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def check_owner() -> None:
    on_the_loop(core().owner.check_invariants)


@ray.remote
def same(value):
    return value


@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count


@ray.remote(num_cpus=0)
class Loop:
    async def same(self, value):
        return value

    async def nested(self, value):
        return ray.get(same.remote(value))

    async def awaited(self, value):
        return await same.remote(value)

    async def block(self, seconds):
        time.sleep(seconds)
        return "done"


def test_a_sync_loop_leaves_the_io_thread_asleep():
    counter = Counter.remote()
    for _ in range(200):
        ray.get(counter.add.remote())
    io_thread = core()._thread.native_id
    begin, begin_s = waits_of(io_thread), time.monotonic()
    for _ in range(500):
        ray.get(counter.add.remote())
    wakes = waits_of(io_thread) - begin
    # It looks every 2 ms whether somebody leads; two wake-ups a call would be a thousand.
    allowed = 250 + 2 * (time.monotonic() - begin_s) / 0.002
    assert wakes < min(allowed, 700), wakes


def test_interrupts_into_a_sync_loop_tear_nothing():
    counter = Counter.remote()
    ray.get(counter.add.remote())

    def call(number: int) -> None:
        if number % 2:
            ray.get(counter.add.remote())
        else:
            assert ray.get(same.remote(number)) == number

    seen = repeat_under_interrupts(call, count=INTERRUPTS, pause_s_max=0.003)
    assert seen.interrupted > INTERRUPTS // 2
    assert ray.get(same.remote("after"), timeout=5) == "after"
    assert ray.get(counter.add.remote(), timeout=5) > 1
    check_owner()
    assert not core().lost_reason


def test_an_interrupt_ends_a_wait_that_leads_at_once():
    gate = threading.Event()
    for _ in range(20):
        ray.get(same.remote(1))

    def send() -> None:
        gate.wait(5)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    @ray.remote
    def hang():
        time.sleep(20)

    thread = threading.Thread(target=send)
    thread.start()
    ref = hang.remote()
    gate.set()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ray.get(ref)
    took_s = time.monotonic() - begin
    thread.join()
    ray.cancel(ref)
    assert took_s < 10.0
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=5)


def test_a_signal_whose_handler_returns_ends_no_wait():
    @ray.remote
    def slow():
        time.sleep(0.3)
        return "slept"

    for _ in range(20):
        ray.get(same.remote(1))
    seen: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    main = threading.main_thread().ident
    timers = [threading.Timer(after_s, signal.pthread_kill, (main, signal.SIGUSR1)) for after_s in (0.05, 0.1, 0.15)]
    try:
        for timer in timers:
            timer.start()
        assert ray.get(slow.remote()) == "slept"
    finally:
        for timer in timers:
            timer.join()
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1] * 3


def test_threads_that_wait_at_once_all_get_their_own():
    counters = [Counter.remote() for _ in range(2)]

    def work(index: int) -> list[int]:
        return [ray.get(same.remote((index, step))) for step in range(100)]

    def count(counter) -> int:
        for _ in range(100):
            last = ray.get(counter.add.remote())
        return last

    with ThreadPoolExecutor(6) as pool:
        tasks = [pool.submit(work, index) for index in range(4)]
        counts = [pool.submit(count, counter) for counter in counters]
        assert [task.result(20) for task in tasks] == [[(index, step) for step in range(100)] for index in range(4)]
        assert [each.result(20) for each in counts] == [100, 100]
    check_owner()


def test_a_thread_that_leads_hands_over_when_its_value_has_come(gate: object):
    slow, quick = gate.wait.remote(), None
    with ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            ray.get(same.remote(1))
        waiting = pool.submit(ray.get, slow)
        for _ in range(50):
            quick = ray.get(same.remote(2), timeout=5)
        ray.get(gate.open.remote(), timeout=5)
        waiting.result(5)
    assert quick == 2


def test_what_is_submitted_after_a_sync_loop_leaves_without_a_further_call():
    counter = Counter.remote()
    for _ in range(50):
        ray.get(counter.add.remote())
    counter.add.remote()
    # Nothing here waits, or turns the loop, until the deadline of the look below.
    queue = core().owner.tasks.tasks
    deadline = time.monotonic() + 5
    time.sleep(0.05)
    while (core().queue or queue) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not core().queue
    assert not queue
    assert ray.get(counter.add.remote()) == 52


def test_a_fork_while_another_thread_leads_harms_neither(gate: object):
    with ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            pool.submit(lambda: ray.get(same.remote(1))).result(5)
        waiting = pool.submit(ray.get, gate.wait.remote())
        time.sleep(0.02)
        pid = os.fork()
        if pid == 0:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert ray.get(same.remote("parent"), timeout=5) == "parent"
        ray.get(gate.open.remote(), timeout=5)
        waiting.result(5)
    check_owner()


def test_a_task_that_computes_is_cancelled_within_a_fraction_of_a_second(gate: object):
    @ray.remote
    def compute(gate):
        ray.get(gate.arrive.remote())
        number = 0
        while True:
            number += 1

    for _ in range(20):
        ray.get(same.remote(1))
    ref = compute.remote(gate)
    ray.get(gate.arrived.remote(1), timeout=10)
    begin = time.monotonic()
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(ref, timeout=5)
    assert time.monotonic() - begin < 4.0, "Its thread was not interrupted: it ended some other way."


def test_cancelling_tasks_that_wait_inside_a_worker_tears_none_of_them(gate: object):
    @ray.remote(num_cpus=0)
    def inner(gate):
        ray.get(gate.wait.remote())

    @ray.remote
    def outer(gate):
        ray.get(inner.remote(gate))

    for _ in range(10):
        ref = outer.remote(gate)
        with pytest.raises(ray.exceptions.GetTimeoutError):
            ray.get(ref, timeout=0.03)
        ray.cancel(ref, recursive=False)
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=5)
    assert ray.get([same.remote(index) for index in range(20)], timeout=10) == list(range(20))
    ray.get(gate.open.remote())


def test_an_async_actor_answers_sync_calls_in_bursts_and_after_rests():
    actor = Loop.remote()
    for rest_s in (0.0, 0.001, 0.004, 0.02, 0.1):
        for value in range(40):
            assert ray.get(actor.same.remote(value), timeout=5) == value
        time.sleep(rest_s)
    assert ray.get([actor.same.remote(value) for value in range(500)], timeout=10) == list(range(500))


def test_a_coroutine_may_wait_for_tasks_while_its_loop_reads_the_sockets():
    actor = Loop.remote()
    for value in range(60):
        assert ray.get(actor.same.remote(value), timeout=5) == value
    for value in range(10):
        assert ray.get(actor.nested.remote(value), timeout=5) == value
        assert ray.get(actor.awaited.remote(value), timeout=5) == value
        assert ray.get(actor.same.remote(value), timeout=5) == value


def test_an_async_actor_whose_loop_is_blocked_can_still_be_told_of_a_cancelled_call():
    actor = Loop.remote()
    for value in range(60):
        ray.get(actor.same.remote(value), timeout=5)
    blocked = actor.block.remote(0.4)
    behind = actor.block.remote(20)
    ray.cancel(behind)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        ray.get(behind, timeout=5)
    assert ray.get(blocked, timeout=5) == "done"
    assert ray.get(actor.same.remote("after"), timeout=5) == "after"


def test_a_blocked_event_loop_holds_up_no_end_of_its_actor():
    actor = Loop.remote()
    for value in range(60):
        ray.get(actor.same.remote(value), timeout=5)
    blocked = actor.block.remote(20)
    time.sleep(0.05)
    begin = time.monotonic()
    ray.kill(actor)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(blocked, timeout=5)
    assert time.monotonic() - begin < 2.0


@ray.remote(num_cpus=0)
class Starter:
    """Starts threads that wait."""

    def start(self, gate):
        """Start a thread that waits, and say whether it turns the I/O loop meanwhile."""

        def work() -> None:
            for _ in range(40):
                ray.get(gate.count.remote())
            is_waiting.set()
            ray.get(gate.wait.remote())

        is_waiting = threading.Event()
        for _ in range(10):
            thread = threading.Thread(target=work)
            thread.start()
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                if core().baton.leader == thread.ident and is_waiting.is_set():
                    return "leads"
                time.sleep(0.001)
        return "never led"

    def ping(self):
        return "pong"


def test_a_thread_that_leads_in_a_worker_holds_up_no_further_call(gate: object):
    actor = Starter.remote()
    # Then the main thread is done, and wants to turn the loop until there is a call.
    assert ray.get(actor.start.remote(gate), timeout=10) == "leads"
    for _ in range(20):
        assert ray.get(actor.ping.remote(), timeout=5) == "pong"
    ray.get(gate.open.remote(), timeout=5)


def test_a_sync_loop_leads_again_after_a_burst():
    for _ in range(50):
        ray.get(same.remote(1))
    ray.get([same.remote(index) for index in range(300)])
    for _ in range(50):
        ray.get(same.remote(1))

    before = core().baton.turns
    for _ in range(200):
        ray.get(same.remote(1))

    # One a call; a few find the I/O thread leading, which looks every few milliseconds whether anybody does.
    assert core().baton.turns - before > 100


@ray.remote(num_cpus=0)
class Server:
    """An async actor with sockets, timers and threads of its own."""

    def __init__(self):
        self.heard = []

    async def serve(self):
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return server.sockets[0].getsockname()[1]

    async def _answer(self, reader, writer):
        while line := await reader.readline():
            self.heard.append(line)
            writer.write(line.upper())
            await writer.drain()

    async def in_a_thread(self):
        return await asyncio.to_thread(threading.get_ident) != threading.get_ident()

    async def rest(self, seconds):
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        return time.monotonic() - begin

    async def count(self):
        return len(self.heard)


def test_sockets_timers_and_threads_of_an_async_actor_go_on_while_its_loop_reads_the_calls():
    actor = Server.remote()
    port = ray.get(actor.serve.remote(), timeout=5)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for number in range(1, 60):
            # In turn, at once, and with nothing between: each wakes a loop that sleeps for the other.
            connection.sendall(b"line\n")
            if number % 3:
                assert ray.get(actor.count.remote(), timeout=5) <= number
            assert connection.recv(100) == b"LINE\n"
            assert ray.get(actor.count.remote(), timeout=5) == number
    assert ray.get(actor.in_a_thread.remote(), timeout=5)
    rests = [actor.rest.remote(seconds) for seconds in (0.02, 0.001, 0.05)]
    for _ in range(100):
        ray.get(actor.count.remote(), timeout=5)
    assert all(took_s < 2.0 for took_s in ray.get(rests, timeout=5))
