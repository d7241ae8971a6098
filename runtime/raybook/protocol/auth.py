"""Proof of the cluster's token, by both sides, before one byte of a peer is decoded.

    listening side   greeting: 8 bytes that say what this is, and a challenge of 32
    connecting side  answer:   a challenge of its own, and HMAC-SHA256 of both under the token
    listening side   verdict:  its own HMAC of both, or 32 zero bytes for "your token is not ours"; then messages

All are raw bytes of fixed length, so nothing is parsed before the proof, and nobody sends the token itself: who listens at
an address that was ours once learns nothing, and cannot make us read what he sends. Comparisons take constant time. The two
proofs are made over different first bytes, so that neither is the answer to the other.

Two small machines, ``Listening`` and ``Calling``: bytes in, bytes to send out. No sockets.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from raybook.protocol.frames import ProtocolError

MAGIC = b"raybook\x01"
"""What a greeting begins with; the last byte is the version of this handshake."""
CHALLENGE_BYTES = 32
PROOF_BYTES = 32
TOKEN_BYTES = 32
GREETING_BYTES = len(MAGIC) + CHALLENGE_BYTES
ANSWER_BYTES = CHALLENGE_BYTES + PROOF_BYTES
REFUSAL = bytes(PROOF_BYTES)
_CALLER, _LISTENER = b"caller", b"listener"


class AuthenticationFailed(ConnectionError):
    """One side could not prove that it knows the cluster's token."""


def new_token() -> bytes:
    """A fresh cluster token."""
    return secrets.token_bytes(TOKEN_BYTES)


def token_of_words(words: str) -> bytes:
    """The cluster token that a shared secret of any length stands for: what Kubernetes hands to pods is text."""
    return hashlib.sha256(b"raybook cluster token\0" + words.encode()).digest()


def prove(token: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 of a message under the token."""
    return hmac.digest(token, message, "sha256")


def is_proof(token: bytes, message: bytes, proof: bytes) -> bool:
    """Whether the proof shows knowledge of the token."""
    return hmac.compare_digest(prove(token, message), proof)


class Listening:
    """The listening side of one connection. Send ``greeting``; then ``feed`` what arrives."""

    __slots__ = ("_answer", "_challenge", "_token", "greeting", "verdict")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._challenge = secrets.token_bytes(CHALLENGE_BYTES)
        self._answer = bytearray()
        self.greeting = MAGIC + self._challenge
        self.verdict = b""
        """What to send, once it is not empty: proof or refusal. The handshake is over then."""

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take bytes in; those that belong to messages come back, once the verdict is in. AuthenticationFailed when the
        proof is none: send ``verdict`` and close."""
        answer = self._answer
        answer += data
        if len(answer) < ANSWER_BYTES:
            return b""
        theirs = bytes(answer[:CHALLENGE_BYTES])
        both = self._challenge + theirs
        if not is_proof(self._token, _CALLER + both, bytes(answer[CHALLENGE_BYTES:ANSWER_BYTES])):
            self.verdict = REFUSAL
            raise AuthenticationFailed("A peer does not know this cluster's token; it was disconnected.")
        self.verdict = prove(self._token, _LISTENER + both)
        return bytes(answer[ANSWER_BYTES:])


class Calling:
    """The connecting side of one connection. ``feed`` what arrives; send ``answer`` as soon as there is one."""

    __slots__ = ("_expected", "_received", "_token", "answer", "is_over")

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._received = bytearray()
        self._expected = b""
        self.answer = b""
        """What to send, once it is not empty; whoever has sent it empties it."""
        self.is_over = False

    @property
    def bytes_wanted(self) -> int:
        """How many bytes the next step lacks."""
        return (PROOF_BYTES if self._expected else GREETING_BYTES) - len(self._received)

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take bytes in; those that belong to messages come back, once the listener has proved the token, too.
        ProtocolError for who is no raybook of this version, AuthenticationFailed for who has another token."""
        received = self._received
        received += data
        if not self._expected:
            _check_greeting(received)
            if len(received) < GREETING_BYTES:
                return b""
            ours = secrets.token_bytes(CHALLENGE_BYTES)
            both = bytes(received[len(MAGIC) : GREETING_BYTES]) + ours
            del received[:GREETING_BYTES]
            self.answer = ours + prove(self._token, _CALLER + both)
            self._expected = prove(self._token, _LISTENER + both)
        if len(received) < PROOF_BYTES:
            return b""
        verdict = bytes(received[:PROOF_BYTES])
        if hmac.compare_digest(verdict, REFUSAL):
            raise AuthenticationFailed(
                "The other side refused our token: it belongs to another cluster, or to an earlier one at this address."
            )
        if not hmac.compare_digest(verdict, self._expected):
            raise AuthenticationFailed("The other side could not prove that it knows this cluster's token.")
        self.is_over = True
        return bytes(received[PROOF_BYTES:])


def _check_greeting(received: bytearray) -> None:
    """As early as it can be said: who waits for forty bytes of a peer that says twenty waits for ever."""
    if MAGIC.startswith(received[: len(MAGIC)]):
        return
    if received.startswith(MAGIC[:-1]):
        raise ProtocolError(
            f"The other side speaks version {received[len(MAGIC) - 1]} of raybook's handshake, this one version "
            f"{MAGIC[-1]}. Install the same version of raybook on both sides."
        )
    raise ProtocolError(
        f"The other side is not raybook: it began with {bytes(received[:16])!r}. Check the address and the port."
    )
