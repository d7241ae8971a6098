"""Two threads on one piece of work: errors, interrupts, and that nothing goes on behind the caller's back."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from raybook.io.halves import in_two


def test_both_halves_are_done_on_return():
    done = []
    in_two(lambda: done.append("here"), lambda: done.append(threading.get_ident()))
    assert "here" in done
    assert threading.get_ident() not in done


def test_the_error_of_either_half_is_raised_when_both_have_ended():
    def fail() -> None:
        raise OSError("no room")

    ended = []
    with pytest.raises(OSError, match="no room"):
        in_two(lambda: ended.append(1), fail)
    with pytest.raises(OSError, match="no room"):
        in_two(fail, lambda: (time.sleep(0.05), ended.append(2)))
    # The second half of the last was called off, or has ended.
    count = len(ended)
    time.sleep(0.1)
    assert len(ended) == count


@pytest.mark.parametrize("seed", range(40))
def test_after_an_interrupt_the_other_half_has_ended_or_never_begins(seed):
    log: list[str] = []

    def work() -> None:
        log.append("begun")
        time.sleep(0.002)
        log.append("ended")

    timer = threading.Timer(seed * 0.0001, lambda: signal.raise_signal(signal.SIGINT))
    try:
        timer.start()
        in_two(lambda: None, work)
        time.sleep(0.05)
    except KeyboardInterrupt:
        pass
    finally:
        seen = list(log)
        timer.join()
    assert seen in ([], ["begun", "ended"])
    time.sleep(0.003)
    assert log == seen
