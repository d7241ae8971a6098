"""Archives of this process: folders and files that runtime environments send along, and their way into the cluster.

An archive is made when the option is written, and kept in memory; it goes to the cluster's key-value table as soon as
there is a cluster, in pieces, the list of them last. Nodes fetch it from there. A folder whose files have not changed is
not read again.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from raybook.api.context import ARCHIVES, current_runtime, started_engine
from raybook.engines.engine import Engine
from raybook.io import archives
from raybook.protocol.messages.gcs import ARCHIVES_NAMESPACE, ArchivePieces, KvGet, KvPut

PIECE_BYTES = 4 << 20
"""So much travels in one message: a long one would hold up others on the same socket."""
DEFAULT_EXCLUDES = ".git,.venv,venv,__pycache__"
EXCLUDES_VARIABLE = "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"
IGNORE_GITIGNORE_VARIABLE = "RAY_RUNTIME_ENV_IGNORE_GITIGNORE"


class ArchiveShelf:
    """Archives by address, and which folder gave which."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.known: dict[tuple[str, ...], tuple[bytes, str]] = {}
        """(folder, whether with its name, patterns) → (signature of its files, address)."""

    def send_all(self, engine: Engine) -> None:
        """A session begins: what was made before goes to its cluster."""
        for address in self.contents:
            self.send(engine, address)

    def send(self, engine: Engine, address: str) -> None:
        """Bring an archive to the cluster, unless it is there. Cost: one round trip, and one for each piece."""
        if engine.gcs_call("KvGet", KvGet(ARCHIVES_NAMESPACE, address.encode())).value is None:
            _bring(engine, address, self.contents[address])


def is_kept(address: str) -> bool:
    """Whether the cluster has the archive. Cost: one round trip."""
    found = started_engine().gcs_call("KvGet", KvGet(ARCHIVES_NAMESPACE, address.encode()))
    return found.value is not None


def keep(address: str, content: bytes) -> None:
    """Bring an archive that came from elsewhere to the cluster, and forget it here."""
    _bring(started_engine(), address, content)


def _bring(engine: Engine, address: str, archive: bytes) -> None:
    content = memoryview(archive)
    pieces = range(0, len(content), PIECE_BYTES)
    for number, start in enumerate(pieces):
        piece = bytes(content[start : start + PIECE_BYTES])
        engine.gcs_call("KvPut", KvPut(ARCHIVES_NAMESPACE, f"{address}#{number}".encode(), piece))
    about = msgspec.msgpack.encode(ArchivePieces(len(pieces), len(content)))
    engine.gcs_call("KvPut", KvPut(ARCHIVES_NAMESPACE, address.encode(), about))


def of_folder(folder: Path, excludes: tuple[str, ...], *, with_name: bool = False) -> str:
    """The address of a folder's archive; with_name: the folder itself is at its top, not only what is in it. ValueError
    when it is too large. Cost: a ``stat`` for each file, and 10 ms a megabyte the first time."""
    defaults = tuple(filter(None, os.environ.get(EXCLUDES_VARIABLE, DEFAULT_EXCLUDES).split(",")))
    skips_gitignore = os.environ.get(IGNORE_GITIGNORE_VARIABLE) == "1"
    ignore_files = tuple(name for name in archives.IGNORE_FILES if not (skips_gitignore and name == ".gitignore"))
    paths = list(archives.files_of(folder, (*defaults, *excludes), ignore_files))
    if with_name:
        paths.insert(0, folder)
    root = folder.parent if with_name else folder
    shelf = _shelf()
    question = (str(folder), str(with_name), *defaults, "", *excludes)
    stamp = archives.signature(paths)
    known = shelf.known.get(question)
    if known is not None and known[0] == stamp:
        address = known[1]
    else:
        try:
            address, content = archives.pack(root, paths, archives.ARCHIVE_BYTES_MAX)
        except archives.ArchiveTooLarge as largest:
            raise ValueError(
                f"Package size of {folder} exceeds the maximum size of {archives.ARCHIVE_BYTES_MAX >> 20} MiB. Its largest "
                f"files: {largest}. Name what tasks do not need in runtime_env['excludes'], .gitignore or .rayignore, or "
                "read data from its own place."
            ) from None
        shelf.known[question] = (stamp, address)
        shelf.contents[address] = content
    _send_if_started(address)
    return address


def of_file(path: Path) -> str:
    """The address of a .zip or .whl file. ValueError when it is too large."""
    if path.stat().st_size > archives.ARCHIVE_BYTES_MAX:
        raise ValueError(f"Package size of {path} exceeds the maximum size of {archives.ARCHIVE_BYTES_MAX >> 20} MiB.")
    content = path.read_bytes()
    address = archives.address_of(content, path.suffix)
    _shelf().contents[address] = content
    _send_if_started(address)
    return address


def of_module_file(path: Path) -> str:
    """The address of an archive with one file, a Python module, in it."""
    address, content = archives.pack(path.parent, [path])
    _shelf().contents[address] = content
    _send_if_started(address)
    return address


def _shelf() -> ArchiveShelf:
    shelf = current_runtime.lasting.get(ARCHIVES)
    if shelf is None:
        shelf = current_runtime.lasting[ARCHIVES] = ArchiveShelf()
    return shelf


def _send_if_started(address: str) -> None:
    if current_runtime.engine is not None:
        _shelf().send(current_runtime.engine, address)
