"""One contract for every store of the GCS: memory, SQLite, Redis, and the store that fails on demand in tests."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from raybook.io.process_name import ProcessName, this_process
from raybook.io.redis_storage import Holder, RedisStorage
from raybook.io.sqlite_storage import SqliteStorage
from raybook.io.storage import TABLES, MemoryStorage, Storage, StoreError, StoreLost, StoreTaken, Write
from raybook.io.store_address import parse_store
from raybook.testing.failing_storage import FailingStorage
from tests.redis_process import RedisProcess

Open = Callable[[], Storage]

HERE = Holder(this_process(), "the head of cluster a")
ELSEWHERE = Holder(ProcessName("another boot", "", 7, 7), "the head of cluster b")


@pytest.fixture(scope="module")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def server(one_server: RedisProcess) -> RedisProcess:
    """The module's Redis, empty."""
    one_server.client().flushall()
    return one_server


@pytest.fixture(params=["memory", "failing", "sqlite", "sqlite, synced", "redis"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the store; twice in one test is the same store again."""
    if request.param == "redis":
        redis = request.getfixturevalue("server")
        return lambda: RedisStorage(parse_store(redis.url), HERE)
    kinds: dict[str, Open] = {
        "memory": MemoryStorage,
        "failing": FailingStorage,
        "sqlite": lambda: SqliteStorage(tmp_path / "gcs.sqlite", durable=False),
        "sqlite, synced": lambda: SqliteStorage(tmp_path / "gcs.sqlite"),
    }
    return kinds[request.param]


def put(key: bytes, value: bytes | None, table: str = "kv") -> Write:
    return Write(table, key, value)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 20))


def test_batches_take_effect_in_the_order_of_their_calls(make: Open) -> None:
    async def story() -> None:
        with closing(make()) as storage:
            await asyncio.gather(
                storage.write([put(b"a", b"1"), put(b"b", b"1")]),
                storage.write([put(b"a", b"2")]),
                storage.write([put(b"b", None), put(b"j", b"", "jobs")]),
            )
            assert storage.load("kv") == {b"a": b"2"}
            assert storage.load("jobs") == {b"j": b""}

    run(story())


def test_closing_twice_is_closing_once(make: Open) -> None:
    storage = make()
    storage.close()
    storage.close()


def test_nothing_was_ever_in_a_new_store(make: Open) -> None:
    with closing(make()) as storage:
        assert [storage.load(table) for table in TABLES] == [{}] * len(TABLES)


def test_keys_come_back_in_the_order_of_their_first_writing(make: Open) -> None:
    async def story() -> None:
        storage = make()
        await storage.write([put(key, b"") for key in (b"z", b"a", b"m")])
        await storage.write([put(b"z", b"again"), put(b"b", b"")])
        assert list(storage.load("kv")) == [b"z", b"a", b"m", b"b"]
        storage.close()
        if not storage.is_volatile and not isinstance(storage, FailingStorage):
            with closing(make()) as again:
                again.load("kv")
                await again.write([put(b"a", b"later"), put(b"c", b"")])
                assert list(again.load("kv")) == [b"z", b"a", b"m", b"b", b"c"]

    run(story())


def test_keys_and_values_are_any_bytes(make: Open) -> None:
    async def story() -> None:
        key, value = bytes(range(256)), os.urandom(3 << 20)
        with closing(make()) as storage:
            await storage.write([put(key, value), put(b"", b"")])
            assert storage.load("kv") == {key: value, b"": b""}

    run(story())


def test_any_sequence_of_writes_ends_as_a_dictionary_would(make: Open) -> None:
    """Against the dumb one; half of the stores are closed and opened again on the way."""

    async def story() -> None:
        choose = random.Random(7)
        storage = make()
        expected: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        for _ in range(40):
            batch = []
            for _ in range(choose.randrange(5)):
                table, key = choose.choice(TABLES), choose.choice([b"a", b"b", b"c"])
                value = choose.choice([None, choose.randbytes(4)])
                batch.append(put(key, value, table))
                if value is None:
                    expected[table].pop(key, None)
                else:
                    expected[table][key] = value
            await storage.write(batch)
            if choose.random() < 0.1 and isinstance(storage, (SqliteStorage, RedisStorage)):
                storage.close()
                storage = make()
                for table in TABLES:
                    storage.load(table)
        assert {table: storage.load(table) for table in TABLES} == expected
        storage.close()

    run(story())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_what_was_acknowledged_survives_the_death_of_the_process(
    kind: str, tmp_path: Path, server: RedisProcess
) -> None:
    store = server.url if kind == "redis" else f"sqlite:{tmp_path / 's'}"
    program = textwrap.dedent(
        f"""
        import asyncio, os, signal
        from pathlib import Path
        from raybook.gcs.stores import open_store
        from raybook.io.storage import Write
        async def main():
            store = open_store({store!r}, Path("/nowhere"), "cluster a")
            for number in range(50):
                await store.write([Write("kv", b"%d" % number, b"x"), Write("jobs", b"%d" % number, b"y")])
                print(number, flush=True)
            asyncio.ensure_future(store.write([Write("kv", b"not acknowledged", b"x")]))
            os.kill(os.getpid(), signal.SIGKILL)
        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    acknowledged = [line.encode() for line in done.stdout.split()]

    # The dead one's lock is in nobody's way.
    address = parse_store(store)
    with closing(RedisStorage(address, HERE) if kind == "redis" else SqliteStorage(Path(address.target))) as again:
        found = again.load("kv")
        assert len(acknowledged) == 50, done.stderr
        assert [key for key in acknowledged if key not in found or key not in again.load("jobs")] == []


# --- SQLite -----------------------------------------------------------------------------------------------------------


def test_second_user_of_a_file_is_told_who_the_first_is(tmp_path: Path) -> None:
    first = SqliteStorage(tmp_path / "s", holder="the head of cluster a (process 12 on here)")
    with pytest.raises(StoreTaken, match=r"in use by the head of cluster a \(process 12 on here\).*raybook stop"):
        SqliteStorage(tmp_path / "s")
    first.close()
    SqliteStorage(tmp_path / "s").close()


def test_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    content = b"no database at all, and long enough to be read as a header by SQLite" * 20
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"/s is damaged, or no store of raybook's: file is not a database"):
        SqliteStorage(path)
    assert path.read_bytes() == content


def test_damaged_page_is_found_when_the_file_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def story() -> None:
        with closing(SqliteStorage(path)) as storage:
            await storage.write([put(b"%d" % number, bytes(900)) for number in range(200)])

    run(story())
    pages = bytearray(path.read_bytes())
    for start in range(40_960, len(pages), 4096):
        pages[start : start + 200] = os.urandom(200)
    path.write_bytes(pages)

    with pytest.raises(StoreError, match="is damaged"):
        SqliteStorage(path)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file/sub/s cannot be used: .*/file/sub: Not a directory"):
        SqliteStorage(tmp_path / "file" / "sub" / "s")


def test_files_are_for_their_user_only(tmp_path: Path) -> None:
    with closing(SqliteStorage(tmp_path / "new" / "s")):
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (tmp_path / "new").iterdir()] == [0] * len(
            list((tmp_path / "new").iterdir())
        )


def test_named_files_are_synced_at_every_commit_and_those_of_a_session_are_not(tmp_path: Path) -> None:
    levels = []
    for durable in (True, False):
        with closing(SqliteStorage(tmp_path / str(durable), durable)) as storage:
            levels.append(storage._thread.ask(lambda: storage._connection.execute("PRAGMA synchronous").fetchone()[0]))
    assert levels == [2, 1]  # FULL, NORMAL.


def test_failed_batch_leaves_nothing_of_itself(tmp_path: Path) -> None:
    async def story() -> None:
        storage = SqliteStorage(tmp_path / "s")
        await storage.write([put(b"a", b"1")])
        storage._thread.ask(lambda: storage._connection.execute("PRAGMA max_page_count = 20"))
        with pytest.raises(StoreError, match=r"cannot be written: database or disk is full\. Make room"):
            await storage.write([put(b"small", b"x"), put(b"large", bytes(1 << 20))])
        assert storage.load("kv") == {b"a": b"1"}
        await storage.write([put(b"b", b"2")])
        storage._thread.ask(lambda: storage._connection.execute("PRAGMA max_page_count = 100000"))
        await storage.write([put(b"large", bytes(1 << 20))])
        storage.close()
        with closing(sqlite3.connect(tmp_path / "s")) as seen:
            assert seen.execute("SELECT count(*) FROM kv").fetchone() == (3,)

    run(story())


# --- Redis ------------------------------------------------------------------------------------------------------------


def test_clusters_of_other_prefixes_share_a_redis(server: RedisProcess) -> None:
    async def story() -> None:
        with (
            closing(RedisStorage(parse_store(server.url), HERE)) as one,
            closing(RedisStorage(parse_store(f"{server.url}?prefix=two"), ELSEWHERE)) as two,
        ):
            await asyncio.gather(one.write([put(b"k", b"1")]), two.write([put(b"k", b"2")]))
            assert (one.load("kv"), two.load("kv")) == ({b"k": b"1"}, {b"k": b"2"})

    run(story())


@pytest.mark.slow
def test_redis_in_use_by_a_living_head_is_refused_after_a_lease(server: RedisProcess) -> None:
    with closing(RedisStorage(parse_store(server.url), ELSEWHERE, lease_s=2.0)):
        with pytest.raises(StoreTaken, match=r"in use by the head of cluster b\. Two heads cannot share a store"):
            RedisStorage(parse_store(server.url), HERE, lease_s=0.2)


@pytest.mark.slow
def test_head_elsewhere_takes_over_when_the_lease_of_the_first_has_run_out(server: RedisProcess) -> None:
    async def story() -> None:
        first = RedisStorage(parse_store(server.url), ELSEWHERE, lease_s=1.5)
        await first.write([put(b"k", b"1")])
        first._over.set()  # It renews no more, as after a power cut.
        second = await asyncio.to_thread(RedisStorage, parse_store(server.url), HERE)
        assert second.load("kv") == {b"k": b"1"}
        with pytest.raises(StoreTaken, match="taken over by the head of cluster a; this GCS is one no more"):
            await first.write([put(b"k", b"2")])
        assert second.load("kv") == {b"k": b"1"}
        first.close()
        await second.write([put(b"k", None)])
        second.close()

    run(story())


def test_holder_that_slept_while_another_came_and_went_writes_nothing(server: RedisProcess) -> None:
    async def story() -> None:
        first = RedisStorage(parse_store(server.url), ELSEWHERE)
        first._over.set()
        server.client().delete("raybook:lock")  # As if its lease had run out.
        second = await asyncio.to_thread(RedisStorage, parse_store(server.url), HERE)
        await second.write([put(b"k", b"2")])
        second.close()
        with pytest.raises(StoreTaken, match="taken over by the head of cluster a"):
            await first.write([put(b"k", b"1")])
        assert first.load("kv") == {b"k": b"2"}
        first.close()

    run(story())


def test_holder_that_slept_through_its_lease_alone_goes_on(server: RedisProcess) -> None:
    async def story() -> None:
        with closing(RedisStorage(parse_store(server.url), HERE)) as storage:
            server.client().delete("raybook:lock")
            await storage.write([put(b"k", b"1")])
            assert storage.load("kv") == {b"k": b"1"}
            assert server.client().pttl("raybook:lock") > 0

    run(story())


def test_holder_that_lost_its_store_is_told_without_writing(server: RedisProcess) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[StoreError] = loop.create_future()
        first = RedisStorage(parse_store(server.url), HERE)
        first.on_trouble = lambda error: loop.call_soon_threadsafe(told.set_result, error)
        server.client().set("raybook:lock", b"somebody else's")
        assert isinstance(await told, StoreTaken)
        first.close()

    run(story())


def test_redis_that_is_started_anew_with_its_file_is_waited_for(tmp_path: Path) -> None:
    async def story(redis: RedisProcess) -> None:
        with closing(RedisStorage(parse_store(redis.url), HERE)) as storage:
            await storage.write([put(b"a", b"1")])
            redis.kill()
            writing = asyncio.ensure_future(storage.write([put(b"b", b"2")]))
            await asyncio.sleep(0)
            redis.start()
            await writing
            assert storage.load("kv") == {b"a": b"1", b"b": b"2"}

    with RedisProcess(tmp_path, keeps=True) as redis:
        run(story(redis))


def test_redis_that_lost_everything_says_so_once_and_takes_everything_again(tmp_path: Path) -> None:
    async def story(redis: RedisProcess) -> None:
        with closing(RedisStorage(parse_store(redis.url), HERE)) as storage:
            await storage.write([put(b"c", b"1", "meta"), put(b"a", b"1")])
            redis.kill()
            redis.start()
            with pytest.raises(StoreLost, match="empty all at once"):
                await storage.write([put(b"b", b"2")])
            await storage.write([put(b"c", b"1", "meta"), put(b"a", b"1"), put(b"b", b"2")])
            assert list(storage.load("kv")) == [b"a", b"b"]

    with RedisProcess(tmp_path) as redis:
        run(story(redis))


def test_redis_that_is_away_is_an_error_that_says_for_how_long(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as redis:
        url = redis.url
    with pytest.raises(StoreError, match=r"unix:///tmp/rbr-\S+ is out of reach for 0 s: .* Is that Redis running"):
        RedisStorage(parse_store(url), HERE, patience_s=0.2)


def test_wrong_password_is_told_at_once_and_never_shown(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, password="open sesame") as redis:
        for url in (redis.url.replace("open sesame", "guess-work"), redis.url.replace(":open sesame@", "")):
            with pytest.raises(StoreError, match="refused us") as caught:
                RedisStorage(parse_store(url), HERE)
            assert "guess-work" not in str(caught.value)
        RedisStorage(parse_store(redis.url), HERE).close()


def test_redis_without_memory_refuses_the_batch_whole_and_keeps_what_it_had(tmp_path: Path) -> None:
    async def story(redis: RedisProcess) -> None:
        with closing(RedisStorage(parse_store(redis.url), HERE)) as storage:
            await storage.write([put(b"a", b"1"), put(b"b", b"2")])
            redis.client().config_set("maxmemory", "1mb")
            with pytest.raises(StoreError, match=r"has no memory left \(.*\)\. Raise its maxmemory"):
                await storage.write([put(b"a", None), put(b"large", bytes(1 << 20))])
            assert storage.load("kv") == {b"a": b"1", b"b": b"2"}
            redis.client().config_set("maxmemory", "0")
            await storage.write([put(b"large", bytes(1 << 20))])
            assert list(storage.load("kv")) == [b"a", b"b", b"large"]

    with RedisProcess(tmp_path) as redis:
        run(story(redis))


def test_redis_set_up_as_a_cache_is_refused(tmp_path: Path) -> None:
    with RedisProcess(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as redis:
        with pytest.raises(StoreError, match="allkeys-lru.*noeviction"):
            RedisStorage(parse_store(redis.url), HERE)
