"""Versions: what two sides must have in common before they speak, and how a difference is told.

Code and values travel between drivers and workers as pickles, so these need the same minor version of Python; messages need
the same protocol. Two releases of raybook with one protocol may meet.
"""

from __future__ import annotations

import sys

import msgspec

from raybook.base.specs import PROTOCOL_VERSION
from raybook.base.version import VERSION

UNKNOWN = "unknown"


class Versions(msgspec.Struct, frozen=True):
    """One side's. protocol 0: it did not say."""

    protocol: int
    python: str
    raybook: str

    def __str__(self) -> str:
        return f"{self.protocol} {self.python} {self.raybook}"


OWN = Versions(PROTOCOL_VERSION, ".".join(map(str, sys.version_info[:3])), VERSION)
"""This process's."""


def parse_versions(text: str) -> Versions:
    """What ``str`` of one gives, of whatever version; unknown where it says nothing that can be read."""
    parts = text.split(" ")
    if len(parts) != 3 or not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 10):
        return Versions(0, UNKNOWN, UNKNOWN)
    return Versions(int(parts[0]), parts[1], parts[2])


def why_apart(theirs: Versions, ours: Versions, they: str, we: str, code_travels: bool) -> str:
    """Why two sides cannot work together, with both columns and what to do; "" when they can. they, we: what to call the
    two sides, as in "the node" and "this cluster". code_travels: pickles go between them."""
    advice = []
    if code_travels and _minor(theirs.python) != _minor(ours.python):
        advice.append(f"Use Python {_minor(ours.python)} there: code and values travel between the two.")
    if theirs.protocol != ours.protocol:
        advice.append(f"Install the same raybook there: pip install raybook=={ours.raybook}")
    if not advice:
        return ""
    rows = [
        ("python", theirs.python, ours.python, code_travels and _minor(theirs.python) != _minor(ours.python)),
        ("raybook", theirs.raybook or UNKNOWN, ours.raybook, theirs.raybook != ours.raybook),
        ("protocol", str(theirs.protocol or UNKNOWN), str(ours.protocol), theirs.protocol != ours.protocol),
    ]
    width = max(len(they), *(len(row[1]) for row in rows)) + 2
    other = max(len(we), *(len(row[2]) for row in rows)) + 2
    table = [f"  {'':10}{they:{width}}{we}"]
    table += [
        f"  {name:10}{left:{width}}{right:{other}}{'differs' * differs}".rstrip() for name, left, right, differs in rows
    ]
    return "\n".join([f"{they[:1].upper()}{they[1:]} and {we} are of different versions.", *table, *advice])


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
