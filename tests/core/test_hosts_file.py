"""Hosts files, what is said to shells, and what ssh's complaints mean: all without a machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from raybook.ssh_hosts import scripts
from raybook.ssh_hosts.hosts_file import EnvironmentSpec, HostSpec, read_hosts, read_hosts_file
from raybook.ssh_hosts.scripts import Corner
from raybook.ssh_hosts.ssh_errors import explain

LAB = """
head: ada@10.0.0.5
workers:
  - 10.0.0.6
  - {host: bob@10.0.0.7:2222, num_gpus: 1, memory: 16GiB, resources: {disk: 1}, labels: {zone: b}, port: 0}
ssh: {user: ada, identity_file: ~/.ssh/lab, ssh_options: {StrictHostKeyChecking: accept-new}}
environment: {python: "3.11", packages: [numpy]}
"""


def test_file_of_people_becomes_machines_with_everything_said(tmp_path: Path):
    path = tmp_path / "my lab.yaml"
    path.write_text(LAB.replace(", port: 0", ""))
    hosts = read_hosts_file(path)
    assert hosts.name == "my-lab"
    assert hosts.head is not None and hosts.head.label == "ada@10.0.0.5"
    plain, rich = hosts.workers
    assert (plain.target, plain.identity_file) == ("ada@10.0.0.6", "~/.ssh/lab")
    assert (rich.label, rich.folder_name, rich.memory) == ("bob@10.0.0.7:2222", "bob_10.0.0.7_2222", 16 << 30)
    assert rich.ssh_options == {"StrictHostKeyChecking": "accept-new"}
    assert scripts.start_words(rich, "10.0.0.7") == [
        "--node-ip-address", "10.0.0.7", "--num-gpus", "1", "--memory", str(16 << 30), "--resources", '{"disk": 1.0}',
        "--labels", "zone=b",
    ]  # fmt: skip


def test_requirements_are_found_beside_the_file(tmp_path: Path):
    (tmp_path / "needs.txt").write_text("numpy\n")
    path = tmp_path / "lab.json"
    path.write_text('{"head": "a", "environment": {"requirements": "needs.txt"}}')
    assert read_hosts_file(path).environment.requirements == str(tmp_path / "needs.txt")
    path.write_text('{"head": "a", "environment": {"requirements": "wants.txt"}}')
    with pytest.raises(ValueError, match=r"lab.json: environment.requirements: there is no file .*wants.txt"):
        read_hosts_file(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "a mapping with `head` and `workers` is needed"),
        ({}, "missing required field `head`"),
        ({"head": "local"}, "workers: there is no machine"),
        ({"head": "a b"}, "head: a machine is user@host or user@host:port, got 'a b'"),
        ({"head": "-oProxyCommand=x"}, "head: a machine is user@host"),
        ({"head": "-x@host"}, "head: a machine is user@host"),
        ({"head": {"user": "ada"}}, "head: a machine is user@host or user@host:port, got None"),
        ({"head": {"host": "ada@a", "user": "bob"}}, "head: user is said twice"),
        ({"head": "a", "workers": ["b", "b"]}, "b stands there twice"),
        ({"head": "a", "worker": []}, "there is no field 'worker'. Did you mean 'workers'?"),
        ({"head": "a", "workers": [{"host": "b", "num_cpu": 1}]}, "workers[0]: there is no field 'num_cpu'. Did you mean"),
        ({"head": "a", "workers": [{"host": "b", "num_cpus": "all"}]}, "workers[0].num_cpus: Expected"),
        ({"head": "a", "workers": [{"host": "b", "num_gpus": -1}]}, "workers[0].num_gpus: an amount is not negative"),
        ({"head": "a", "workers": [{"host": "b", "memory": "lots"}]}, "workers[0].memory: a size such as 16GiB"),
        ({"head": "a:99999"}, "head.port: a port is at most 65535"),
        ({"head": "a", "port": 0}, "port: of the head, 1 to 65535"),
        ({"head": "a", "name": "../x"}, "name: letters, digits"),
        ({"head": "a", "environment": {"python": "3"}}, "environment.python: a version such as"),
        ({"head": "a", "environment": {"interpreter": "/p", "packages": ["x"]}}, "an interpreter is used as it is"),
        ({"head": "a", "environment": {"variables": {"A B": "x"}}}, "'A B' is no name of a variable"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_with_its_place(data: object, said: str):
    with pytest.raises(ValueError) as caught:
        read_hosts(data)
    assert said in str(caught.value)


def test_file_that_is_no_yaml_is_told_so(tmp_path: Path):
    path = tmp_path / "lab.yaml"
    path.write_text("head: [a\n")
    with pytest.raises(ValueError, match=r"lab\.yaml: this is no YAML"):
        read_hosts_file(path)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Host key verification failed.\r\n", "Connect once by hand (ssh ada@box)"),
        ("@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n@@@\nHost key", "ssh-keygen -R box"),
        ("ada@box: Permission denied (publickey,password).", "ssh-copy-id ada@box"),
        ("ssh: Could not resolve hostname box: Name or service not known", "correct `host`"),
        ("ssh: connect to host box port 22: Connection refused", "is sshd running"),
        ("ssh: connect to host box port 22: Connection timed out", "is it switched on"),
        ("@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\nPermission denied (publickey).", "chmod 600"),
        ("command-line: line 0: Bad configuration option: colour", "`ssh_options`"),
        ("something new", "Try `ssh ada@box true` by hand"),
        ("", "ssh says: nothing."),
    ],
)  # fmt: skip
def test_complaints_of_ssh_are_quoted_and_come_with_what_to_do(said: str, advice: str):
    text = explain("ada@box", "box", said)
    assert text.startswith("ssh says: ") and advice in text
    assert "\r" not in text and "@@" not in text


def sh(script: str, home: Path, stdin: bytes = b"") -> str:
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "SSH_CONNECTION": "10.0.0.1 5000 10.0.0.2 22"}
    done = subprocess.run(
        ["sh", "-c", script], env=environment, input=stdin, capture_output=True, timeout=20, check=True
    )
    return done.stdout.decode()


def test_scripts_say_what_a_machine_has_and_keep_what_they_are_given_to_themselves(tmp_path: Path):
    corner = Corner("it's", HostSpec("box"))
    survey = scripts.survey_of("Welcome to box!\n" + sh(corner.survey(), tmp_path))
    assert survey.system.startswith("Linux ")
    assert (survey.ip, survey.our_ip, survey.stamp) == ("10.0.0.2", "10.0.0.1", "")
    sh(corner.receive("token"), tmp_path, b"\x00secret")
    file = tmp_path / ".raybook" / "it's" / "token"
    assert file.read_bytes() == b"\x00secret"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert scripts.answers(sh(corner.token(), tmp_path))["token"] == "AHNlY3JldA=="
    (tmp_path / ".raybook" / "other").mkdir()
    sh(corner.remove(), tmp_path)
    assert [path.name for path in (tmp_path / ".raybook").iterdir()] == ["other"]


def test_words_of_a_file_reach_the_shell_as_they_are(tmp_path: Path):
    spec = EnvironmentSpec(interpreter="~/my python", variables={"RB_WORD": "a 'b' $HOME"})
    corner = Corner("lab", HostSpec("box"))
    program = tmp_path / "my python"
    program.write_text('#!/bin/sh\nprintf "%s|" "$RB_WORD" "$RAYBOOK_REGISTRY_DIR" "$@"\n')
    program.chmod(0o755)
    said = sh(corner.start(spec, ["--labels", "a=$(id)"]), tmp_path).split("|")
    home = f"{tmp_path}/.raybook/lab"
    assert said[:2] == ["a 'b' $HOME", f"{home}/box/registry"]
    assert said[2:] == ["-m", "raybook.cli", "start", "--token-file", f"{home}/token", "--labels", "a=$(id)", ""]


def test_interpreter_must_be_of_this_version_and_have_this_raybook():
    def why(**found: str) -> str:
        return scripts.why_unfit(found, "3.11", "0.1.0", "/p/python")

    assert why(python="3.11", raybook="0.1.0") == ""
    assert "is Python 3.12, and this is Python 3.11" in why(python="3.12", raybook="0.1.0")
    assert "has raybook 0.2.0, and this is raybook 0.1.0" in why(python="3.11", raybook="0.2.0")
    assert "has no raybook (No module named 'raybook')" in why(python="3.11", raybook="no: No module named 'raybook'")
    assert why() == "/p/python does not run."


def test_stamp_of_an_environment_changes_with_everything_it_is_made_of():
    spec = EnvironmentSpec(packages=["numpy"])
    stamps = {
        scripts.stamp_of(spec, "3.11", "wheel", ""),
        scripts.stamp_of(spec, "3.12", "wheel", ""),
        scripts.stamp_of(spec, "3.11", "other", ""),
        scripts.stamp_of(spec, "3.11", "wheel", "torch"),
        scripts.stamp_of(EnvironmentSpec(packages=["torch"]), "3.11", "wheel", ""),
    }
    assert len(stamps) == 5
