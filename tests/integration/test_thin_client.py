"""A driver on a machine without a node: it holds ids, a process of the head owns; lines break, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy
import pytest

import raybook as ray
from raybook.api import local_cluster, split_cluster
from raybook.api.context import current_runtime
from raybook.api.own_tasks import cancel_tasks, unfinished_tasks
from raybook.base.errors import SessionLostError
from raybook.engines.session import SessionEngine
from raybook.io.certificates import make_authority, make_member
from raybook.io.cluster_registry import ClusterRecord
from raybook.io.process import descendants
from raybook.protocol.messages.daemons import NodeAmounts
from tests.integration.cut_line import CutLine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[ClusterRecord]:
    """A head of the split form, with a port for thin clients."""
    ray.shutdown()
    record = split_cluster.start_head(NodeAmounts(num_cpus=4, num_gpus=0), session_port=0, metrics_port=None)
    yield record
    ray.shutdown()
    local_cluster.stop_cluster(record)


@pytest.fixture
def line(head: ClusterRecord) -> Iterator[CutLine]:
    line = CutLine(head.session_address)
    yield line
    line.close()


@pytest.fixture
def connect(head: ClusterRecord, line: CutLine) -> Iterator[Callable[..., object]]:
    """Connects this process through the line; leaves at the end."""

    def connect(**options: object) -> object:
        return ray.init(f"ray://{line.address}", token_file=head.token_file, **options)

    ray.shutdown()
    yield connect
    line.let_flow()
    line.open_again()
    if ray.is_initialized() and current_runtime.context.session is not None:
        current_runtime.context.session.end()
    ray.shutdown()
    until(lambda: not session_processes(head))


def engine() -> SessionEngine:
    found = current_runtime.engine
    assert isinstance(found, SessionEngine)
    return found


def session_processes(head: ClusterRecord) -> list[int]:
    found = []
    for pid in descendants(head.head_pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"raybook.session_process" in command:
            found.append(pid)
    return found


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


# --- what every driver does -------------------------------------------------------------------------------------------


def test_tasks_actors_and_objects_work_as_anywhere(connect):
    connect()

    @ray.remote
    def add(a, b):
        return a + b

    @ray.remote
    class Counter:
        def __init__(self):
            self.n = 0

        def up(self, by):
            self.n += by
            return self.n

    assert isinstance(current_runtime.engine, SessionEngine)
    assert ray.get(add.remote(1, add.remote(2, 3))) == 6
    counter = Counter.remote()
    assert ray.get([counter.up.remote(i) for i in range(5)]) == [0, 1, 3, 6, 10]
    ref = ray.put({"a": [1, 2]})
    assert ray.get(ref) == {"a": [1, 2]}
    ready, rest = ray.wait([add.remote(0, 0)], timeout=10)
    assert len(ready) == 1 and not rest


def test_large_values_travel_both_ways_and_come_back_read_only(connect):
    connect()
    array = numpy.arange(500_000, dtype=numpy.float64)
    ref = ray.put(array)

    @ray.remote
    def double(x):
        return x * 2

    doubled = ray.get(double.remote(ref))
    assert numpy.array_equal(doubled, array * 2)
    assert numpy.array_equal(ray.get(ref), array)
    assert not doubled.flags.writeable
    assert numpy.array_equal(ray.get(double.remote(array)), array * 2)


def test_references_travel_inside_values(connect):
    connect()

    @ray.remote
    def inner():
        return [ray.put(7)]

    (ref,) = ray.get(inner.remote())
    assert ray.get(ref) == 7

    @ray.remote
    def unwrap(refs):
        return ray.get(refs[0])

    assert ray.get(unwrap.remote([ray.put("x")])) == "x"


def test_errors_and_timeouts_are_the_users(connect):
    connect()

    @ray.remote
    def fail():
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        ray.get(fail.remote())

    @ray.remote
    def sleep():
        time.sleep(30)

    ref = sleep.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError, match="1 of 1 after 0.1 s"):
        ray.get(ref, timeout=0.1)
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0)
    ray.cancel(ref, force=True)
    with pytest.raises((ray.exceptions.TaskCancelledError, ray.exceptions.WorkerCrashedError)):
        ray.get(ref, timeout=20)


def test_a_timeout_of_zero_finds_what_is_ready_far_away(connect):
    connect()

    @ray.remote
    def one():
        return 1

    ref = one.remote()
    ray.wait([ref])
    engine()._core.owner.objects.values.clear()
    assert ray.get(ref, timeout=0) == 1


def test_streams_hand_out_items_as_they_are_made(connect):
    connect()

    @ray.remote
    def numbers():
        yield from range(20)

    assert [ray.get(ref) for ref in numbers.remote()] == list(range(20))


def test_names_groups_and_state_are_reached(connect):
    connect()

    @ray.remote(name="keeper", num_cpus=0)
    class Keeper:
        def word(self):
            return "kept"

    keeper = Keeper.remote()
    assert ray.get(ray.get_actor("keeper").word.remote()) == "kept"
    group = ray.util.placement_group([{"CPU": 1}])
    assert ray.get(group.ready(), timeout=10)
    ray.util.remove_placement_group(group)
    ray.kill(keeper)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(keeper.word.remote())
    assert ray.cluster_resources()["CPU"] == 4
    ref = ray.put("something")
    assert ref.hex() in {row["object_id"] for row in engine().memory()}


def test_workers_words_come_here(connect, capsys):
    connect()

    @ray.remote
    def speak():
        print("a word from afar")

    ray.get(speak.remote())
    ray.shutdown()
    assert "a word from afar" in capsys.readouterr().out


def test_logs_of_the_head_are_read_from_afar(connect, monkeypatch):
    connect()
    here = ray.util.state.list_logs()
    # As on a machine that does not have the head's folder
    monkeypatch.setattr(engine(), "session_dir", "/nowhere")
    assert ray.util.state.list_logs() == here
    lines = list(ray.util.state.get_log(filename="raylet.log", tail=5))
    assert isinstance(lines, list)
    with pytest.raises(ValueError, match="is no name of a log file"):
        engine().session.read_log("../token", 0, 100)


def test_an_interrupt_ends_a_wait_and_nothing_else(connect):
    connect()

    @ray.remote
    def slow():
        time.sleep(1.0)
        return "done"

    ref = slow.remote()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        ray.get(ref)
    assert ray.get(ref, timeout=20) == "done"


def test_a_small_call_is_not_held_up_by_a_large_value(connect):
    connect()
    big = ray.put(numpy.zeros(24 << 20, dtype=numpy.uint8))

    @ray.remote
    def one():
        return 1

    ray.get(one.remote())
    engine()._core.owner.objects.values.clear()
    done = threading.Event()

    def bring() -> None:
        ray.get(big)
        done.set()

    thread = threading.Thread(target=bring)
    thread.start()
    calls = 0
    while not done.is_set():
        assert ray.get(one.remote(), timeout=30) == 1
        calls += 1
    thread.join()
    assert calls >= 2


# --- lines that break -------------------------------------------------------------------------------------------------


def test_tasks_go_on_while_the_line_is_cut_and_none_runs_twice(connect, line, tmp_path):
    connect()
    log = str(tmp_path / "runs")

    @ray.remote
    def note(i):
        with open(log, "a") as file:
            file.write(f"{i}\n")
        return i

    refs = [note.remote(i) for i in range(50)]
    line.cut()
    refs += [note.remote(i) for i in range(50, 100)]
    line.cut()
    assert ray.get(refs, timeout=30) == list(range(100))
    assert sorted(map(int, Path(log).read_text().split())) == list(range(100))
    assert line.connections >= 2


def test_a_line_that_is_gone_for_seconds_loses_nothing(connect, line):
    connect()

    @ray.remote
    class Log:
        def __init__(self):
            self.seen = []

        def add(self, x):
            self.seen.append(x)
            return len(self.seen)

        def all(self):
            return self.seen

    log = Log.remote()
    assert ray.get(log.add.remote(0)) == 1
    line.close_for_new()
    line.cut()
    refs = [log.add.remote(i) for i in range(1, 11)]
    timer = threading.Timer(3.0, line.open_again)
    timer.start()
    assert ray.get(refs, timeout=30) == list(range(2, 12))
    assert ray.get(log.all.remote()) == list(range(11))
    timer.join()


@pytest.mark.soak
@pytest.mark.timeout(120)
def test_a_line_that_is_gone_for_half_a_minute_loses_nothing(connect, line):
    connect(session="soak")

    @ray.remote
    def slow(i):
        time.sleep(0.2)
        return i

    refs = [slow.remote(i) for i in range(40)]
    line.hold()
    timer = threading.Timer(30.0, line.let_flow)
    timer.start()
    assert ray.get(refs, timeout=90) == list(range(40))
    timer.join()


def test_large_values_survive_a_cut_in_their_midst(connect, line):
    connect()
    array = numpy.random.default_rng(1).integers(0, 255, 12 << 20, dtype=numpy.uint8)
    line.cut_after(3 << 20)
    ref = ray.put(array)
    line.cut_after(3 << 20)
    assert numpy.array_equal(ray.get(ref), array)
    assert line.connections >= 3


def test_a_lost_line_is_told_of_once_and_so_is_its_return(connect, line):
    connect()
    said: list[str] = []
    engine()._core.on_log = said.append
    line.close_for_new()
    line.cut()
    until(lambda: any("is lost" in text for text in said))
    line.open_again()
    until(lambda: any("is back" in text for text in said))


# --- processes that end -----------------------------------------------------------------------------------------------

FIRST = """
    import os, signal, sys, time
    import numpy
    import raybook as ray
    ctx = ray.init(sys.argv[1], token_file=sys.argv[2], session="analysis")
    @ray.remote
    def square(x):
        time.sleep(0.5)
        return x * x
    @ray.remote
    class Counter:
        def __init__(self): self.n = 41
        def up(self):
            self.n += 1
            return self.n
    @ray.remote
    def items():
        yield from range(5)
    counter = Counter.remote()
    ray.get(counter.up.remote())
    stream = items.remote()
    assert ray.get(next(stream)) == 0
    refs = [square.remote(i) for i in range(4)]
    big = ray.put(numpy.arange(1_000_000))
    ctx.session.keep("answers", refs[3])
    ctx.session.keep("big", big)
    ctx.session.keep("counter", counter)
    print("ready", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def left_behind(head: ClusterRecord) -> Iterator[str]:
    """A client process that has made things in session "analysis", and was killed."""
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FIRST), f"ray://{head.session_address}", head.token_file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.stdout == "ready\n", child.stderr
    assert child.returncode == -signal.SIGKILL
    yield "analysis"


def test_a_new_process_finds_what_a_killed_one_had(connect, left_behind):
    ctx = connect(session=left_behind)
    session = ctx.session
    assert not session.is_new
    rows = session.list()
    assert {row.name for row in rows if row.name} == {"answers", "big", "counter"}
    assert sum(row.what == "square" for row in rows) == 4
    # By name
    assert ray.get(session.get("answers")) == 9
    assert ray.get(session.get("big"))[-1] == 999_999
    assert ray.get(session.get("counter").up.remote()) == 43
    # By id
    squares = [row for row in rows if row.what == "square" and not row.name]
    assert sorted(ray.get([session.get(row.id) for row in squares])) == [0, 1, 4]
    # A stream goes on behind what was taken
    (stream,) = [row for row in rows if row.kind == "stream"]
    assert [ray.get(ref) for ref in session.get(stream.id)] == [1, 2, 3, 4]
    # What was taken is this process's; what has a name stays
    assert {row.name for row in session.list()} == {"answers", "big", "counter"}
    assert "answers" in str(session) and "answers" in session._repr_html_()
    with pytest.raises(KeyError, match="'answers', 'big', 'counter'|keeps nothing called"):
        session.get("nothing")
    session.forget("answers")
    assert "answers" not in {row.name for row in session.list()}


LEAVES_IN_GOOD_ORDER = """
    import atexit, sys
    variables = []
    atexit.register(variables.clear)    # As shells do.
    import raybook as ray
    ray.init(sys.argv[1], token_file=sys.argv[2], session="orderly")
    variables.append(ray.put("left"))
"""


def test_a_process_that_ends_in_good_order_leaves_its_results_too(connect, head):
    script = [sys.executable, "-c", textwrap.dedent(LEAVES_IN_GOOD_ORDER)]
    done = subprocess.run([*script, f"ray://{head.session_address}", head.token_file], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    session = connect(session="orderly").session
    (row,) = session.list()
    assert ray.get(session.get(row.id)) == "left"


def test_a_session_that_another_process_takes_over_says_so(connect, head, line):
    connect(session="mine")

    @ray.remote
    def one():
        return 1

    ref = one.remote()
    assert ray.get(ref) == 1
    script = "import sys, raybook as ray; ray.init(sys.argv[1], token_file=sys.argv[2], session='mine'); print('in')"
    other = [sys.executable, "-c", script, f"ray://{head.session_address}", head.token_file]
    assert subprocess.run(other, capture_output=True, text=True, timeout=60).stdout == "in\n"
    until(lambda: engine()._core.lost_reason)
    with pytest.raises(SessionLostError, match="was taken over by .*@.*, process"):
        ray.get(one.remote())
    ray.shutdown()
    connect(session="mine")


def test_the_end_of_the_session_s_process_is_told(connect, head, line):
    connect()

    @ray.remote
    def sleep():
        time.sleep(60)

    ref = sleep.remote()
    (pid,) = session_processes(head)
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(SessionLostError, match="has ended: its process .* ended by signal 9"):
        ray.get(ref)
    with pytest.raises(SessionLostError):
        ray.put(1)


def test_a_session_ends_with_its_client_when_it_has_no_name(connect, head):
    connect()
    assert len(session_processes(head)) == 1
    ray.shutdown()
    until(lambda: not session_processes(head))


def test_a_named_session_stays_until_it_is_ended(connect, head):
    ctx = connect(session="stays")
    ctx.session.keep("x", ray.put(5))
    ray.shutdown()
    assert len(session_processes(head)) == 1
    ctx = connect(session="stays")
    assert ray.get(ctx.session.get("x")) == 5
    ctx.session.end()
    ray.shutdown()
    until(lambda: not session_processes(head))


def test_a_session_ends_at_its_idle_limit_and_its_client_is_told(monkeypatch):
    ray.shutdown()
    monkeypatch.setenv("RAYBOOK_SESSION_IDLE_S", "1")
    record = split_cluster.start_head(NodeAmounts(num_cpus=1, num_gpus=0), session_port=0, metrics_port=None)
    line = CutLine(record.session_address)
    try:
        ray.init(f"ray://{line.address}", token_file=record.token_file)
        assert current_runtime.context.session.idle_limit_s == 1
        ref = ray.put(1)
        line.close_for_new()
        line.cut()
        until(lambda: not session_processes(record))
        line.open_again()
        with pytest.raises(SessionLostError, match="no client was connected for 1 s|lives 1 s without a client"):
            while True:
                ray.get(ref, timeout=1)
                engine()._core.owner.objects.values.clear()
    finally:
        ray.shutdown()
        line.close()
        local_cluster.stop_cluster(record)


def test_a_head_that_was_started_anew_is_told(tmp_path):
    ray.shutdown()
    first = split_cluster.start_head(NodeAmounts(num_cpus=1, num_gpus=0), session_port=0, metrics_port=None)
    port = first.session_address.rpartition(":")[2]
    second = None
    try:
        ray.init(f"ray://{first.session_address}", token_file=first.token_file, session="old")

        @ray.remote
        def one():
            return 1

        assert ray.get(one.remote()) == 1
        local_cluster.stop_cluster(first)
        second = split_cluster.start_head(NodeAmounts(num_cpus=1), session_port=int(port), metrics_port=None)
        with pytest.raises(SessionLostError, match="started anew|restarted|has ended"):
            ray.get(one.remote(), timeout=30)
    finally:
        ray.shutdown()
        local_cluster.stop_cluster(first)
        if second is not None:
            local_cluster.stop_cluster(second)


# --- what is asked wrongly --------------------------------------------------------------------------------------------


def test_a_wrong_token_is_refused(head, tmp_path):
    ray.shutdown()
    wrong = tmp_path / "token"
    wrong.write_bytes(bytes(32))
    with pytest.raises(ConnectionError, match="refused our token: it belongs to another cluster"):
        ray.init(f"ray://{head.session_address}", token_file=str(wrong))
    assert not ray.is_initialized()


def test_a_head_on_another_machine_needs_its_token(head, tmp_path, monkeypatch):
    ray.shutdown()
    monkeypatch.setenv("RAYBOOK_REGISTRY_DIR", str(tmp_path))
    with pytest.raises(ConnectionError, match="RAYBOOK_TOKEN_FILE"):
        ray.init(f"ray://{head.session_address}")


def test_another_version_is_refused_in_two_columns(head, monkeypatch):
    ray.shutdown()
    monkeypatch.setattr("raybook.engines.session.PROTOCOL_VERSION", 99)
    with pytest.raises(ConnectionError) as caught:
        ray.init(f"ray://{head.session_address}", token_file=head.token_file)
    text = str(caught.value)
    assert "this process" in text and "the cluster" in text and "differs" in text
    assert "99" in text and "pip install raybook==" in text


def test_a_thin_client_speaks_tls_where_the_head_does(tmp_path, monkeypatch):
    ray.shutdown()
    make_authority(tmp_path / "ours")
    files = make_member(tmp_path / "ours", "node")
    record = split_cluster.start_head(NodeAmounts(num_cpus=1), session_port=0, metrics_port=None, tls=files)
    line = CutLine(record.session_address)
    try:
        monkeypatch.setenv("RAY_USE_TLS", "1")
        for name, path in (("SERVER_CERT", files.cert), ("SERVER_KEY", files.key), ("CA_CERT", files.ca)):
            monkeypatch.setenv(f"RAY_TLS_{name}", path)
        ray.init(f"ray://{line.address}", token_file=record.token_file)

        @ray.remote
        def add(a, b):
            return a + b

        array = numpy.arange(500_000)
        ref = ray.put(array)
        line.cut()
        assert ray.get(add.remote(1, 2), timeout=20) == 3
        assert numpy.array_equal(ray.get(ref), array)
        assert line.connections >= 2
    finally:
        ray.shutdown()
        line.close()
        local_cluster.stop_cluster(record)


def test_nobody_at_the_address_is_told(head):
    ray.shutdown()
    with pytest.raises(ConnectionError, match="No session could be had at 127.0.0.1:9"):
        ray.init("ray://127.0.0.1:9", token_file=head.token_file)


def test_a_session_needs_a_cluster_that_outlives_this_process(monkeypatch):
    ray.shutdown()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="persist=True"):
        ray.init(session="x")
    with pytest.raises(ValueError, match="ray://HOST:PORT"):
        ray.init("ray://nowhere")


def test_what_a_session_has_not_finished_can_be_listed_and_cancelled(connect, tmp_path):
    connect()
    gate = str(tmp_path / "gate")

    @ray.remote
    def wait_for(path):
        import os
        import time

        while not os.path.exists(path):
            time.sleep(0.01)

    refs = [wait_for.remote(gate) for _ in range(2)]
    until(lambda: len(unfinished_tasks()) == 2)
    assert [task.name.rpartition(".")[2] for task in unfinished_tasks()] == ["wait_for", "wait_for"]
    assert cancel_tasks(unfinished_tasks(), force=True) == 2
    for ref in refs:
        with pytest.raises(ray.exceptions.TaskCancelledError):
            ray.get(ref, timeout=10)
