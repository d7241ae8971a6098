"""Scripts: what is said to a machine's shell, and what its answers mean. Pure: text in, text out; POSIX sh only.

Everything that raybook leaves on a machine lies in one folder, ``~/.raybook/NAME``: the environment, the token, and for each
entry of the hosts file a registry of its own, so that what is stopped there is what was started from here. Answers are lines
``key=value``; whatever else the machine prints (a message of the day) is ignored.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence

import msgspec

from raybook.ssh_hosts.hosts_file import EnvironmentSpec, HostSpec

MARK = "raybook-says:"
STAMP_FILE = "raybook-stamp"
LAST_LINES = 12

_CHECK = f"""
import sys
try:
    import raybook
    found = raybook.__version__
except ImportError as error:
    found = "no: " + str(error)
print("{MARK} python=%d.%d" % sys.version_info[:2])
print("{MARK} raybook=" + found)
"""

_CLUSTERS = f"""
import json
from raybook.io.cluster_registry import list_records, registry_dir
found = [[record.cluster_id, record.name, record.address] for record in list_records(registry_dir())]
print("{MARK} clusters=" + json.dumps(found))
"""


class Survey(msgspec.Struct, frozen=True):
    """What a machine has. ip: the address by which ssh reached it; our_ip: by which it sees us. stamp: of the environment
    that is there, "" for none."""

    system: str = ""
    ip: str = ""
    our_ip: str = ""
    uv: str = ""
    stamp: str = ""


class Corner:
    """The folder of a cluster on a machine, and one entry's part of it."""

    def __init__(self, name: str, host: HostSpec) -> None:
        self.folder = f'"$HOME"/.raybook/{shlex.quote(name)}'
        self.part = f"{self.folder}/{shlex.quote(host.folder_name)}"

    def survey(self) -> str:
        return "\n".join(
            [
                f"folder={self.folder}",
                f'echo "{MARK} system=$(uname -s) $(uname -m)"',
                f'set -- ${{SSH_CONNECTION:-}}; echo "{MARK} ip=${{3:-}}"',
                f'echo "{MARK} our_ip=${{1:-}}"',
                'for uv in uv "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv" "$folder/uv"; do',
                f'  if found=$(command -v "$uv" 2>/dev/null); then echo "{MARK} uv=$found"; break; fi',
                "done",
                f'echo "{MARK} stamp=$(cat "$folder/env/{STAMP_FILE}" 2>/dev/null)"',
            ]
        )

    def receive(self, name: str, mode: str = "600") -> str:
        """Write standard input to a file of the folder, which nobody else may read."""
        path = f"{self.folder}/{shlex.quote(name)}"
        return f"umask 077; mkdir -p {self.folder} && cat > {path}.part && chmod {mode} {path}.part && mv {path}.part {path}"

    def make_environment(self, uv: str, spec: EnvironmentSpec, python: str, wheel: str, stamp: str) -> str:
        """Make the environment anew; the stamp is written last, so a half-made one is made again."""
        uv_word = self._uv(uv)
        extras = f"[{','.join(spec.extras)}]" if spec.extras else ""
        options = _words(spec.uv_options)
        install = f"{uv_word} pip install -q --python env/bin/python {options} ./{shlex.quote(wheel)}{extras}"
        if spec.requirements:
            install += " -r requirements.txt"
        if spec.packages:
            install += f" {_words(spec.packages)}"
        return "\n".join(
            [
                "set -e",
                f"cd {self.folder}",
                _exports(spec.variables),
                "rm -rf env",
                f"{uv_word} venv -q --python {shlex.quote(python)} env",
                install,
                f"printf %s {shlex.quote(stamp)} > env/{STAMP_FILE}",
            ]
        )

    def check_interpreter(self, spec: EnvironmentSpec) -> str:
        return f"{_exports(spec.variables)}\n{self.python(spec)} -c {shlex.quote(_CHECK)}"

    def clusters(self, spec: EnvironmentSpec) -> str:
        """Which clusters this entry's registry has."""
        return f"{self._environment(spec)}\n{self.python(spec)} -c {shlex.quote(_CLUSTERS)}"

    def token(self) -> str:
        return f'echo "{MARK} token=$(base64 < {self.folder}/token | tr -d "\\n")"'

    def start(self, spec: EnvironmentSpec, words: Sequence[str]) -> str:
        """``raybook start``; the token is in the folder."""
        command = f"{self.python(spec)} -m raybook.cli start --token-file {self.folder}/token {_words(words)}"
        return f"{self._environment(spec)}\ncd\n{command}"

    def start_and_remove(self, spec: EnvironmentSpec, words: Sequence[str]) -> str:
        """The same for a command that lasts; when it has ended, nothing is left, also if nobody waits for that."""
        return f"trap '' HUP PIPE\n{self.start(spec, words)}\ncode=$?\n{self.remove()}\nexit $code"

    def stop(self, spec: EnvironmentSpec) -> str:
        """End what this entry has started. Done, too, when nothing is there."""
        return (
            f"[ -d {self.part}/registry ] || exit 0\n{self._environment(spec)}\ncd\n"
            f"{self.python(spec)} -m raybook.cli stop --all"
        )

    def remove(self) -> str:
        """Nothing of raybook stays; folders that others use stay."""
        return (
            f'rm -rf {self.folder}; rmdir "$HOME"/.raybook 2>/dev/null; '
            'rmdir "${RAYBOOK_TMPDIR:-/tmp/raybook}" 2>/dev/null; true'
        )

    def python(self, spec: EnvironmentSpec) -> str:
        """The interpreter, as a word of the shell."""
        if not spec.interpreter:
            return f"{self.folder}/env/bin/python"
        return _home(spec.interpreter)

    def _uv(self, uv: str) -> str:
        return shlex.quote(uv) if uv else f"{self.folder}/uv"

    def _environment(self, spec: EnvironmentSpec) -> str:
        """A registry of this entry's own; an address that the machine's user has set elsewhere means nothing here."""
        return "\n".join(
            [
                _exports(spec.variables),
                f"mkdir -p {self.part} && export RAYBOOK_REGISTRY_DIR={self.part}/registry",
                "unset RAY_ADDRESS RAYBOOK_ADDRESS",
            ]
        )


def setup(command: str, spec: EnvironmentSpec) -> str:
    """A command of the user's, in their home."""
    return f"{_exports(spec.variables)}\ncd\n{command}"


def start_words(host: HostSpec, ip: str) -> list[str]:
    """What ``raybook start`` is told of a machine."""
    words = ["--node-ip-address", ip]
    for flag, amount in (
        ("--num-cpus", host.num_cpus),
        ("--num-gpus", host.num_gpus),
        ("--memory", host.memory),
        ("--object-store-memory", host.object_store_memory),
    ):
        if amount is not None:
            words += [flag, f"{amount:g}" if isinstance(amount, float) else str(amount)]
    if host.resources:
        words += ["--resources", json.dumps(host.resources)]
    if host.labels:
        words += ["--labels", ",".join(f"{key}={value}" for key, value in host.labels.items())]
    return [*words, *host.start_options]


def stamp_of(spec: EnvironmentSpec, python: str, wheel_digest: str, requirements: str) -> str:
    """What an environment is made of, as one word: it is made again when this changes."""
    made_of = [python, wheel_digest, requirements, spec.packages, spec.extras, spec.uv_options]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:24]


def answers(output: str) -> dict[str, str]:
    """``key=value`` of the lines that are for us."""
    found = {}
    for line in output.splitlines():
        if line.startswith(MARK):
            key, _, value = line.removeprefix(MARK).strip().partition("=")
            found[key] = value
    return found


def survey_of(output: str) -> Survey:
    found = answers(output)
    return Survey(*(found.get(key, "") for key in ("system", "ip", "our_ip", "uv", "stamp")))


def why_unfit(found: Mapping[str, str], python: str, version: str, interpreter: str) -> str:
    """Why an interpreter cannot be a node's; "" when it can. found: what ``check_interpreter`` answered."""
    theirs, raybook = found.get("python", ""), found.get("raybook", "")
    which = interpreter or "the environment's interpreter"
    if not theirs:
        return f"{which} does not run."
    if theirs != python:
        return (
            f"{which} is Python {theirs}, and this is Python {python}: functions cannot travel between them. Name another "
            f'one, or leave `interpreter` out and say `python: "{python}"`, which uv makes.'
        )
    if raybook != version:
        has = f"raybook {raybook}" if not raybook.startswith("no: ") else f"no raybook ({raybook.removeprefix('no: ')})"
        return f"{which} has {has}, and this is raybook {version}. Install that there, or leave `interpreter` out."
    return ""


def last_lines(text: str) -> str:
    """The end of what a command printed, indented, for an error."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-LAST_LINES:]) or "    (it printed nothing)"


def _words(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


def _exports(variables: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()) or ":"


def _home(path: str) -> str:
    """A path as the shell reads it, with its ``~``."""
    if path.startswith("~/"):
        return f'"$HOME"/{shlex.quote(path[2:])}'
    return shlex.quote(path)
