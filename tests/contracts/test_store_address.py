"""What ``--store`` may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from raybook.io.store_address import MEMORY, REDIS, SQLITE, parse_store


def test_memory_is_a_store():
    assert parse_store("memory").kind == MEMORY


@pytest.mark.parametrize("text", ["sqlite:some/gcs.db", "some/gcs.db"])
def test_paths_become_absolute(text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = parse_store(text)
    assert (found.kind, found.target, found.shown) == (
        SQLITE,
        f"{tmp_path}/some/gcs.db",
        f"sqlite:{tmp_path}/some/gcs.db",
    )


def test_absolute_path_may_be_written_as_a_url():
    assert parse_store("sqlite:///var/gcs.db").target == str(Path("/var/gcs.db").resolve())


@pytest.mark.parametrize(
    ("text", "shown", "secret"),
    [
        ("redis://cache", "redis://cache:6379/0", False),
        ("redis://:pa-ss@cache:7000/3", "redis://cache:7000/3", True),
        ("rediss://me:pa-ss@cache/1?prefix=team", "rediss://cache:6379/1?prefix=team", True),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock", False),
        ("redis://[::1]:6379", "redis://[::1]:6379/0", False),
    ],
)
def test_password_of_a_redis_is_not_shown(text, shown, secret):
    found = parse_store(text)
    assert (found.kind, found.shown, found.has_password) == (REDIS, shown, secret)
    assert "prefix" not in found.target


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sqlite:", "names no file"),
        ("/", "is a folder"),
        ("redis://", "names no host"),
        ("redis://h:port/0", "no port that is a number"),
        ("redis://h/tables", "'tables' is no number of a database"),
        ("unix://", "names no socket"),
        ("postgres://me:secret@h/db", "postgres is not known. A store is memory, sqlite:PATH, or redis://"),
    ],
)
def test_what_is_no_store_is_refused_with_what_is_one(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        parse_store(text)
    assert "secret" not in str(caught.value)
