"""What workers print, and what is said of how they ended."""

from __future__ import annotations

import signal

from raybook.raylet.crash_report import describe_ending
from raybook.raylet.log_monitor import READ_BYTES, LogMonitor, last_lines


def ending(tmp_path, status: int, **changes):
    known = {"pid": 42, "status": status, "rss_bytes_max": 300 << 20, "log_path": str(tmp_path / "w"), "lines_kept": 3}
    return describe_ending(**known | changes)


def lines_of(monitor: LogMonitor) -> list[tuple[str, str]]:
    return [(line.stream, line.line) for line in monitor.new_lines()]


def test_new_lines_come_once_and_in_order(tmp_path):
    path = tmp_path / "w"
    monitor = LogMonitor()
    monitor.follow(str(path), 7)
    assert monitor.new_lines() == []
    (tmp_path / "w.out").write_text("one\ntwo\n")
    (tmp_path / "w.err").write_text("oh\n")
    assert lines_of(monitor) == [("out", "one"), ("out", "two"), ("err", "oh")]
    assert monitor.new_lines() == []


def test_half_a_line_waits_for_its_end(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.out").write_text("who")
    assert monitor.new_lines() == []
    (tmp_path / "w.out").write_text("whole\n")
    assert lines_of(monitor) == [("out", "whole")]


def test_the_dead_leave_even_half_a_line(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.err").write_text("last wor")
    assert [line.line for line in monitor.forget(str(tmp_path / "w"))] == ["last wor"]
    assert monitor.new_lines() == []


def test_a_line_longer_than_a_look_is_cut_rather_than_never_shown(tmp_path):
    monitor = LogMonitor()
    monitor.follow(str(tmp_path / "w"), 7)
    (tmp_path / "w.out").write_text("x" * (READ_BYTES + 10) + "\n")
    first, second = monitor.new_lines(), monitor.new_lines()
    assert len(first[0].line) == READ_BYTES and second[0].line == "x" * 10


def test_only_the_last_lines_of_a_long_file_are_read(tmp_path):
    path = tmp_path / "long"
    path.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert last_lines(str(path), 2) == ["line 9998", "line 9999"]
    assert last_lines(str(tmp_path / "absent"), 2) == []


def test_a_signal_is_named_and_the_last_lines_are_quoted(tmp_path):
    (tmp_path / "w.err").write_text("a\nb\nc\nd\n")
    told = ending(tmp_path, signal.SIGSEGV)
    assert told.exit_code == -signal.SIGSEGV and not told.out_of_memory
    assert "SIGSEGV (signal 11)" in told.text and "300 MiB" in told.text
    assert told.text.endswith("  b\n  c\n  d")


def test_an_exit_code_is_named(tmp_path):
    told = ending(tmp_path, 3 << 8)
    assert told.exit_code == 3 and "exit code 3" in told.text and "nothing to stderr" in told.text


def test_a_kill_by_the_kernel_for_want_of_memory_is_told_apart(tmp_path):
    assert ending(tmp_path, signal.SIGKILL, kernel_ran_out=True).out_of_memory
    assert not ending(tmp_path, signal.SIGKILL).out_of_memory
    assert not ending(tmp_path, signal.SIGSEGV, kernel_ran_out=True).out_of_memory


def test_what_raybook_ended_is_not_called_a_crash(tmp_path):
    told = ending(tmp_path, signal.SIGKILL, kill_reason="ray.kill", kernel_ran_out=True)
    assert "ended by raybook: ray.kill" in told.text and not told.out_of_memory


def test_an_announced_end_is_told_as_one_unless_it_failed(tmp_path):
    assert "on purpose: done" in ending(tmp_path, 0, leaving="done").text
    assert "exit code 1" in ending(tmp_path, 1 << 8, leaving="done").text
