"""Store addresses: what ``--store`` may say, taken apart and checked before any process is started.

    memory                                        nothing outlives the GCS
    sqlite:PATH, or only PATH                     a file
    redis://[[user]:password@]host[:port][/db]    a Redis; rediss:// with TLS, unix://PATH[?db=N] for its Unix socket

``?prefix=NAME`` puts several clusters side by side into one database of a Redis. A password is shown to nobody.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

MEMORY = "memory"
SQLITE = "sqlite"
REDIS = "redis"
REDIS_SCHEMES = ("redis", "rediss", "unix")
REDIS_PORT = 6379
DEFAULT_PREFIX = "raybook"
FORMS = "memory, sqlite:PATH, or redis://[:PASSWORD@]HOST:PORT[/DB]"


class StoreAddress(msgspec.Struct, frozen=True):
    """kind: MEMORY, SQLITE or REDIS. target: the path, or what the Redis client takes. shown: for messages and logs."""

    kind: str
    target: str = ""
    prefix: str = DEFAULT_PREFIX
    shown: str = MEMORY

    @property
    def has_password(self) -> bool:
        """Whether ``target`` is for nobody's eyes."""
        return self.kind == REDIS and urlsplit(self.target).password is not None


def parse_store(text: str) -> StoreAddress:
    """ValueError that says which forms there are. Paths are made absolute, because daemons start elsewhere."""
    scheme, colon, rest = text.partition(":")
    if text == MEMORY:
        return StoreAddress(MEMORY)
    if colon and scheme in REDIS_SCHEMES:
        return _redis(text)
    if colon and scheme == SQLITE:
        return _sqlite(rest.removeprefix("//"), text)
    if colon and rest.startswith("//"):
        raise ValueError(f"There is no store {_masked(text)!r}: {scheme} is not known. A store is {FORMS}.")
    return _sqlite(text, text)


def _sqlite(path: str, text: str) -> StoreAddress:
    if not path:
        raise ValueError(f"The store {text!r} names no file. A store is {FORMS}.")
    whole = Path(path).expanduser().resolve()
    if whole.is_dir():
        raise ValueError(f"The store {whole} is a folder; name a file in it, such as {whole / 'gcs.sqlite'}.")
    return StoreAddress(SQLITE, str(whole), shown=f"sqlite:{whole}")


def _redis(text: str) -> StoreAddress:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        raise ValueError(f"The store {_masked(text)!r} has no port that is a number from 0 to 65535.") from None
    if parts.scheme != "unix" and not parts.hostname:
        raise ValueError(f"The store {_masked(text)!r} names no host. A store is {FORMS}.")
    if parts.scheme == "unix" and not parts.path:
        raise ValueError(f"The store {_masked(text)!r} names no socket: unix:///path/of/redis.sock.")
    query = dict(parse_qsl(parts.query))
    prefix = query.pop("prefix", DEFAULT_PREFIX)
    database = query.get("db") or (parts.path.strip("/") if parts.scheme != "unix" else "") or "0"
    if not database.isdigit():
        raise ValueError(f"The store {_masked(text)!r}: {database!r} is no number of a database.")
    # Not urlunsplit: it takes the slashes of an empty host for superfluous.
    target = f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    where = parts.path if parts.scheme == "unix" else f"{host}:{port or REDIS_PORT}"
    shown = f"{parts.scheme}://{where}" + (f"/{database}" if parts.scheme != "unix" else "")
    return StoreAddress(REDIS, target, prefix, shown if prefix == DEFAULT_PREFIX else f"{shown}?prefix={prefix}")


def _masked(text: str) -> str:
    """Without what may be a password."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://…@{rest.rpartition('@')[2]}" if "@" in rest else text
