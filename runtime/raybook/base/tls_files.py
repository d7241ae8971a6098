"""TLS files: which certificate, key and authority the processes of a node use towards other nodes, and where that is said.

Names only; ``io/tls`` reads the files. Variables are Ray's (``RAY_USE_TLS`` and ``RAY_TLS_*``), ours with ``RAYBOOK_`` win.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

USE_VARIABLES = ("RAYBOOK_USE_TLS", "RAY_USE_TLS")
FILE_VARIABLES = {"cert": "TLS_SERVER_CERT", "key": "TLS_SERVER_KEY", "ca": "TLS_CA_CERT"}
"""Field → the variable's name behind ``RAYBOOK_`` or ``RAY_``."""


class TlsFiles(msgspec.Struct, frozen=True):
    """Paths of PEM files. cert: this node's, with what leads from it to the authority; key: its private key; ca: the
    authorities whose certificates are taken from others."""

    cert: str
    key: str
    ca: str


def choose_tls(environ: Mapping[str, str], cert: str = "", key: str = "", ca: str = "") -> TlsFiles | None:
    """What was said with options, or, if nothing was, by the environment; None for no TLS. ValueError naming what is
    missing when only a part was said."""
    given = {"cert": cert, "key": key, "ca": ca}
    if any(given.values()):
        missing = [f"--tls-{field}" for field, path in given.items() if not path]
        if missing:
            raise ValueError(
                f"TLS needs three files, and {' and '.join(missing)} was not given: --tls-cert and --tls-key are this "
                "node's, --tls-ca is the authority's certificate. `raybook tls init FOLDER` makes all of them."
            )
        return TlsFiles(cert, key, ca)
    if not any(environ.get(name, "").lower() in ("1", "true") for name in USE_VARIABLES):
        return None
    found = {
        field: environ.get(f"RAYBOOK_{name}") or environ.get(f"RAY_{name}") or ""
        for field, name in FILE_VARIABLES.items()
    }
    missing = [f"RAY_{FILE_VARIABLES[field]}" for field, path in found.items() if not path]
    if missing:
        raise ValueError(
            f"RAY_USE_TLS is set, and {' and '.join(missing)} is not. All three files must be named: "
            f"{', '.join(f'RAY_{name}' for name in FILE_VARIABLES.values())}."
        )
    return TlsFiles(**found)
