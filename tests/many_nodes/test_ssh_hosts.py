"""Clusters on machines that ssh reaches: up, again, down; a machine that fails; a kernel that is killed. Real sshd."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.many_nodes.conftest import wait_until
from tests.many_nodes.hosts import Host, Network, why_not
from tests.many_nodes.sshd import HOME, SESSIONS, Keys, interpreter, start_sshd, why_no_sshd
from tests.many_nodes.wheels import repack_needed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")]

SQUARES = """
import time, raybook as ray
ray.init(address="{address}", log_to_driver=False)
@ray.remote(num_cpus=1)
def where(number):
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id()
print(len(set(ray.get([where.remote(number) for number in range(12)], timeout=30))))
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Seen by every machine: each has a /tmp of its own."""
    path = Path(tempfile.mkdtemp(prefix="rb-ssh-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def machines(folder: Path) -> Iterator[tuple[list[Host], Keys]]:
    """A laptop and three machines with sshd; the last machine's host key is known to nobody."""
    assert not why_no_sshd(), f"{why_no_sshd()}: apt-get install openssh-server openssh-client"
    with Network() as network:
        keys = Keys(folder)
        hosts = [network.add_host() for _ in range(4)]
        for host in hosts[1:]:
            start_sshd(host, keys, is_known=host is not hosts[3])
        hosts[0].run("mkdir", "-p", HOME)
        yield hosts, keys


def hosts_file(folder: Path, keys: Keys, first: Host, workers: list[Host], **more: object) -> Path:
    path = folder / "lab.json"
    asked = {
        "head": {"host": f"root@{first.ip}", "num_cpus": 1},
        "workers": [{"host": f"root@{host.ip}", "num_cpus": 1, "labels": {"zone": host.ip}} for host in workers],
        "ssh": {"identity_file": str(keys.private), "ssh_options": keys.options()},
        "environment": interpreter(),
        **more,
    }
    path.write_text(json.dumps(asked))
    return path


def raybook(laptop: Host, *words: str) -> subprocess.CompletedProcess[str]:
    command = laptop.command(sys.executable, "-m", "raybook.cli", *words)
    return subprocess.run(command, env=laptop.environment, capture_output=True, text=True, timeout=120)


def left_behind(host: Host) -> str:
    """Processes, folders and files of raybook on a machine."""
    script = f"ls -A {HOME}; ls -A {SESSIONS} 2>/dev/null; ls /dev/shm; pgrep -af 'raybook[.]' || true"
    return host.run("sh", "-c", script).strip()


def test_up_starts_what_is_missing_and_down_leaves_nothing(machines: tuple[list[Host], Keys], folder: Path):
    (laptop, head, worker, _), keys = machines
    file = hosts_file(folder, keys, head, [worker], setup_commands=["echo ready > prepared"])
    done = raybook(laptop, "up", str(file), "--format", "json")
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome == {
        "address": f"{head.ip}:6399", "started": [f"root@{head.ip}", f"root@{worker.ip}"], "kept": [], "failures": {},
    }  # fmt: skip
    assert f"[root@{worker.ip}] start: has joined" in done.stderr
    assert worker.run("cat", f"{HOME}/prepared") == "ready\n"
    worker.run("rm", f"{HOME}/prepared")
    on_head = {**head.environment, "RAYBOOK_REGISTRY_DIR": f"{HOME}/.raybook/lab/root_{head.ip}/registry"}
    said = subprocess.run(
        head.command(sys.executable, "-"), env=on_head, input=SQUARES.format(address="lab"), capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert said.stdout == "2\n", said.stderr

    again = json.loads(raybook(laptop, "up", str(file), "--format", "json").stdout)
    assert (again["started"], sorted(again["kept"])) == ([], [f"root@{head.ip}", f"root@{worker.ip}"])

    for _ in range(2):
        ended = raybook(laptop, "down", str(file))
        assert (ended.returncode, ended.stdout) == (0, "Nothing of cluster lab is left.\n"), ended.stderr
        head.run("rm", "-f", f"{HOME}/prepared")
        worker.run("rm", "-f", f"{HOME}/prepared")
        assert (left_behind(head), left_behind(worker)) == ("", "")


def test_machine_that_fails_loses_nobody_elses_work_and_the_head_may_be_the_laptop(
    machines: tuple[list[Host], Keys], folder: Path
):
    (laptop, worker, _, unknown), keys = machines
    nowhere = Host.__new__(Host)
    nowhere.ip = "10.213.7.99"
    file = hosts_file(folder, keys, worker, [worker, unknown, nowhere], head="local", name="half")
    done = raybook(laptop, "up", str(file), "--format", "json")
    try:
        assert done.returncode == 1, done.stderr
        outcome = json.loads(done.stdout)
        assert (outcome["address"], outcome["started"]) == (f"{laptop.ip}:6399", ["this machine", f"root@{worker.ip}"])
        failures = outcome["failures"]
        assert "Host key verification failed. Its host key is not known yet" in failures[f"root@{unknown.ip}"]
        assert "It cannot be reached" in failures["root@10.213.7.99"]
        assert "2 machines failed" in done.stderr
        assert "2 nodes" in raybook(laptop, "status", "half").stdout
    finally:
        ended = raybook(laptop, "down", str(file))
    assert "[this machine] stop: its cluster is gone" in ended.stderr
    assert left_behind(worker) == ""
    wait_until(lambda: "raybook" not in laptop.run("ps", "-e", "-o", "args"), "nothing runs on the laptop", 20)


def test_wrong_key_a_changed_host_and_a_broken_command_are_told_as_they_are(
    machines: tuple[list[Host], Keys], folder: Path
):
    (laptop, head, _, _), keys = machines
    ssh = {"identity_file": str(keys.private), "ssh_options": keys.options()}
    stranger = folder / "stranger"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(stranger)], check=True)
    changed = folder / "changed_hosts"
    changed.write_text(f"{head.ip} {' '.join(stranger.with_suffix('.pub').read_text().split()[:2])}\n")
    for change, said in (
        (
            {"ssh": {**ssh, "identity_file": str(stranger)}},
            "Permission denied (publickey). The machine takes none of your",
        ),
        ({"ssh": {**ssh, "ssh_options": {"UserKnownHostsFile": str(changed)}}}, "ssh-keygen -R"),
        ({"ssh": {**ssh, "port": 2222}}, "Connection refused. Nothing listens there"),
        ({"environment": {"interpreter": "/nowhere/python"}}, "/nowhere/python does not run."),
        ({"environment": {"interpreter": "/usr/bin/env"}}, "/usr/bin/env does not run."),
        ({"setup_commands": ["echo begun; exit 3"]}, "`echo begun; exit 3` failed with code 3:\n    begun"),
    ):
        done = raybook(laptop, "up", str(hosts_file(folder, keys, head, [], **change)))
        assert done.returncode == 1 and said in done.stderr, done.stderr
    raybook(laptop, "down", str(hosts_file(folder, keys, head, [])))
    assert left_behind(head) == ""


def test_environment_is_made_with_uv_from_this_very_raybook_and_kept_while_it_is_the_same(
    machines: tuple[list[Host], Keys], folder: Path
):
    """No network: what raybook needs lies in a folder of wheels."""
    (laptop, head, _, _), keys = machines
    wheels = folder / "wheels"
    repack_needed("raybook", wheels)
    environment = {
        "python": ".".join(map(str, sys.version_info[:2])),
        "packages": ["msgspec"],
        "uv_options": ["--offline", "--no-index", "--find-links", str(wheels)],
        "variables": {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin", "UV_CACHE_DIR": "/tmp/uv-cache"},
    }
    file = hosts_file(folder, keys, head, [], name="made", environment=environment)
    done = raybook(laptop, "up", str(file))
    try:
        assert done.returncode == 0, done.stderr
        assert "environment: made in" in done.stderr
        found = head.run(
            "sh", "-c", f"{HOME}/.raybook/made/env/bin/python -I -c 'import raybook; print(raybook.__file__)'"
        )
        assert found.startswith(f"{HOME}/.raybook/made/env/")
        again = raybook(laptop, "up", str(file))
        assert "environment: is there already" in again.stderr and "runs already" in again.stderr
    finally:
        raybook(laptop, "down", str(file))
    assert left_behind(head) == ""


ATTACHED = """
import sys, time
from raybook.api.context import current_runtime
from raybook.ssh_hosts import read_hosts_file
from pathlib import Path
sys.path[:0] = {roots!r}
from raybook_kernel.cluster_access import ClusterAccess
import raybook as ray
access = ClusterAccess()
access.start_nodes(1, read_hosts_file(Path({file!r})), lambda text: print(text, file=sys.stderr), num_cpus=1)
@ray.remote(num_cpus=1)
def where():
    time.sleep(0.3)
    return ray.get_runtime_context().get_node_id()
print(len(set(ray.get([where.remote() for _ in range(12)], timeout=30))), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["ray.shutdown()", "time.sleep(600)"])
def test_nodes_on_other_machines_end_with_the_process_that_started_them_however_it_ends(
    machines: tuple[list[Host], Keys], folder: Path, end: str
):
    (laptop, one, two, _), keys = machines
    file = hosts_file(folder, keys, one, [one, two], head="local")
    roots = [path for path in sys.path if path.endswith(("/kernel_ext", "/widgets"))]
    running = laptop.start_python(ATTACHED.format(file=str(file), roots=roots, end=end))
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line)
        if line.strip().isdigit():
            break
    assert said and said[-1] == "3\n", "".join(said)
    if end.startswith("time"):
        laptop.run("pkill", "-KILL", "-f", "^" + sys.executable + " -$")
    running.wait(30)
    running.stdout.close()
    for host in (one, two):
        wait_until(lambda host=host: left_behind(host) == "", f"nothing is left on {host.ip}", 20)
    wait_until(lambda: "raybook" not in laptop.run("ps", "-e", "-o", "args"), "nothing runs on the laptop", 20)
