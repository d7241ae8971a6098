"""Control calls show knowledge of the token without sending it, and so do their answers."""

from __future__ import annotations

import pytest

from raybook.protocol import call_proof
from raybook.protocol.call_proof import is_call_allowed, is_its_reply, is_its_request, sign_call, sign_reply

TOKEN, OTHER = b"t" * 32, b"o" * 32
METHOD = "/raybook.Gcs/ListNodes"


def test_a_signed_call_is_allowed_and_its_answer_believed():
    nonce, pairs = sign_call(TOKEN, METHOD, b"request")
    metadata = dict(pairs)
    assert is_call_allowed(TOKEN, METHOD, metadata)
    assert is_its_request(metadata, b"request")
    answer = dict(sign_reply(TOKEN, metadata, b"answer"))
    assert is_its_reply(TOKEN, nonce, answer, b"answer")


def test_another_token_another_method_or_another_request_is_refused():
    _, pairs = sign_call(OTHER, METHOD, b"request")
    assert not is_call_allowed(TOKEN, METHOD, dict(pairs))
    _, pairs = sign_call(TOKEN, METHOD, b"request")
    assert not is_call_allowed(TOKEN, "/raybook.Gcs/StopCluster", dict(pairs))
    assert not is_its_request(dict(pairs), b"another request")


def test_an_answer_of_an_impostor_of_another_call_or_changed_on_its_way_is_not_believed():
    nonce, pairs = sign_call(TOKEN, METHOD, b"request")
    first = dict(sign_reply(TOKEN, dict(pairs), b"answer"))
    other_nonce, _ = sign_call(TOKEN, METHOD, b"request")
    assert not is_its_reply(TOKEN, other_nonce, first, b"answer")
    assert not is_its_reply(TOKEN, nonce, first, b"answer!")
    assert not is_its_reply(TOKEN, nonce, dict(sign_reply(OTHER, dict(pairs), b"answer")), b"answer")
    assert not is_its_reply(TOKEN, nonce, {}, b"answer")


@pytest.mark.parametrize("wrong", [None, "text", b"", b"short", 7])
@pytest.mark.parametrize("key", [call_proof.NONCE_KEY, call_proof.DIGEST_KEY, call_proof.PROOF_KEY])
def test_metadata_of_any_kind_is_refused_and_never_an_error(key: str, wrong: object):
    _, pairs = sign_call(TOKEN, METHOD, b"")
    assert not is_call_allowed(TOKEN, METHOD, {**dict(pairs), key: wrong})
    assert not is_call_allowed(TOKEN, METHOD, {})


def test_the_token_is_in_no_metadata():
    _, pairs = sign_call(TOKEN, METHOD, b"request")
    sent = b"".join(value for _, value in (*pairs, *sign_reply(TOKEN, dict(pairs), b"answer")))
    assert TOKEN not in sent and TOKEN.hex().encode() not in sent
