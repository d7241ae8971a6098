"""``raybook-ray``: the command lines that KubeRay's operator writes for ``ray``, meaning raybook's own runtime.

    ray start --head --dashboard-host=0.0.0.0 --metrics-export-port=8080 --block --num-cpus=4 ...
    ray start --address=NAME-head-svc.NAMESPACE.svc.cluster.local:6379 --block ...
    ray health-check --address ...:6379         ray stop        and the commands of `raybook` that look

An image of raybook's calls it ``ray``. It differs from ``raybook start`` in what Ray's users expect: port 6379, listening
where other machines reach it, and the cluster's secret from ``RAY_AUTH_TOKEN`` (or ``RAY_AUTH_TOKEN_PATH``), which the
operator gives to every pod. Without a secret nothing is started: a port that runs anybody's code is not opened.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

from raybook.base.version import VERSION
from raybook.cli import main as raybook_commands
from raybook.cli import start as raybook_start
from raybook.commands.node_pages import NodePages
from raybook.commands.start_options import Address, own_host
from raybook.io.channel import RemoteError
from raybook.io.peer_address import own_address_towards
from raybook.protocol.auth import token_of_words
from raybook.protocol.messages.gcs import ClusterStatus

GCS_PORT = 6379
HEALTH_TIMEOUT_S = 5.0
ANYWHERE = "0.0.0.0"
SOMEWHERE = ("192.0.2.1", 9)
"""An address of nobody's (RFC 5737): the way to it begins where others reach this machine. Nothing is sent there."""
WORDS_VARIABLE, PATH_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
REDIS_VARIABLE, REDIS_PASSWORD_VARIABLE = "RAY_REDIS_ADDRESS", "REDIS_PASSWORD"

IGNORED_SWITCHES = ("--no-monitor", "--disable-usage-stats", "--no-redirect-output", "--enable-object-reconstruction")
IGNORED = (
    "--system-config", "--temp-dir", "--object-spilling-directory", "--plasma-store-socket-name",
    "--tracing-startup-hook",
)  # fmt: skip
"""Options of Ray's about parts that raybook does not have, beside those that `raybook start` knows."""


@click.group()
@click.version_option(VERSION, message="raybook %(version)s, as ray")
def main() -> None:
    """Ray's command line, run by raybook."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--head", is_flag=True)
@click.option("--address", type=Address())
@click.option("--port", type=click.IntRange(0, 65535), default=GCS_PORT, show_default=True)
@click.option("--node-ip-address", metavar="ADDRESS")
@click.option("--dashboard-agent-listen-port", type=click.IntRange(0, 65535), help="Of the page for probes.")
@click.option("--redis-password", metavar="PASSWORD")
@click.option("--block", is_flag=True)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def start(
    head: bool,
    address: str | None,
    port: int,
    node_ip_address: str | None,
    dashboard_agent_listen_port: int | None,
    redis_password: str | None,
    block: bool,
    rest: tuple[str, ...],
) -> None:
    """Start a head or a worker node, as `ray start` does. Other options are those of `raybook start`."""
    words = ["--block"] if block else []
    words += _known(rest)
    host = node_ip_address or (_reachable_address() if head else own_host(address))
    with tempfile.TemporaryDirectory(prefix="raybook-ray-") as folder:
        token_file = Path(folder) / "token"
        token_file.touch(0o600)
        token_file.write_bytes(_token(os.environ))
        if head:
            words = ["--head", "--port", str(port), *words]
            store = redis_store(os.environ, redis_password)
            words += ["--store", store] if store else []
        else:
            words += ["--address", address] if address else []
        words += ["--node-ip-address", host, "--token-file", str(token_file)]
        if not block and not head:
            # A node reads the file again when it starts anew; one that nobody holds keeps its own.
            kept = Path(tempfile.mkdtemp(prefix="raybook-ray-")) / "token"
            kept.touch(0o600)
            kept.write_bytes(token_file.read_bytes())
            words[-1] = str(kept)
        try:
            with NodePages(ANYWHERE, dashboard_agent_listen_port if block else None):
                raybook_start.main(words, prog_name="ray start", standalone_mode=True)
        except OSError as error:
            raise click.ClickException(f"--dashboard-agent-listen-port: {error}") from None


def _known(rest: tuple[str, ...]) -> list[str]:
    """Without the options that only Ray has; who writes one is told so."""
    words, skips = [], False
    for word in rest:
        name, equals, _ = word.partition("=")
        if skips:
            skips = False
        elif name in IGNORED or name in IGNORED_SWITCHES:
            click.echo(f"{name} changes nothing: raybook has no such part.", err=True)
            skips = name in IGNORED and not equals
        else:
            words.append(word)
    return words


def _token(environ: Mapping[str, str]) -> bytes:
    words = environ.get(WORDS_VARIABLE, "").strip()
    if not words and environ.get(PATH_VARIABLE):
        try:
            words = Path(environ[PATH_VARIABLE]).read_text().strip()
        except OSError as error:
            raise click.UsageError(f"{PATH_VARIABLE}: the secret cannot be read: {error}.") from None
    if not words:
        raise click.UsageError(
            f"raybook starts no node without the cluster's secret. Set {WORDS_VARIABLE} (or {PATH_VARIABLE}) on every node; "
            "KubeRay does it for a RayCluster with `authOptions: {mode: token}`."
        )
    return token_of_words(words)


def redis_store(environ: Mapping[str, str], password: str | None = None) -> str:
    """The store that KubeRay's variables mean; "" for none."""
    address = environ.get(REDIS_VARIABLE, "").strip()
    if not address:
        return ""
    place = address.partition("://")[2] or address
    secret = password or environ.get(REDIS_PASSWORD_VARIABLE, "")
    return f"redis://:{secret}@{place}" if secret else f"redis://{place}"


def _reachable_address() -> str:
    for candidate in (os.environ.get("POD_IP", ""), os.environ.get("MY_POD_IP", "")):
        if candidate:
            return candidate
    try:
        return own_address_towards(*SOMEWHERE)
    except OSError:
        pass
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


@main.command("health-check")
@click.option("--address", type=Address(), help=f"Of the GCS; on this machine, port {GCS_PORT}, unless given.")
@click.option("--component", hidden=True)
@click.option("--skip-version-check", is_flag=True, hidden=True)
def health_check(address: str | None, component: str | None, skip_version_check: bool) -> None:
    """Exit with 0 when the GCS answers, with 1 otherwise."""
    if component:
        raise click.UsageError(f"--component: raybook has no component {component!r}; leave it out.")
    try:
        asyncio.run(_ask_health(address or f"127.0.0.1:{GCS_PORT}", _token(os.environ)))
    except (ConnectionError, RemoteError, OSError, TimeoutError) as error:
        click.echo(f"The GCS does not answer: {error}", err=True)
        sys.exit(1)


async def _ask_health(address: str, token: bytes) -> None:
    from raybook.io.rpc import GrpcChannel  # 100 ms of imports that other commands need not pay.

    channel = GrpcChannel("Gcs", address, token, HEALTH_TIMEOUT_S, None)
    try:
        await channel.call("ClusterStatus", ClusterStatus())
    finally:
        await channel.close()


for _name, _command in raybook_commands.commands.items():
    if _name not in main.commands:
        main.add_command(_command, _name)


if __name__ == "__main__":
    main()
