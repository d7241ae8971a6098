"""What workers print reaches the driver's own output, named, in order, folded, and never late for the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

import raybook as ray
from raybook.api.output_folding import WINDOW_S, OutputFolding
from raybook.io.log_file import read_log
from raybook.protocol.messages.output import WorkerLine
from raybook.protocol.output_marks import mark
from raybook.raylet import log_monitor
from raybook.raylet.log_monitor import BACKLOG_BYTES_MAX, LogMonitor, last_lines
from tests.integration.test_split_form import own_world, run, start_head

pytestmark = pytest.mark.raybook_only

_FIXTURES = own_world
HERE = "aa"


def run_script(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A plain script in a process of its own, which must end well."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done


def said(text: str, pid: int = 1, node: str = HERE, **fields: str) -> WorkerLine:
    return WorkerLine(pid, fields.get("source", "out"), fields.get("name", "f"), text, ip="10.0.0.9", node=node)


def words(printed: list[tuple[str, str]]) -> list[str]:
    return [text for _, text in printed]


# In scripts


def test_lines_reach_stdout_and_stderr_of_a_script_with_the_name_of_task_or_actor():
    done = run_script("""
        import os, sys, raybook as ray
        ray.init(num_cpus=1)
        @ray.remote
        def square(x):
            print("squaring", x)
            print("careful", file=sys.stderr)
            return x * x
        @ray.remote
        class Counter:
            def up(self):
                print("up")
                os.system("echo from a subprocess")
        ray.get(square.remote(3))
        ray.get(Counter.remote().up.remote())
    """)
    assert re.search(r"^\(square pid=\d+\) squaring 3$", done.stdout, re.M)
    assert re.search(r"^\(Counter pid=\d+\) up$", done.stdout, re.M)
    assert re.search(r"^\(Counter pid=\d+\) from a subprocess$", done.stdout, re.M)
    assert re.search(r"^\(square pid=\d+\) careful$", done.stderr, re.M)
    assert "\0" not in done.stdout + done.stderr


def test_an_actor_with_a_repr_of_its_own_speaks_under_it():
    done = run_script("""
        import raybook as ray
        ray.init(num_cpus=1)
        @ray.remote
        class Shard:
            def __repr__(self):
                return "Shard(7)"
            def load(self):
                print("loaded")
        ray.get(Shard.remote().load.remote())
    """)
    assert re.search(r"^\(Shard\(7\) pid=\d+\) loaded$", done.stdout, re.M)


def test_what_the_last_task_printed_is_there_when_a_script_ends_without_shutdown():
    done = run_script("""
        import raybook as ray
        ray.init(num_cpus=1)
        @ray.remote
        def talk():
            for number in range(500):
                print("line", number)
        ray.get(talk.remote())
    """)
    assert [f") line {n}\n" in done.stdout for n in (0, 250, 499)] == [True] * 3


def test_log_to_driver_false_keeps_the_driver_quiet():
    done = run_script("""
        import raybook as ray
        ray.init(num_cpus=1, log_to_driver=False)
        ray.get(ray.remote(lambda: print("hush")).remote())
        ray.shutdown()
    """)
    assert done.stdout == ""


@pytest.mark.parametrize("folds", ["1", "0"])
def test_the_same_line_of_many_workers_is_counted_unless_folding_is_off(folds):
    done = run_script(
        """
        import raybook as ray
        ray.init(num_cpus=3)
        @ray.remote
        class Speaker:
            def speak(self):
                print("we agree")
        speakers = [Speaker.remote() for _ in range(3)]
        ray.get([speaker.speak.remote() for speaker in speakers])
        ray.shutdown()
        """,
        RAY_DEDUP_LOGS=folds,
    )
    assert len(re.findall(r"we agree$", done.stdout, re.M)) == (1 if folds == "1" else 3)
    assert ("we agree [repeated 2x across cluster]" in done.stdout) is (folds == "1")


def test_lines_go_to_the_driver_that_the_work_is_for(own_cluster, capfd):
    own_cluster(num_cpus=1, name="shared-output")

    @ray.remote
    def mine():
        print("for the first driver")

    ray.get(mine.remote())
    done = run_script("""
        import raybook as ray
        ray.init(address="shared-output")
        ray.get(ray.remote(lambda: print("for the second driver")).remote())
        ray.shutdown()
    """)
    assert "for the second driver" in done.stdout and "first" not in done.stdout
    ray.get(mine.remote())
    ray.shutdown()
    printed = capfd.readouterr().out
    assert "for the first driver" in printed and "second" not in printed


@pytest.mark.slow
def test_lines_from_another_node_come_with_its_address(own_world, capfd, eventually):
    record = start_head()
    joined = run("start", "--address", record.address, "--num-cpus", "1", "--resources", '{"far": 1}')
    assert joined.exit_code == 0, joined.output
    ray.init(address="split")
    try:

        @ray.remote(resources={"far": 1})
        class Far:
            def speak(self):
                print("far away")

        ray.get(Far.remote().speak.remote(), timeout=20)
        printed: list[str] = []

        def has_come() -> bool:
            printed.append(capfd.readouterr().out)
            return "far away" in "".join(printed)

        eventually(has_come)
        assert re.search(r"^\(Far pid=\d+, ip=127\.0\.0\.1\) far away$", "".join(printed), re.M)
    finally:
        ray.shutdown()


def test_the_kernel_tells_the_raylet_of_new_lines(own_cluster):
    own_cluster(num_cpus=2)
    ray.get([ray.remote(lambda: print("once")).remote() for _ in range(4)])
    (head,) = [process for process in psutil.Process().children() if "raybook.head.main" in process.cmdline()]
    watches = [
        entry.read_text() for entry in Path(f"/proc/{head.pid}/fdinfo").iterdir() if _is_inotify(head.pid, entry)
    ]
    assert len(watches) == 1 and watches[0].count("inotify wd:") == 1


def _is_inotify(pid: int, entry: Path) -> bool:
    try:
        return "inotify" in os.readlink(f"/proc/{pid}/fd/{entry.name}")
    except FileNotFoundError:
        # The head closes and opens others meanwhile.
        return False


# Folding


def test_a_first_line_is_never_held_back_and_others_saying_it_are_counted():
    folding = OutputFolding(HERE)
    assert words(folding.show([said("hi", 1)], 0.0)) == ["(f pid=1) hi\n"]
    assert folding.show([said("hi", 2), said("hi", 3)], 1.0) == []
    assert folding.next_deadline() == WINDOW_S
    assert words(folding.elapse(WINDOW_S)) == ["(f pid=3) hi [repeated 2x across cluster]\n"]
    assert folding.next_deadline() is None


def test_what_one_worker_says_twice_is_shown_twice():
    folding = OutputFolding(HERE)
    assert len(folding.show([said("again"), said("again"), said("again")], 0.0)) == 3


def test_lines_that_differ_in_a_number_are_all_shown():
    folding = OutputFolding(HERE)
    assert len(folding.show([said(f"step {pid}", pid) for pid in range(9)], 0.0)) == 9


def test_the_end_tells_what_was_counted():
    folding = OutputFolding(HERE)
    folding.show([said("x", 1), said("x", 2)], 0.0)
    assert words(folding.finish()) == ["(f pid=2) x [repeated 1x across cluster]\n"]
    assert folding.finish() == []


def test_lines_of_one_pattern_are_never_folded_and_of_another_never_shown():
    folding = OutputFolding(HERE, never="each", hidden="secret")
    shown = folding.show([said("each time", 1), said("each time", 2), said("a secret", 1), said("a secret", 2)], 0.0)
    assert words(shown) == ["(f pid=1) each time\n", "(f pid=2) each time\n"]
    assert folding.finish() == []


def test_the_address_is_told_of_other_nodes_only():
    folding = OutputFolding(HERE)
    shown = words(folding.show([said("a"), said("b", node="bb"), said("c", name="")], 0.0))
    assert shown == ["(f pid=1) a\n", "(f pid=1, ip=10.0.0.9) b\n", "(pid=1) c\n"]


# Files


def test_marks_name_the_lines_that_follow_and_are_shown_to_nobody(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.out").write_text("early\n" + mark("f", "0a") + "one\nhalf" + mark("g", "0a") + "two\n\n")
    seen = [(line.name, line.job, line.line) for line in monitor.new_lines()]
    assert seen == [("", "", "early"), ("f", "0a", "one"), ("f", "0a", "half"), ("g", "0a", "two"), ("g", "0a", "")]
    assert last_lines(str(tmp_path / "w.out"), 9) == ["early", "one", "half", "two", ""]


def test_a_progress_bar_shows_what_it_drew_last(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.err").write_bytes(b"\r 10%\r 50%\r100%\n")
    assert [line.line for line in monitor.new_lines()] == ["100%"]


def test_a_worker_far_ahead_of_its_reader_is_read_on_from_the_end(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    with open(tmp_path / "w.out", "wb") as file:
        file.truncate(BACKLOG_BYTES_MAX + 1)
        file.seek(0, os.SEEK_END)
        file.write(b"\nthe end\n")
    lines = [line.line for line in monitor.new_lines()]
    assert "left out" in lines[0] and str(tmp_path / "w.out") in lines[0] and lines[-1] == "the end"


# Hostile output


def followed(tmp_path: Path) -> LogMonitor:
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    return monitor


def test_a_progress_bar_without_an_end_is_shown_now_and_then_in_its_present_state(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(log_monitor.time, "monotonic", lambda: clock[0])
    monitor = followed(tmp_path)
    seen = []
    with open(tmp_path / "w.err", "ab", buffering=0) as file:
        for percent in range(100):
            file.write(b"\r%d%%" % percent)
            seen += [line.line for line in monitor.new_lines()]
            clock[0] += 0.0625
        file.write(b"\n")
        seen += [line.line for line in monitor.new_lines()]
    assert seen == ["0%", "16%", "32%", "48%", "64%", "80%", "96%", "99%"]


def test_a_progress_bar_whose_last_state_was_shown_does_not_show_it_twice(tmp_path):
    monitor = followed(tmp_path)
    with open(tmp_path / "w.err", "ab", buffering=0) as file:
        file.write(b"\r100%")
        assert [line.line for line in monitor.new_lines()] == ["100%"]
        file.write(b"\nnext\n")
        assert [line.line for line in monitor.new_lines()] == ["next"]


def test_what_is_left_out_at_the_end_is_counted(tmp_path):
    monitor = followed(tmp_path)
    (tmp_path / "w.out").write_text("a line of text\n" * 20_000)
    first = monitor.new_lines()
    (told,) = monitor.leave_out()
    assert f"left out {20_000 * 15 - sum(len(line.line) + 1 for line in first):,} bytes" in told.line
    assert monitor.new_lines() == [] and not monitor.behind


@pytest.mark.slow
def test_hostile_output_is_shown_named_and_counted_and_delays_nobody():
    done = run_script("""
        import os, sys, time, raybook as ray
        ray.init(num_cpus=2)
        @ray.remote
        def binary():
            sys.stdout.buffer.write(b"\\xff\\xfe raw bytes" + bytes(range(1, 9)) + b"\\n")
            sys.stdout.buffer.flush()
            os.write(1, b"no end")
        @ray.remote
        def endless():
            sys.stdout.write("x" * 300_000)
            sys.stdout.flush()
        @ray.remote
        def flood():
            text = "".join(f"line {i}\\n" for i in range(10_000))
            for _ in range(300):
                sys.stdout.write(text)
            sys.stdout.flush()
        @ray.remote
        def nothing():
            return None
        ray.get([binary.remote(), endless.remote(), nothing.remote()])
        ref = flood.remote()
        slowest = 0.0
        while ref:
            begin = time.monotonic()
            ray.get(nothing.remote())
            slowest = max(slowest, time.monotonic() - begin)
            ref = None if ray.wait([ref], timeout=0)[0] else ref
        begin = time.monotonic()
        ray.shutdown()
        print("SLOWEST", slowest, "SHUTDOWN", time.monotonic() - begin)
    """)
    slowest, shutdown = re.search(r"SLOWEST (\S+) SHUTDOWN (\S+)", done.stdout).groups()
    assert float(slowest) < 5 and float(shutdown) < 10
    assert re.search(r"^\(binary pid=\d+\) \ufffd\ufffd raw bytes", done.stdout, re.M)
    assert re.search(r"^\(\w+ pid=\d+\) line 0$", done.stdout, re.M)
    # All of it, or it is said what is lacking: the flood may be the same worker's, and be more than is read at the end.
    shown = sum(len(part) for part in re.findall(r"x{1000,}", done.stdout))
    assert shown == 300_000 or "left out" in done.stdout
    assert "no end" in done.stdout


def test_half_a_line_is_shown_at_the_drivers_end():
    done = run_script("""
        import raybook as ray
        ray.init(num_cpus=1)
        ray.get(ray.remote(lambda: print("no end", end="", flush=True)).remote())
        ray.shutdown()
    """)
    assert "no end" in done.stdout


def test_a_log_file_keeps_its_newest_bytes_and_gives_the_room_of_older_ones_back(tmp_path):
    monitor = LogMonitor(bytes_max=1 << 20)
    monitor.follow(str(tmp_path / "w"), 7)
    seen = 0
    with open(tmp_path / "w.out", "ab") as file:
        for number in range(80):
            file.write(b"%05d %s\n" % (number, b"x" * 65_529))
            file.flush()
            seen += len(monitor.new_lines()) + len(monitor.new_lines())

    found = os.stat(tmp_path / "w.out")
    left = read_log(tmp_path / "w.out").splitlines()

    assert found.st_size == 80 * 65_536 and found.st_blocks * 512 < 2 << 20
    assert seen >= 80, "Lines were given back before they were read."
    assert 15 <= len(left) <= 32 and left[-1].startswith(b"00079 ") and left[0][:5] == b"%05d" % (80 - len(left))


def test_a_log_file_without_a_bound_keeps_everything(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.out").write_bytes(b"y" * 99 + b"\n" + b"x" * (1 << 20))
    monitor.new_lines()

    assert len(read_log(tmp_path / "w.out")) == 100 + (1 << 20)
    assert read_log(tmp_path / "w.out")[:2] == b"yy"
