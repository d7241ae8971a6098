"""Start options: values of ``raybook start`` that need reading, each refused at the command line with what is accepted."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from raybook.base.resources import CPU, GPU, MEMORY, OBJECT_STORE_MEMORY
from raybook.io.peer_address import own_address_towards
from raybook.protocol.auth import TOKEN_BYTES, new_token

ADDRESS_VARIABLES = ("RAYBOOK_ADDRESS", "RAY_ADDRESS")
LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?P<host>[^:\s/]+):(?P<port>\d{1,5})")
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,251}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_FLAGS = {CPU: "--num-cpus", GPU: "--num-gpus", MEMORY: "--memory", OBJECT_STORE_MEMORY: "--object-store-memory"}

UNUSED = (
    "--min-worker-port", "--max-worker-port", "--worker-port-list", "--node-manager-port",
    "--object-manager-port", "--dashboard-agent-listen-port", "--dashboard-agent-grpc-port", "--dashboard-grpc-port",
    "--runtime-env-agent-port", "--node-name", "--redis-password", "--plasma-directory", "--ray-debugger-external",
)  # fmt: skip
"""Options of Ray's about parts that raybook does not have. Scripts and operators write them; here they change nothing."""
UNUSED_SWITCHES = frozenset({"--ray-debugger-external"})


class Address(click.ParamType):
    """HOST:PORT."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = _ADDRESS.fullmatch(str(value))
        if match is None or not 1 <= int(match["port"]) <= 65_535:
            self.fail(f"{value!r} is no address; one is HOST:PORT, as in 10.0.0.5:6399.", param, ctx)
        return str(value)


class Amounts(click.ParamType):
    """A JSON object, name to amount."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except json.JSONDecodeError as error:
            self.fail(f"{value!r} is no JSON ({error}); write '{{\"licence\": 2}}', with the quotes.", param, ctx)
        if not isinstance(found, dict):
            self.fail(f"{value!r} is no JSON object, name to amount.", param, ctx)
        for resource, amount in found.items():
            if resource in _FLAGS:
                self.fail(f"{resource} has an option of its own, {_FLAGS[resource]}.", param, ctx)
            if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount < math.inf:
                self.fail(f"The amount of {resource!r} must be a number from 0 on, got {amount!r}.", param, ctx)
        return found


class Labels(click.ParamType):
    """key=value,…, or a JSON object of strings."""

    name = "KEY=VALUE,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        text = value.strip()
        try:
            pairs = json.loads(text).items() if text.startswith("{") else [self._pair(part) for part in _parts(text)]
            labels = dict(pairs)
        except (ValueError, AttributeError) as error:
            self.fail(f"{value!r} are no labels: {error} Write key=value,other=value.", param, ctx)
        for key, word in labels.items():
            if not isinstance(word, str) or not _LABEL.fullmatch(key) or not _LABEL_VALUE.fullmatch(word):
                text = "Letters, digits, '.', '_' and '-' are allowed ('/' in keys), letters or digits at both ends."
                self.fail(f"{key}={word} is no label. {text}", param, ctx)
            if key.startswith("ray.io/"):
                self.fail(f"{key} is raybook's own to set; choose another prefix than ray.io.", param, ctx)
        return labels

    def _pair(self, part: str) -> tuple[str, str]:
        key, is_pair, word = part.partition("=")
        if not is_pair:
            raise ValueError(f"{part!r} has no '='.")
        return key.strip(), word.strip()


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def address_of(head: bool, address: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """The cluster to join, None to start one. UsageError when that is not said, or said twice."""
    if head and address is not None:
        raise click.UsageError("Say either --head (a new cluster) or --address HOST:PORT (join one).")
    if head or address is not None:
        return address
    for variable in ADDRESS_VARIABLES:
        if environ.get(variable):
            return str(Address().convert(environ[variable], None, None))
    raise click.UsageError(
        "Say either --head (a new cluster) or --address HOST:PORT (join one; RAYBOOK_ADDRESS and RAY_ADDRESS count, too)."
    )


def own_host(address: str | None) -> str:
    """Where a node listens that was not told: at loopback; one that joins a cluster of another machine, at the address from
    which that is reached. UsageError when there is no way there."""
    host, _, port = (address or LOOPBACK).partition(":")
    if host in (LOOPBACK, "localhost"):
        return LOOPBACK
    try:
        return own_address_towards(host, int(port))
    except OSError as error:
        raise click.UsageError(f"There is no way from here to {host} ({error}). Is it the right address?") from None


def head_token(path: str | None) -> bytes | None:
    """The token of a new cluster, from its file; made, and written there for this user alone, when there is no such file.
    None: the cluster makes one for itself. BadParameter for a file that holds no token."""
    if path is None:
        return None
    file = Path(path)
    try:
        token = file.read_bytes()
    except FileNotFoundError:
        token = new_token()
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise click.BadParameter(f"--token-file: the token cannot be written: {error}") from None
        with os.fdopen(descriptor, "wb") as out:
            out.write(token)
    except OSError as error:
        raise click.BadParameter(f"--token-file: {error}") from None
    if len(token) != TOKEN_BYTES:
        raise click.BadParameter(f"--token-file: {path} holds {len(token)} bytes, a token has {TOKEN_BYTES}.")
    return token


def unused_options(command: Any) -> Any:
    """Adds Ray's options that change nothing; who writes one is told so."""
    for flag in UNUSED:
        is_switch = flag in UNUSED_SWITCHES
        command = click.option(
            flag, hidden=True, expose_value=False, is_flag=is_switch, type=None if is_switch else str, callback=_ignored
        )(command)
    return command


def _ignored(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        click.echo(f"{parameter.opts[0]} changes nothing: raybook has no such part.", err=True)
