"""Sides of different versions are told what differs, in two columns, and what to do."""

from __future__ import annotations

import pytest

from raybook.base.tls_files import TlsFiles, choose_tls
from raybook.base.versions import OWN, Versions, parse_versions, why_apart

OURS = Versions(3, "3.11.7", "0.4.0")


def test_equal_versions_are_not_apart():
    assert why_apart(OURS, OURS, "the node", "this cluster", code_travels=True) == ""


def test_the_difference_stands_in_two_columns_with_what_to_do():
    text = why_apart(Versions(2, "3.10.4", "0.3.1"), OURS, "the node", "this cluster", code_travels=True)
    assert text.splitlines() == [
        "The node and this cluster are of different versions.",
        "            the node  this cluster",
        "  python    3.10.4    3.11.7        differs",
        "  raybook   0.3.1     0.4.0         differs",
        "  protocol  2         3             differs",
        "Use Python 3.11 there: code and values travel between the two.",
        "Install the same raybook there: pip install raybook==0.4.0",
    ]


def test_another_patch_release_of_python_and_another_raybook_of_one_protocol_may_meet():
    assert why_apart(Versions(3, "3.11.2", "0.3.9"), OURS, "the driver", "this cluster", code_travels=True) == ""


def test_who_only_asks_may_have_another_python():
    other = Versions(3, "3.13.0", "0.4.0")
    assert why_apart(other, OURS, "the caller", "this cluster", code_travels=False) == ""
    assert "Use Python 3.11" in why_apart(other, OURS, "the node", "this cluster", code_travels=True)


def test_versions_survive_being_sent_as_text():
    assert parse_versions(str(OWN)) == OWN


@pytest.mark.parametrize("text", ["", "1", "x 3.11 0.1", "1 2 3 4", "² 3 4", "-1 3 4", "99999999999999 3 4", "\0"])
def test_what_cannot_be_read_is_unknown_and_differs(text: str):
    theirs = parse_versions(text)
    assert theirs.protocol == 0
    assert "unknown" in why_apart(theirs, OURS, "the caller", "this cluster", code_travels=False)


def test_no_tls_is_chosen_where_nothing_was_said():
    assert choose_tls({}) is None
    assert choose_tls({"RAY_USE_TLS": "0", "RAY_TLS_SERVER_CERT": "c"}) is None


def test_tls_is_chosen_by_rays_variables_ours_and_options_win():
    environ = {"RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": "c", "RAY_TLS_SERVER_KEY": "k", "RAY_TLS_CA_CERT": "a"}
    assert choose_tls(environ) == TlsFiles("c", "k", "a")
    assert choose_tls({**environ, "RAYBOOK_TLS_CA_CERT": "b"}) == TlsFiles("c", "k", "b")
    assert choose_tls(environ, "1", "2", "3") == TlsFiles("1", "2", "3")


def test_a_missing_file_is_named_in_the_words_in_which_the_others_were_given():
    with pytest.raises(ValueError, match="--tls-key and --tls-ca was not given"):
        choose_tls({}, cert="c")
    with pytest.raises(ValueError, match="RAY_TLS_CA_CERT is not"):
        choose_tls({"RAY_USE_TLS": "1", "RAY_TLS_SERVER_CERT": "c", "RAY_TLS_SERVER_KEY": "k"})
