"""Jobs, submitted to a real cluster over HTTP and from a terminal: states, logs, environments, ends, and refusals."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import raybook as ray
from raybook import cli
from raybook.cluster_utils import Cluster
from raybook.job_submission import JobStatus, JobSubmissionClient, JobType

pytestmark = [pytest.mark.slow, pytest.mark.raybook_only]

PYTHON = sys.executable


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYBOOK_ENVIRONMENTS_DIR", str(tmp_path_factory.mktemp("environments")))
        context = ray.init(num_cpus=2, include_dashboard=True)
        yield context.dashboard_url
        ray.shutdown()


@pytest.fixture(scope="module")
def client(address: str) -> JobSubmissionClient:
    return JobSubmissionClient(f"http://{address}")


def wait_for(client: JobSubmissionClient, job: str, *wanted: JobStatus) -> Any:
    deadline = time.monotonic() + 20
    while (details := client.get_job_info(job)).status not in wanted:
        assert time.monotonic() < deadline, details
        assert not details.status.is_terminal(), details
        time.sleep(0.02)
    return details


def ended(client: JobSubmissionClient, job: str) -> Any:
    return wait_for(client, job, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED)


def marked(job: str) -> list[str]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if f"RAYBOOK_JOB_SUBMISSION_ID={job}".encode() in environ.split(b"\0"):
                found.append(name)
    return found


def test_a_command_runs_and_what_it_prints_is_kept(client) -> None:
    job = client.submit_job(entrypoint="echo out; echo err >&2", submission_id="first", metadata={"who": "me"})
    details = ended(client, job)
    assert job == "first" and details.status is JobStatus.SUCCEEDED and details.driver_exit_code == 0
    assert details.type is JobType.SUBMISSION and details.metadata == {"who": "me"}
    assert details.start_time <= details.end_time and details.message == "Job finished successfully."
    assert client.get_job_logs(job) == "out\nerr\n"
    assert job in [each.submission_id for each in client.list_jobs()]


def test_a_command_that_fails_says_how(client) -> None:
    failed = ended(client, client.submit_job(entrypoint="echo the reason; exit 3"))
    assert failed.status is JobStatus.FAILED and failed.driver_exit_code == 3
    assert "failed with exit code 3" in failed.message and "the reason" in failed.message
    assert failed.error_type == "JOB_ENTRYPOINT_COMMAND_ERROR"
    killed = ended(client, client.submit_job(entrypoint="kill -9 $$"))
    assert "failed with signal 9" in killed.message


def test_a_folder_is_sent_along_and_the_command_is_a_driver_of_this_cluster(client, tmp_path) -> None:
    (tmp_path / "helper.py").write_text("ANSWER = 42\n")
    (tmp_path / "main.py").write_text(
        "import os, raybook as ray\n"
        "ray.init(runtime_env={'env_vars': {'OWN': '2'}})\n"
        "@ray.remote\n"
        "def task():\n"
        "    import helper\n"
        "    return helper.ANSWER, os.environ['GIVEN'], os.environ['OWN'], os.path.exists('helper.py')\n"
        "print(ray.get(task.remote()), ray.get_runtime_context().get_job_id())\n"
    )
    environment = {"working_dir": str(tmp_path), "env_vars": {"GIVEN": "1"}}
    details = ended(client, client.submit_job(entrypoint="python main.py", runtime_env=environment))
    log = client.get_job_logs(details.submission_id)
    assert details.status is JobStatus.SUCCEEDED, log
    assert log == f"(42, '1', '2', True) {details.job_id}\n"
    assert client.get_job_info(details.job_id).submission_id == details.submission_id
    assert details.driver_info.pid.isdigit() and details.runtime_env["working_dir"].startswith("gcs://_ray_pkg_")


def test_the_command_of_an_environment_with_packages_has_them_and_raybook(client, tmp_path) -> None:
    wheel = tmp_path / "little_package-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info = "little_package-1.dist-info/"
        file.writestr("little_package.py", "ANSWER = 42\n")
        file.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: little-package\nVersion: 1\n")
        file.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(info + "RECORD", "")
    code = "import little_package as p, raybook as ray; ray.init(); print(p.ANSWER)"
    job = client.submit_job(entrypoint=f'python -c "{code}"', runtime_env={"pip": [str(wheel)]})
    details = ended(client, job)
    assert details.status is JobStatus.SUCCEEDED, details.message
    assert client.get_job_logs(job) == "42\n"


def test_drivers_that_nobody_submitted_are_jobs_too(client) -> None:
    own = ray.get_runtime_context().get_job_id()
    details = client.get_job_info(own)
    assert details.type is JobType.DRIVER and details.status is JobStatus.RUNNING
    with pytest.raises(RuntimeError, match="Can only stop submission type jobs"):
        client.stop_job(own)


def test_a_log_is_followed_until_the_command_ends(client, tmp_path) -> None:
    gate = tmp_path / "gate"
    job = client.submit_job(entrypoint=f"echo früh; while [ ! -e {gate} ]; do sleep 0.02; done; echo late")
    parts: list[str] = []

    async def follow() -> None:
        async for part in client.tail_job_logs(job):
            parts.append(part)
            gate.touch()

    asyncio.run(follow())
    assert "".join(parts) == "früh\nlate\n" and len(parts) >= 2
    assert client.get_job_status(job) is JobStatus.SUCCEEDED


def test_stopping_ends_every_process_of_a_job_also_those_that_went_far_and_those_that_refuse(client) -> None:
    hiding = "import os, time; os.setsid(); time.sleep(60)"
    job = client.submit_job(
        entrypoint=f"trap '' TERM; setsid sleep 61 & {PYTHON} -c '{hiding}' & echo ready; sleep 62; sleep 63"
    )
    wait_for(client, job, JobStatus.RUNNING)
    deadline = time.monotonic() + 10
    while len(marked(job)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert client.stop_job(job) is True
    details = ended(client, job)
    assert details.status is JobStatus.STOPPED and details.message == "Job was intentionally stopped."
    assert marked(job) == []
    assert client.stop_job(job) is False


def test_what_a_command_leaves_running_ends_with_it(client) -> None:
    job = client.submit_job(entrypoint="setsid sleep 60 & echo left one")
    assert ended(client, job).status is JobStatus.SUCCEEDED
    assert marked(job) == []


def test_a_job_waits_for_its_resources_and_says_so(client) -> None:
    job = client.submit_job(entrypoint="echo never", entrypoint_num_cpus=64)
    details = client.get_job_info(job)
    assert details.status is JobStatus.PENDING and "waiting for resources" in details.message
    assert client.stop_job(job) is True and client.get_job_status(job) is JobStatus.STOPPED
    code = "import raybook as r; r.init(); print(r.available_resources()['CPU'])"
    held = client.submit_job(entrypoint=f'{PYTHON} -c "{code}"', entrypoint_num_cpus=1)
    assert ended(client, held).status is JobStatus.SUCCEEDED
    assert client.get_job_logs(held) == "1.0\n"


@pytest.mark.parametrize(
    "environment",
    [
        {"working_dir": "s3://bucket/none.zip"},
        {"working_dir": "gcs://_ray_pkg_0123.zip"},
        {"py_modules": ["https://127.0.0.1:9/module.whl"]},
        {"pip": "this is no list"},
        {"conda": "base"},
    ],
)
def test_an_environment_that_cannot_be_had_fails_the_job(client, environment) -> None:
    details = ended(client, client.submit_job(entrypoint="echo never", runtime_env=environment))
    assert details.status is JobStatus.FAILED and details.message.startswith("Failed to set up runtime environment")
    assert details.error_type == "RUNTIME_ENV_SETUP_FAILURE" and client.get_job_logs(details.submission_id) == ""


def test_a_supervisor_that_dies_fails_its_job_and_leaves_nothing(client) -> None:
    job = client.submit_job(entrypoint="sleep 60")
    wait_for(client, job, JobStatus.RUNNING)
    ray.kill(ray.get_actor(f"_ray_internal_job_actor_{job}", namespace="SUPERVISOR_ACTOR_RAY_NAMESPACE"))
    details = ended(client, job)
    assert details.status is JobStatus.FAILED and "supervisor actor died" in details.message
    assert marked(job) == []


def test_jobs_are_forgotten_when_they_have_ended_and_names_are_taken_once(client) -> None:
    job = client.submit_job(entrypoint="sleep 60", submission_id="once")
    wait_for(client, job, JobStatus.RUNNING)
    with pytest.raises(RuntimeError, match="already exists"):
        client.submit_job(entrypoint="echo", submission_id="once")
    with pytest.raises(RuntimeError, match="non-terminal state"):
        client.delete_job(job)
    client.stop_job(job)
    ended(client, job)
    assert client.delete_job(job) is True
    for ask in (client.get_job_info, client.get_job_logs, client.stop_job, client.delete_job):
        with pytest.raises(RuntimeError, match="404.*does not exist"):
            ask(job)
    with pytest.raises(ConnectionError, match="Failed to connect"):
        JobSubmissionClient("http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="No cluster 'nobody'"):
        JobSubmissionClient("nobody")


def request(address: str, verb: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(verb, path, body, named)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_bodies_and_ways_that_are_none_are_refused(address) -> None:
    for body in (b"no json", b"[]", b'{"entrypoint": 1}', b'{"entrypoint": "x", "runtime_env": []}'):
        assert request(address, "POST", "/api/jobs/", body)[0] == 400
    assert request(address, "GET", "/api/nothing")[0] == 404
    for name in ("..%2f..%2fevil.zip", "_ray_pkg_a.tar", "x.zip"):
        assert request(address, "PUT", f"/api/packages/gcs/{name}", b"x")[0] == 400
    assert request(address, "GET", "/api/packages/gcs/_ray_pkg_none.zip")[0] == 404
    assert request(address, "GET", "/api/jobs/none")[0] == 404
    assert request(address, "GET", "/metrics")[0] == 404
    status, text = request(address, "GET", "/api/version")
    assert status == 200 and json.loads(text)["ray_version"] == "2.60.0"


def test_web_pages_and_strange_hosts_are_refused(address) -> None:
    assert request(address, "GET", "/api/jobs/", Host="evil.example")[0] == 403
    assert request(address, "POST", "/api/jobs/", b'{"entrypoint": "x"}', Origin="http://evil.example")[0] == 403


def test_a_cluster_without_a_port_is_reached_by_its_name(client, address) -> None:
    by_name = JobSubmissionClient(ray.get_runtime_context()._engine.session_dir)
    assert by_name.get_address().startswith("unix:")
    assert by_name.get_job_info("first").submission_id == "first"


def test_the_command_line_submits_follows_shows_and_ends(address) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.main, ["job", *arguments])

    at = ("--address", f"http://{address}")
    done = run("submit", *at, "--submission-id", "by-hand", "--", "echo", "two words")
    assert done.exit_code == 0 and "two words\n" in done.output and "Job 'by-hand' succeeded" in done.output
    assert run("logs", *at, "by-hand").output == "two words\n"
    assert "succeeded" in run("status", *at, "by-hand").output
    assert "by-hand" in run("list", *at).output
    assert any(row["submission_id"] == "by-hand" for row in json.loads(run("list", *at, "--format", "json").output))
    assert run("delete", *at, "by-hand").exit_code == 0
    failed = run("submit", *at, "--", "exit 4")
    assert failed.exit_code == 1 and "failed with exit code 4" in failed.output
    assert run("submit", *at, "--no-wait", "--submission-id", "long", "--", "sleep 60").exit_code == 0
    assert "Job 'long' was stopped" in run("stop", *at, "long").output
    missing = run("status", *at, "none")
    assert missing.exit_code == 1 and "does not exist" in missing.output


def test_a_command_that_needs_another_node_runs_there_with_its_folder_and_joins_there(tmp_path) -> None:
    (tmp_path / "main.py").write_text(
        "import helper, raybook as ray\n"
        "ray.init()\n"
        "print(helper.ANSWER, ray.get_runtime_context().get_node_id(), len(ray.nodes()))\n"
    )
    (tmp_path / "helper.py").write_text("ANSWER = 42\n")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1, resources={"special": 1})
        client = JobSubmissionClient(cluster.address)
        environment = {"working_dir": str(tmp_path)}
        job = client.submit_job(
            entrypoint="python main.py", runtime_env=environment, entrypoint_resources={"special": 1}
        )
        details = ended(client, job)
        assert details.status is JobStatus.SUCCEEDED, details.message
        assert client.get_job_logs(job) == f"42 {details.driver_node_id} 2\n"
    finally:
        cluster.shutdown()


def test_a_jobs_server_that_is_killed_is_started_again_and_jobs_go_on(client, tmp_path, eventually: Callable) -> None:
    gate = tmp_path / "gate"
    job = client.submit_job(entrypoint=f"while [ ! -e {gate} ]; do sleep 0.02; done; echo done")
    wait_for(client, job, JobStatus.RUNNING)

    @ray.remote(num_cpus=1)
    class Holder:
        def hold(self):
            return True

    holder = Holder.remote()
    ray.get(holder.hold.remote())
    waiting = client.submit_job(entrypoint="echo at last", entrypoint_num_cpus=2)
    pids = _jobs_servers()
    os.kill(pids[0], 9)
    eventually(lambda: pids[0] not in _jobs_servers())
    assert client.get_job_status(job) is JobStatus.RUNNING
    assert client.get_job_status(waiting) is JobStatus.PENDING
    ray.kill(holder)
    assert ended(client, waiting).status is JobStatus.SUCCEEDED and client.get_job_logs(waiting) == "at last\n"
    gate.touch()
    assert ended(client, job).status is JobStatus.SUCCEEDED and client.get_job_logs(job) == "done\n"


def _jobs_servers() -> list[int]:
    """Of this session's head; others' clusters have theirs."""
    session = ray.get_runtime_context()._engine.session_dir
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if b"raybook.jobs.server" in command and session.encode() in command:
                found.append(int(name))
    return found
