"""Versions: what two processes must have alike to work together, and the words when they have not."""

from __future__ import annotations

import platform

from raybook.base.specs import PROTOCOL_VERSION
from raybook.base.version import VERSION


def version_refusal(protocol_version: int, python_version: str, raybook_version: str) -> str:
    """Why a process with these versions cannot work with this one, which is the cluster's: both in two columns, and what
    to do. "" when it can: protocols are equal, and so are Python's first two numbers (code travels as bytecode)."""
    ours = platform.python_version()
    if protocol_version == PROTOCOL_VERSION and _minor(python_version) == _minor(ours):
        return ""
    rows = [
        ("", "this process", "the cluster"),
        ("raybook", raybook_version, VERSION),
        ("protocol", str(protocol_version), str(PROTOCOL_VERSION)),
        ("Python", python_version, ours),
    ]
    table = "\n".join(f"  {name:<10}{mine:<16}{theirs}".rstrip() for name, mine, theirs in rows)
    fix = (
        f"Run this process with Python {_minor(ours)}"
        if _minor(python_version) != _minor(ours)
        else f"Install the cluster's version here: pip install raybook=={VERSION}"
    )
    return f"This process and the cluster do not speak the same version. Nothing was started.\n{table}\n{fix}."


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
