"""Storage of the GCS in a Redis, for clusters whose head may move to another machine.

A table is a hash, ``PREFIX:TABLE``; each value begins with eight bytes that say when its key was first written, because a
hash has no order. A commit is one transaction (MULTI … EXEC): Redis applies it whole, or refuses it whole, also when it
has no memory left. What a commit survives is up to that Redis (its ``appendfsync``).

One GCS at a time uses a prefix. It holds ``PREFIX:lock``, a key that expires ``LEASE_S`` after its last renewal and names
its holder; a commit watches the key, so one by a GCS that has lost it does nothing. ``PREFIX:owner`` says who had it last
and does not expire: a holder that slept through its lease takes it again only when nobody was there meanwhile. A holder that
is known to be dead (same machine, no such process) is not waited for: a restarted GCS takes over at once, one on another
machine after ``LEASE_S`` at most. Source of the scheme: Redis' documentation on optimistic locking by WATCH.

A connection that breaks is made anew; a commit whose answer was lost is given once more, which changes nothing where it
had arrived. A Redis that stays away for ``PATIENCE_S`` is an error, and from then on each commit tries once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import Any

import msgspec

from raybook.io.process_name import ProcessName
from raybook.io.storage import TABLES, StoreError, StoreLost, StoreTaken, Write
from raybook.io.store_address import StoreAddress
from raybook.io.write_thread import WriteThread

LEASE_S = 5.0
RENEW_S = 1.0
"""A Redis, or a GCS, that stands still for less than four seconds loses nothing."""
PATIENCE_S = 10.0
"""A Redis that is restarted is back by then."""
RETRY_S = 0.1
TIMEOUT_S = 5.0
"""For a connection and for an answer: a Redis that loads a large file from disk answers at once that it is loading."""
ORDER_BYTES = 8


class Holder(msgspec.Struct, frozen=True):
    """Who holds a store. process: names it beyond doubt; title: for people."""

    process: ProcessName
    title: str = ""


class RedisStorage:
    """address: parsed. holder: this process. StoreError when the Redis cannot be used, StoreTaken when another GCS goes on
    using it. Blocks up to ``patience_s`` for a Redis that is away, and up to a lease for another holder."""

    is_volatile = False

    def __init__(
        self,
        address: StoreAddress,
        holder: Holder,
        lease_s: float = LEASE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._library = _library()
        self._address = address
        self.description = f"Redis {address.shown}"
        self._lease_ms = int(lease_s * 1000)
        self._patience_s = patience_s
        self._failing_since: float | None = None
        self._mine = msgspec.json.encode(holder)
        self._lock = f"{address.prefix}:lock"
        self._owner = f"{address.prefix}:owner"
        self._order: dict[str, dict[bytes, int]] = {table: {} for table in TABLES}
        self._next = 0
        self._client: Any = None
        self._lost: StoreLost | None = None
        self.on_trouble: Callable[[StoreError], None] = lambda error: None
        self._over = Event()
        self._thread = WriteThread(self._commit)
        self._renewer = Thread(target=self._renew_for_ever, name="gcs-store-lease", daemon=True)
        try:
            self._thread.ask(self._open)
        except BaseException:
            self._thread.close(self._shut)
            raise
        self._renewer.start()

    def load(self, table: str) -> dict[bytes, bytes]:
        assert table in TABLES, table
        return self._thread.ask(self._persistently, self._read, table)

    async def write(self, writes: Sequence[Write]) -> None:
        await self._thread.write(writes)

    def close(self) -> None:
        self._over.set()
        self._thread.close(self._shut)

    # --- the lease --------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        redis = self._library
        # Repeats are ours: the client's own would not know what a lost answer means.
        never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        try:
            self._client = redis.Redis.from_url(
                self._address.target, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=never
            )
        except (ValueError, TypeError) as error:
            raise StoreError(f"The GCS's store {self._address.shown} cannot be used: {error}") from None
        self._persistently(self._check_server)
        deadline = time.monotonic() + self._lease_ms / 1000 + 2 * RENEW_S
        while True:
            held_by = self._persistently(self._take)
            if held_by is None:
                self._persistently(self._client.set, self._owner, self._mine)
                return
            if time.monotonic() > deadline:
                raise StoreTaken(
                    f"The GCS's store {self._address.shown} is in use by {held_by}. Two heads cannot share a store: stop "
                    "that one, or give this one another database or ?prefix=NAME."
                )
            time.sleep(RETRY_S)

    def _check_server(self) -> None:
        """A cache throws rows away when it is full, and would throw away actors."""
        try:
            memory = self._client.info("memory")
        except self._library.exceptions.NoPermissionError:
            return  # A Redis that does not tell us what it is set up for.
        policy = str(memory.get("maxmemory_policy", ""))
        if policy.startswith("allkeys") and int(memory.get("maxmemory", 0)):
            raise StoreError(
                f"The GCS's store {self._address.shown} is set up as a cache (maxmemory-policy {policy}): it may drop what "
                "the GCS has written. Set its maxmemory-policy to noeviction, or use another Redis."
            )

    def _take(self) -> str | None:
        """Take the lock where nobody living has it. None when it is ours, else whose it is."""
        for _ in range(3):  # The holder may change between a look and a step.
            if self._client.set(self._lock, self._mine, nx=True, px=self._lease_ms):
                return None
            with suppress(self._library.WatchError), self._client.pipeline() as pipe:
                pipe.watch(self._lock)
                found = pipe.get(self._lock)
                if found is None:
                    continue
                if found != self._mine and not _is_dead(found):
                    return _title(found)
                pipe.multi()
                pipe.set(self._lock, self._mine, px=self._lease_ms)
                pipe.execute()
                return None
        return "another head, just now"

    def _renew_for_ever(self) -> None:
        while not self._over.wait(RENEW_S):
            try:
                self._thread.ask(self._renew)
            except StoreLost as error:
                self.on_trouble(error)
            except StoreTaken as error:
                self.on_trouble(error)
                return
            except RuntimeError:
                return  # Closed meanwhile.

    def _renew(self) -> None:
        # Without patience: a commit that waits behind this one has its own.
        with suppress(self._library.exceptions.RedisError):
            with self._client.pipeline() as pipe:
                self._watch_lock(pipe)
                pipe.multi()
                pipe.pexpire(self._lock, self._lease_ms)
                pipe.execute()

    def _watch_lock(self, pipe: Any) -> None:
        """From here on the transaction fails when the lock changes. Takes it again where it expired and nobody came.
        StoreTaken, StoreLost."""
        pipe.watch(self._lock)
        found = pipe.get(self._lock)
        if found == self._mine:
            return
        pipe.unwatch()
        if found is not None:
            raise self._taken(found)
        owner = self._client.get(self._owner)
        if owner not in (None, self._mine):
            raise self._taken(owner)
        if self._take() is not None:
            raise self._taken(self._client.get(self._lock) or b"")
        if owner is None:
            self._client.set(self._owner, self._mine)
            self._order = {table: {} for table in TABLES}
            self._lost = StoreLost(
                f"The GCS's store {self._address.shown} is empty all at once; was that Redis started anew without a file?"
            )
            raise self._lost
        pipe.watch(self._lock)

    def _taken(self, holder: bytes) -> StoreTaken:
        return StoreTaken(
            f"The GCS's store {self._address.shown} has been taken over by {_title(holder)}; this GCS is one no more."
        )

    # --- rows -------------------------------------------------------------------------------------------------------------

    def _key(self, table: str) -> str:
        return f"{self._address.prefix}:{table}"

    def _read(self, table: str) -> dict[bytes, bytes]:
        found = self._client.hgetall(self._key(table))
        rows = sorted((int.from_bytes(row[:ORDER_BYTES], "big"), key, row[ORDER_BYTES:]) for key, row in found.items())
        self._order[table] = {key: order for order, key, _ in rows}
        if rows:
            self._next = max(self._next, rows[-1][0] + 1)
        return {key: row for _, key, row in rows}

    def _commit(self, writes: list[Write]) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost
        # The last word on a key counts, and what is overwritten in the same breath need not travel.
        final = {(write.table, write.key): write.value for write in writes}
        orders: dict[tuple[str, bytes], int] = {}
        for table, key in final:
            order = self._order[table].get(key)
            if order is None:
                order, self._next = self._next, self._next + 1
            orders[table, key] = order
        try:
            self._persistently(self._transact, final, orders)
        except StoreLost:
            self._lost = None  # Whoever gave this batch is told.
            raise
        for (table, key), value in final.items():
            if value is None:
                self._order[table].pop(key, None)
            else:
                self._order[table][key] = orders[table, key]

    def _transact(self, final: dict[tuple[str, bytes], bytes | None], orders: dict[tuple[str, bytes], int]) -> None:
        while True:
            # A watch that breaks (the lock changed since we looked, or the connection is gone) means: look again.
            with suppress(self._library.WatchError), self._client.pipeline() as pipe:
                self._watch_lock(pipe)
                pipe.multi()
                for (table, key), value in final.items():
                    if value is None:
                        pipe.hdel(self._key(table), key)
                    else:
                        order = orders[table, key].to_bytes(ORDER_BYTES, "big")
                        pipe.hset(self._key(table), key, order + value)
                pipe.execute()
                return

    def _shut(self) -> None:
        if self._client is None:
            return
        with suppress(self._library.exceptions.RedisError):
            with self._client.pipeline() as pipe:
                pipe.watch(self._lock)
                if pipe.get(self._lock) == self._mine:
                    pipe.multi()
                    pipe.delete(self._lock)
                    pipe.execute()
        self._client.close()

    # --- a Redis that is away ---------------------------------------------------------------------------------------------

    def _persistently(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """What the step returns. Repeats it while the Redis is out of reach, for ``patience_s`` from the first failure on.
        StoreError."""
        errors = self._library.exceptions
        while True:
            try:
                result = step(*arguments)
            except (errors.AuthenticationError, errors.AuthorizationError) as error:
                raise StoreError(
                    f"The GCS's store {self._address.shown} refused us: {error}. Put its password into the address: "
                    "redis://:PASSWORD@HOST:PORT."
                ) from None
            except (errors.ConnectionError, errors.TimeoutError) as error:
                self._wait_or_give_up(error)
            except errors.OutOfMemoryError as error:
                raise StoreError(
                    f"The GCS's store {self._address.shown} has no memory left ({error}). Raise its maxmemory; what it has "
                    "acknowledged is safe."
                ) from None
            except errors.RedisError as error:
                raise StoreError(f"The GCS's store {self._address.shown} refused: {error}") from None
            else:
                self._failing_since = None
                return result

    def _wait_or_give_up(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= self._patience_s or self._over.is_set():
            raise StoreError(
                f"The GCS's store {self._address.shown} is out of reach for {now - self._failing_since:.0f} s: {error} "
                "Is that Redis running, and may this machine reach it?"
            ) from None
        time.sleep(RETRY_S)


def _library() -> Any:
    """The client library. StoreError that says how to get it."""
    try:
        import redis
    except ImportError:
        raise StoreError("A store in Redis needs the client library: pip install 'raybook[redis]'.") from None
    return redis


def _holder(encoded: bytes) -> Holder | None:
    try:
        return msgspec.json.decode(encoded, type=Holder)
    except msgspec.MsgspecError:
        return None


def _is_dead(encoded: bytes) -> bool:
    """Whether that holder ran where we could see it, and runs no more."""
    holder = _holder(encoded)
    return holder is not None and holder.process.is_known_dead()


def _title(encoded: bytes) -> str:
    holder = _holder(encoded)
    return holder.title if holder is not None and holder.title else "another head"
