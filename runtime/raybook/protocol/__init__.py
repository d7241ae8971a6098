"""Bytes in, messages out: frames, messages, serialization, authentication. No sockets and no asyncio in here."""
