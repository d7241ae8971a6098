"""The proof of the token, by both sides: two machines that are given bytes, in whatever pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raybook.protocol import auth
from raybook.protocol.auth import AuthenticationFailed, Calling, Listening
from raybook.protocol.frames import ProtocolError

TOKEN = b"t" * auth.TOKEN_BYTES
OTHER = b"o" * auth.TOKEN_BYTES


def answered(listening: Listening, token: bytes = TOKEN) -> bytes:
    """What an honest caller with this token answers."""
    calling = Calling(token)
    calling.feed(listening.greeting)
    return calling.answer


def test_both_sides_know_the_token_and_what_follows_is_passed_on():
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    assert calling.feed(listening.greeting) == b""
    assert listening.feed(calling.answer + b"first frames") == b"first frames"
    assert calling.feed(listening.verdict + b"an answer") == b"an answer"
    assert calling.is_over


@given(st.lists(st.integers(1, 40), max_size=12), st.binary(max_size=50))
def test_pieces_of_any_length_make_no_difference(sizes: list[int], rest: bytes):
    listening, calling = Listening(TOKEN), Calling(TOKEN)

    def in_pieces(feed, data: bytes) -> bytes:
        passed, cuts = b"", iter(sizes)
        while data:
            size = next(cuts, len(data))
            if passed:
                # Over: what comes now is for the frames.
                return passed + data
            passed += feed(data[:size])
            data = data[size:]
        return passed

    in_pieces(calling.feed, listening.greeting)
    assert in_pieces(listening.feed, calling.answer + rest) == rest
    assert in_pieces(calling.feed, listening.verdict) == b""
    assert calling.is_over


def test_a_caller_with_another_token_is_refused_and_told():
    listening, calling = Listening(TOKEN), Calling(OTHER)
    calling.feed(listening.greeting)
    with pytest.raises(AuthenticationFailed, match="does not know this cluster's token"):
        listening.feed(calling.answer)
    assert listening.verdict == auth.REFUSAL
    with pytest.raises(AuthenticationFailed, match="refused our token: it belongs to another cluster"):
        calling.feed(listening.verdict)
    assert not calling.is_over


def test_a_listener_that_does_not_know_the_token_is_not_believed():
    calling = Calling(TOKEN)
    impostor = Listening(OTHER)
    calling.feed(impostor.greeting)
    with pytest.raises(AuthenticationFailed, match="could not prove"):
        calling.feed(bytes(range(auth.PROOF_BYTES)))


def test_a_callers_own_proof_sent_back_is_no_proof_of_the_listener():
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    calling.feed(listening.greeting)
    with pytest.raises(AuthenticationFailed, match="could not prove"):
        calling.feed(calling.answer[auth.CHALLENGE_BYTES :])


def test_an_answer_recorded_on_another_connection_is_refused():
    recorded = answered(Listening(TOKEN))
    with pytest.raises(AuthenticationFailed):
        Listening(TOKEN).feed(recorded)


def test_the_token_is_in_nothing_that_is_sent():
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    calling.feed(listening.greeting)
    listening.feed(calling.answer)
    assert TOKEN not in listening.greeting + calling.answer + listening.verdict


@pytest.mark.parametrize(
    "banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x01\x00\x02\x02P"]
)
def test_who_is_no_raybook_is_told_from_its_first_bytes(banner: bytes):
    with pytest.raises(ProtocolError, match="is not raybook: it began with.*Check the address"):
        Calling(TOKEN).feed(banner)


def test_another_version_of_the_handshake_is_named_with_both_numbers():
    greeting = bytearray(Listening(TOKEN).greeting)
    greeting[len(auth.MAGIC) - 1] = 9
    with pytest.raises(ProtocolError, match="version 9 of raybook's handshake, this one version 1"):
        Calling(TOKEN).feed(greeting)


def test_only_the_bytes_of_the_handshake_are_asked_for():
    listening, calling = Listening(TOKEN), Calling(TOKEN)
    assert calling.bytes_wanted == auth.GREETING_BYTES
    calling.feed(listening.greeting[:10])
    assert calling.bytes_wanted == auth.GREETING_BYTES - 10
    calling.feed(listening.greeting[10:])
    assert calling.bytes_wanted == auth.PROOF_BYTES
