"""Proof of the cluster's token by challenge, before one byte of a peer is decoded.

The listening side sends a 32-byte challenge; the connecting side answers HMAC-SHA256(token, challenge). Both are raw
bytes of fixed length, so nothing is parsed before the proof. Comparison takes constant time.
"""

from __future__ import annotations

import hmac
import secrets

CHALLENGE_BYTES = 32
PROOF_BYTES = 32
TOKEN_BYTES = 32


def new_token() -> bytes:
    """A fresh cluster token."""
    return secrets.token_bytes(TOKEN_BYTES)


def new_challenge() -> bytes:
    """What the listening side sends first."""
    return secrets.token_bytes(CHALLENGE_BYTES)


def prove(token: bytes, challenge: bytes) -> bytes:
    """The connecting side's answer."""
    return hmac.digest(token, challenge, "sha256")


def is_proof(token: bytes, challenge: bytes, proof: bytes) -> bool:
    """Whether the answer shows knowledge of the token."""
    return hmac.compare_digest(prove(token, challenge), proof)
