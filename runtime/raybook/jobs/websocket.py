"""WebSocket: as much of RFC 6455 as a server needs that only sends text: the handshake, text frames, a close frame."""

from __future__ import annotations

import base64
import hashlib
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NORMAL = 1000


def accept_key(key: str) -> str:
    """The answer to a client's ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


def text_frame(text: str) -> bytes:
    """One unmasked text message."""
    return _frame(0x1, text.encode())


def close_frame(code: int = NORMAL) -> bytes:
    """The end."""
    return _frame(0x8, struct.pack("!H", code))


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 127, size)
    return head + payload
