"""The debugger of tasks: it waits on a socket, talks to whoever connects, and lets the task go on or fail."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

import raybook as ray
from raybook.util import rpdb

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def stopped(eventually):
    """A task that has stopped at a breakpoint; its ref and the socket it waits at."""

    @ray.remote(max_retries=0)
    def work(number):
        doubled = number * 2
        rpdb.set_trace()
        return doubled + 1

    folder = Path(ray.init(ignore_reinit_error=True).address_info["session_dir"])
    ref = work.remote(20)
    eventually(lambda: list(folder.glob("debug-*.sock")))
    return ref, next(folder.glob("debug-*.sock"))


def say(path: Path, *lines: str) -> None:
    rpdb.connect(str(path), io.StringIO("".join(line + "\n" for line in lines)))


def test_variables_can_be_read_and_changed_before_the_task_goes_on(stopped, capsys):
    ref, path = stopped
    say(path, "p doubled", "doubled = 7", "c")
    assert ray.get(ref) == 8
    assert "40" in capsys.readouterr().out
    assert not path.exists()


def test_quitting_fails_the_task(stopped):
    ref, path = stopped
    say(path, "q")
    with pytest.raises(ray.exceptions.RayTaskError, match="BdbQuit"):
        ray.get(ref)


def test_only_the_user_can_reach_the_socket(stopped):
    ref, path = stopped
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700 and path.parent.stat().st_uid == os.getuid()
    say(path, "c")
    assert ray.get(ref) == 41


def test_ray_knows_it_as_pdb():
    assert ray.util.pdb.set_trace is rpdb.set_trace
