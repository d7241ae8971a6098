"""Archives: a folder as one file that travels, named by what is in it; and back to a folder on another node.

An archive's address, ``gcs://_ray_pkg_<hash>.zip`` as Ray writes it, is made of names, modes and contents: the same folder
has the same address everywhere, and what is at an address never changes. Whether a folder is worth sending, and where
archives are kept meanwhile, is for others to say.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from raybook.base.ignore_patterns import IgnorePatterns

ADDRESS_START = "gcs://_ray_pkg_"
ARCHIVE_BYTES_MAX = 512 << 20
"""Ray's ``GCS_STORAGE_MAX_SIZE``: an archive passes through the memory of the GCS."""
IGNORE_FILES = (".gitignore", ".rayignore")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest date that a zip file can name: when a file was written is not part of what an archive is."""
COMPRESSION = 1
"""The least: sources shrink to a third at 100 MB/s, and more effort gains a tenth."""


class ArchiveTooLarge(Exception):
    """The folder does not fit into an archive; the text names its largest files."""


def files_of(root: Path, excludes: Iterable[str] = (), ignore_files: Iterable[str] = IGNORE_FILES) -> Iterator[Path]:
    """Files and folders below ``root`` that belong into its archive, in a fixed order. excludes: patterns relative to the
    root; each folder's own ignore files count for what is below it. Sockets and the like are left out."""
    seen: set[str] = set()
    names = tuple(ignore_files)

    def walk(folder: Path, lists: list[tuple[Path, IgnorePatterns]]) -> Iterator[Path]:
        real = os.path.realpath(folder)
        if real in seen:  # A link back to a folder above.
            return
        seen.add(real)
        for name in names:
            if (folder / name).is_file():
                lists = [*lists, (folder, IgnorePatterns((folder / name).read_text(errors="replace").splitlines()))]
        for path in sorted(folder.iterdir()):
            is_folder = path.is_dir()
            if not is_folder and not path.is_file():
                continue
            if any(patterns.ignores(path.relative_to(base).as_posix(), is_folder) for base, patterns in lists):
                continue
            yield path
            if is_folder:
                yield from walk(path, lists)

    yield from walk(root, [(root, IgnorePatterns(excludes))])


def signature(paths: Iterable[Path]) -> bytes:
    """Changes when files come, go or are written; reads none of them. Cost: a ``stat`` for each."""
    digest = hashlib.sha256()
    for path in paths:
        found = path.stat()
        size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
        digest.update(f"{path}\0{size}\0{found.st_mtime_ns}\0{found.st_mode}\n".encode())
    return digest.digest()


def pack(root: Path, paths: Iterable[Path], bytes_max: int = ARCHIVE_BYTES_MAX) -> tuple[str, bytes]:
    """(address, archive) of ``paths``, named in it relative to ``root``. ArchiveTooLarge as soon as it is known.
    Cost: 10 ms for a megabyte of sources."""
    digest = hashlib.sha256()
    buffer = io.BytesIO()
    sizes: list[tuple[int, str]] = []
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION) as archive:
        for path in paths:
            name = path.relative_to(root).as_posix()
            mode = stat.S_IMODE(path.stat().st_mode)
            is_folder = path.is_dir()
            info = zipfile.ZipInfo(name + "/" * is_folder, EPOCH)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            content = b"" if is_folder else path.read_bytes()
            digest.update(f"{info.filename}\0{mode:o}\0{len(content)}\0".encode())
            digest.update(content)
            archive.writestr(info, content)
            sizes.append((len(content), name))
            if buffer.tell() > bytes_max:
                largest = ", ".join(f"{name} ({size >> 20} MiB)" for size, name in sorted(sizes, reverse=True)[:5])
                raise ArchiveTooLarge(largest)
    return f"{ADDRESS_START}{digest.hexdigest()[:32]}.zip", buffer.getvalue()


def address_of(content: bytes, ending: str = ".zip") -> str:
    """The address of a file that is an archive already."""
    return f"{ADDRESS_START}{hashlib.sha256(content).hexdigest()[:32]}{ending}"


def unpack(content: bytes, target: Path, *, strip_top: bool = False) -> None:
    """Make ``target`` the folder that was packed; whole or not at all, also when several do it at once. strip_top: the
    only folder at the archive's top, if that is all there is, is the target itself. A wheel becomes what an installer
    would put on the path. zipfile.BadZipFile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.parent / f".making-{os.urandom(8).hex()}"
    making.mkdir(mode=0o700)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for info in archive.infolist():
                made = Path(archive.extract(info, making))
                mode = stat.S_IMODE(info.external_attr >> 16)
                if mode:
                    # The owner, who has to remove it in the end, may always write.
                    made.chmod(mode | (0o700 if info.is_dir() else 0o600))
        _spread_wheel_data(making)
        source = making
        inside = [path for path in making.iterdir() if path.name != "__MACOSX"]
        if strip_top and len(inside) == 1 and inside[0].is_dir():
            source = inside[0]
        try:
            source.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _spread_wheel_data(folder: Path) -> None:
    """``name.data/purelib`` and ``platlib`` of a wheel belong beside its other modules."""
    for data in folder.glob("*.data"):
        for kind in ("purelib", "platlib"):
            if (data / kind).is_dir():
                shutil.copytree(data / kind, folder, dirs_exist_ok=True)
