"""Pieces of a stream that end where a line ends, so that files larger than memory can be parsed bit by bit."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

PIECE_BYTES = 16 * 1024 * 1024
"""A block after parsing is of the order of the target of 128 MiB, and parsers are at full speed from 1 MiB on."""


def line_pieces(stream: pa.NativeFile, piece_bytes: int = PIECE_BYTES) -> Iterator[bytes]:
    """The stream's bytes in pieces of about `piece_bytes`, each ending with a line's end, but the last."""
    kept: list[bytes] = []
    while True:
        read = stream.read(piece_bytes)
        if not read:
            break
        end = read.rfind(b"\n") + 1
        if not end:
            kept.append(read)
            continue
        yield b"".join([*kept, read[:end]])
        kept = [read[end:]] if end < len(read) else []
    rest = b"".join(kept)
    if rest:
        yield rest
