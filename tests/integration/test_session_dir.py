"""Session folders: whose they are, and what a process that is killed at any moment leaves of that."""

from __future__ import annotations

import os
from pathlib import Path

from raybook.io import session_dir
from raybook.io.session_dir import HEAD_FILE


def folder_of_ours(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    session_dir.claim(tmp_path, os.getpid())
    return tmp_path


def test_looking_at_the_claims_of_a_folder_writes_nothing(tmp_path: Path):
    folder = folder_of_ours(tmp_path)
    before = (folder / HEAD_FILE).stat().st_mtime_ns
    assert [pid for pid, _ in session_dir.claimants(folder)] == [os.getpid()]
    assert (folder / HEAD_FILE).stat().st_mtime_ns == before


def test_half_a_line_that_a_killed_writer_left_is_no_claim(tmp_path: Path):
    folder = folder_of_ours(tmp_path)
    with (folder / HEAD_FILE).open("a") as file:
        file.write("123")
    assert [pid for pid, _ in session_dir.claimants(folder)] == [os.getpid()]


def test_the_last_one_that_releases_a_folder_removes_it(tmp_path: Path):
    (tmp_path / "session").mkdir()
    folder = folder_of_ours(tmp_path / "session")
    assert session_dir.release(folder, os.getpid())
    assert not folder.exists() and not session_dir.release(folder, os.getpid())
