"""Packages: folders as zip files, named by what is in them, so that one that was sent before is not sent again.

What the folder's `.gitignore` files and `excludes` name stays behind, and what nobody wants elsewhere (`.git`, virtual
environments, caches). An archive is unpacked only into its own folder: names that lead out of it are refused.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

PROTOCOL = "gcs"
PACKAGE_BYTES_MAX = 512 << 20
ALWAYS_LEFT_OUT = (".git", ".venv", "venv", "__pycache__")
NAME = re.compile(r"_ray_pkg_[0-9a-zA-Z_.-]{1,150}\.zip")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Times are no part of a package: the same files make the same name."""


def package_folder(folder: Path, target: Path, excludes: Sequence[str] = (), only: str = "") -> str:
    """Write the folder's archive to ``target``; its address, ``gcs://_ray_pkg_<hash>.zip``. only: of what is in the folder,
    this. ValueError for what is no folder, or is too large."""
    if not folder.is_dir():
        raise ValueError(
            f"working_dir: there is no directory {folder}. Give the path of one, or the address of an archive."
        )
    total = 0
    digest = hashlib.sha256()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, name in chosen_files(folder, excludes):
            if only and name.partition("/")[0] != only:
                continue
            data = path.read_bytes()
            total += len(data)
            if total > PACKAGE_BYTES_MAX:
                raise ValueError(
                    f"working_dir: the files of {folder} have more than {PACKAGE_BYTES_MAX >> 20} MiB. Leave large ones out "
                    "with runtime_env={'excludes': [...]}, or put them where the job can read them."
                )
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = (stat.S_IFREG | (0o755 if os.access(path, os.X_OK) else 0o644)) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
            digest.update(f"{name}\0{entry.external_attr}\0{len(data)}\0".encode() + data)
    return f"{PROTOCOL}://_ray_pkg_{digest.hexdigest()[:32]}.zip"


def chosen_files(folder: Path, excludes: Sequence[str] = ()) -> Iterator[tuple[Path, str]]:
    """(path, name in the archive) of what a package of this folder holds, in order."""
    yield from _walk(folder, folder, [_pattern(text, "") for text in excludes])


def _walk(top: Path, folder: Path, rules: list[tuple[re.Pattern[str], bool, bool]]) -> Iterator[tuple[Path, str]]:
    inside = folder.relative_to(top).as_posix()
    rules = [*rules, *_ignore_file(folder / ".gitignore", "" if inside == "." else inside + "/")]
    for path in sorted(folder.iterdir()):
        name = path.relative_to(top).as_posix()
        is_folder = path.is_dir() and not path.is_symlink()
        if path.name in ALWAYS_LEFT_OUT or _is_left_out(name, is_folder, rules):
            continue
        if is_folder:
            yield from _walk(top, path, rules)
        elif path.is_file():
            yield path, name


def _ignore_file(path: Path, prefix: str) -> list[tuple[re.Pattern[str], bool, bool]]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [_pattern(line.rstrip(), prefix) for line in lines if line.strip() and not line.startswith("#")]


def _pattern(text: str, prefix: str) -> tuple[re.Pattern[str], bool, bool]:
    """(expression for whole names, only folders, takes back) of one line of a .gitignore in the folder ``prefix``."""
    takes_back = text.startswith("!")
    text = text.lstrip("!")
    only_folders = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    text = text.lstrip("/")
    parts = []
    for part in text.split("/"):
        # fnmatch's stars cross folders; git's do not, but for "**".
        parts.append(".*" if part == "**" else fnmatch.translate(part).replace(".*", "[^/]*")[4:-3])
    body = "/".join(parts).replace(".*/", "(?:.*/)?")
    return (
        re.compile(re.escape(prefix) + ("" if anchored else "(?:.*/)?") + body + r"\Z", re.S),
        only_folders,
        takes_back,
    )


def _is_left_out(name: str, is_folder: bool, rules: list[tuple[re.Pattern[str], bool, bool]]) -> bool:
    left_out = False
    for expression, only_folders, takes_back in rules:
        if (is_folder or not only_folders) and expression.match(name):
            left_out = not takes_back
    return left_out


def unpack(archive: Path, target: Path) -> None:
    """Unpack into ``target``, which appears whole or not at all; nothing when it is there. ValueError for an archive that
    is none, holds names that lead out of it, or more than `PACKAGE_BYTES_MAX`."""
    if target.exists():
        return
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if sum(entry.file_size for entry in entries) > PACKAGE_BYTES_MAX:
                raise ValueError(f"{archive.name} holds more than {PACKAGE_BYTES_MAX >> 20} MiB.")
            for entry in entries:
                parts = PurePosixPath(entry.filename)
                if parts.is_absolute() or ".." in parts.parts or stat.S_ISLNK(entry.external_attr >> 16):
                    raise ValueError(f"{archive.name} holds {entry.filename!r}, which leads out of it.")
                path = Path(opened.extract(entry, aside))
                if not entry.is_dir():
                    path.chmod(0o755 if (entry.external_attr >> 16) & stat.S_IXUSR else 0o644)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive.name} is no zip archive: {error}") from None
    aside.mkdir(exist_ok=True)
    try:
        aside.rename(target)
    except OSError:
        if not target.exists():
            raise
