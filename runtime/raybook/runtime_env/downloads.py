"""Downloads: an archive from an address outside the cluster. Blocks; run it in a thread."""

from __future__ import annotations

import io
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from raybook.io import archives
from raybook.runtime_env.plan import EnvironmentFailed

PLAIN_SCHEMES = ("http", "https", "file")
TIMEOUT_S = 60
"""Without a byte for so long, a server counts as gone."""


def download(address: str) -> bytes:
    """What is there. ``s3://``, ``gs://`` and others need fsspec and its part for that scheme. EnvironmentFailed."""
    scheme = address.partition("://")[0]
    try:
        if scheme in PLAIN_SCHEMES:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as response:
                return response.read()
        import fsspec

        with fsspec.open(address, "rb") as file:
            return file.read()
    except ImportError as error:
        raise EnvironmentFailed(
            f"Reading {address} needs fsspec with its part for {scheme} on this node: {error}. Install it, or give a "
            "local path or an https address."
        ) from None
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise EnvironmentFailed(f"{address} could not be read: {error}") from None


def place(address: str, content: bytes, target: Path) -> None:
    """Unpack an archive. Those from elsewhere may have all they hold in one folder, as repositories' archives do.
    EnvironmentFailed when it is none."""
    ours = address.startswith(archives.ADDRESS_START)
    try:
        if address.split("?", 1)[0].endswith((".tar.gz", ".tgz", ".tar.xz")):
            content = _as_zip(content)
        archives.unpack(content, target, strip_top=not ours and ".whl" not in address)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise EnvironmentFailed(f"{address} is no archive that can be unpacked: {error}") from None


def _as_zip(content: bytes) -> bytes:
    """A tar file's folders and files as a zip file; links and devices are left out."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar, zipfile.ZipFile(out, "w") as archive:
        for member in tar:
            info = zipfile.ZipInfo(member.name.removeprefix("./") + "/" * member.isdir(), archives.EPOCH)
            info.external_attr = (member.mode & 0o777) << 16
            file = tar.extractfile(member) if member.isfile() else None
            if info.filename != "/" and (member.isdir() or file is not None):
                archive.writestr(info, file.read() if file is not None else b"")
    return out.getvalue()
