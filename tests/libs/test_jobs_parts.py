"""The parts of the Jobs API that need no cluster: requests, packages, whom the server answers, records, frames."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from raybook.api.submitted_job import OVERRIDE_VARIABLES, VARIABLE, merged_environment
from raybook.io.http_guard import Visitor, check_visitor, is_loopback, owner_of_connection
from raybook.jobs import websocket
from raybook.jobs.records import DriverInfo, JobDetails, JobErrorType, JobInfo, JobStatus, JobType
from raybook.jobs.request import parse_request

TOKEN = "ab" * 32
LOCAL = Visitor(port=40_000, is_local=True, own_port=8265)
REMOTE = Visitor(port=40_000, is_local=False, own_port=8265)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "must be a JSON object"),
        ({}, "entrypoint must be a string"),
        ({"entrypoint": 1}, "entrypoint must be a string"),
        ({"entrypoint": " "}, "entrypoint must be a string"),
        ({"entrypoint": "x", "runtime_env": "y"}, "runtime_env must be a dict"),
        ({"entrypoint": "x", "metadata": {"a": 1}}, "metadata must be a dict of strings"),
        ({"entrypoint": "x", "entrypoint_num_cpus": -1}, "entrypoint_num_cpus"),
        ({"entrypoint": "x", "entrypoint_num_gpus": True}, "entrypoint_num_gpus"),
        ({"entrypoint": "x", "entrypoint_resources": {"a": "b"}}, "entrypoint_resources"),
        ({"entrypoint": "x", "entrypoint_label_selector": {"a": 1}}, "entrypoint_label_selector"),
        ({"entrypoint": "x", "submission_id": "../up"}, "submission_id"),
        ({"entrypoint": "x", "entripoint": "y"}, "fields that no submission has: entripoint"),
    ],
)
def test_a_wrong_request_says_what_is_wrong(body, words) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        parse_request(body)


def test_a_right_request_gets_a_name_of_its_own() -> None:
    one, two = parse_request({"entrypoint": "ls"}), parse_request({"entrypoint": "ls", "submission_id": None})
    assert one.submission_id.startswith("raysubmit_") and one.submission_id != two.submission_id
    assert parse_request({"entrypoint": "ls", "job_id": "old-name"}).submission_id == "old-name"


def answer(visitor: Visitor, headers: dict[str, str], **more: Any) -> int:
    refusal = check_visitor(visitor, headers, TOKEN, os.getuid(), "10.0.0.5", **more)
    return 200 if refusal is None else refusal.status


def test_the_server_answers_its_user_and_who_has_the_token(monkeypatch) -> None:
    owners: list[int | None] = []
    monkeypatch.setattr("raybook.io.http_guard.owner_of_connection", lambda *ports: owners[0])
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    host = {"Host": "127.0.0.1:8265"}
    for owner, expected in ((os.getuid(), 200), (0, 200), (os.getuid() + 1, 401), (None, 401)):
        owners[:] = [owner]
        assert answer(LOCAL, host) == expected
        assert answer(LOCAL, {**host, **bearer}) == 200
    owners[:] = [os.getuid()]
    assert answer(LOCAL, host, needs_token=True) == 401
    assert answer(Visitor(0, True, 0), {}) == 200
    remote = {"Host": "10.0.0.5:8265"}
    assert answer(REMOTE, remote) == 401
    assert answer(REMOTE, {**remote, "Authorization": "Bearer " + "0" * 64}) == 401
    assert answer(REMOTE, {**remote, **bearer}) == 200


def test_pages_of_other_sites_and_names_that_point_here_are_refused_even_with_the_token() -> None:
    good = {"Host": "localhost:8265", "Authorization": f"Bearer {TOKEN}"}
    assert answer(LOCAL, good) == 200
    assert answer(LOCAL, {**good, "Host": "evil.example:8265"}) == 403
    assert answer(LOCAL, {**good, "Origin": "http://evil.example"}) == 403
    assert answer(LOCAL, {**good, "Origin": "null"}) == 403
    assert answer(LOCAL, {**good, "Sec-Fetch-Site": "cross-site"}) == 403
    assert answer(LOCAL, {**good, "Origin": "http://localhost:8265", "Sec-Fetch-Site": "same-origin"}) == 200


def test_the_kernel_says_whose_a_connection_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        own_port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", own_port)) as peer:
            assert owner_of_connection(peer.getsockname()[1], own_port) == os.getuid()
        assert owner_of_connection(1, own_port) is None


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.1.2.3", "::1", "[::1]")))
    assert not any(map(is_loopback, ("0.0.0.0", "10.0.0.5", "::", "example.com", "")))


def test_a_record_survives_its_way_and_says_why_a_job_waits() -> None:
    info = JobInfo(JobStatus.PENDING, "ls", "a", runtime_env={"pip": ["x"]}, entrypoint_num_cpus=2)
    assert "waiting for resources" in str(info.message) and "runtime environment to be set up" in str(info.message)
    assert JobInfo.from_json({**info.to_json(), "of_a_later_version": 1}) == info
    info.become(JobStatus.RUNNING, 5)
    info.become(JobStatus.FAILED, 7, "why", JobErrorType.JOB_ENTRYPOINT_COMMAND_ERROR)
    info.become(JobStatus.SUCCEEDED, 9)
    assert (info.status, info.start_time, info.end_time, info.message) == (JobStatus.FAILED, 5, 7, "why")
    assert info.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    details = JobDetails.of_submission(info, DriverInfo("07", "127.0.0.1", "12"))
    assert JobDetails.from_json(details.to_json()) == details and details.type is JobType.SUBMISSION
    assert str(JobStatus.RUNNING) == "RUNNING" == JobStatus.RUNNING


def test_a_drivers_environment_is_that_of_its_submission_with_its_own_on_top() -> None:
    environ = {VARIABLE: '{"runtime_env": {"env_vars": {"A": "1"}, "working_dir": "/w"}, "submission_id": "x"}'}
    assert merged_environment({"env_vars": {"B": "2"}}, environ) == {
        "env_vars": {"A": "1", "B": "2"},
        "working_dir": "/w",
    }
    assert merged_environment(None, {}) is None
    for own in ({"working_dir": "/other"}, {"env_vars": {"A": "2"}}):
        with pytest.raises(ValueError, match="Failed to merge the Job's runtime env"):
            merged_environment(own, environ)
        merged = merged_environment(own, {**environ, OVERRIDE_VARIABLES[0]: "1"})
        assert merged is not None and {**merged, **own}["working_dir"] == merged["working_dir"]


def test_frames_are_those_of_the_standard() -> None:
    # The example of RFC 6455, section 1.3.
    assert websocket.accept_key("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert websocket.text_frame("Hello") == b"\x81\x05Hello"
    assert websocket.text_frame("x" * 300)[:4] == b"\x81\x7e\x01\x2c"
    assert websocket.text_frame("x" * 70_000)[:10] == b"\x81\x7f" + (70_000).to_bytes(8, "big")
    assert websocket.close_frame() == b"\x88\x02\x03\xe8"
