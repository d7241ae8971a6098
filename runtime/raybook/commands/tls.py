"""``raybook tls init``: an authority and certificates for a cluster, in one command."""

from __future__ import annotations

import re
from pathlib import Path

import click

from raybook.io.tls import usable_tls

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@click.group()
def tls() -> None:
    """Certificates, for clusters whose nodes speak TLS."""


@tls.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--name", default="node", show_default=True, help="Of the certificate's files; one for each node, or one for all."
)
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="A name or address to add, for other programs.")
@click.option("--days", type=click.IntRange(1, 36_500), default=365, show_default=True, help="How long it is good.")
def init(folder: Path, name: str, hosts: tuple[str, ...], days: int) -> None:
    """Make a certificate in FOLDER, and the authority that signs it, unless the folder has one.

    Copy NAME.pem, NAME-key.pem and ca.pem to the node that uses them. The authority's own key, ca-key.pem, is needed only to
    make more of them: keep it where no node is."""
    if not NAME.fullmatch(name) or name == "ca":
        raise click.BadParameter(f"{name!r} is no name for files; use letters, digits, '-', '_' and '.', and not 'ca'.")
    try:
        from raybook.io.certificates import make_authority, make_member
    except ImportError as error:
        raise click.ClickException(
            f"Making certificates needs the library cryptography ({error}): pip install 'raybook[tls]'"
        ) from None
    try:
        is_new = make_authority(folder)
        files = usable_tls(make_member(folder, name, hosts, days))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    assert files is not None, "usable_tls returns what it is given"
    made = "Made an authority, and of it" if is_new else "Of the authority that is there, made"
    click.echo(f"{made} a certificate that is good for {days} days.")
    options = f"--tls-cert {files.cert} --tls-key {files.key} --tls-ca {files.ca}"
    click.echo(f"  head:          raybook start --head {options}")
    click.echo(f"  another node:  raybook start --address HOST:PORT --token-file FILE {options}")
