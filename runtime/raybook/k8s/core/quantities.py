"""Quantities: amounts as Kubernetes writes them ("500m", "16Gi"), checked and compared exactly.

Source: the grammar of `apimachinery/pkg/api/resource`, whose pattern is also in KubeRay's CRDs.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

_GRAMMAR = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+|)")
_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


def amount_of(text: str) -> Fraction:
    """The amount in units (bytes, CPUs), exactly. ValueError for what is no quantity, or is negative."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity of Kubernetes, as in '500m', '4', '16Gi'")
    number, suffix = match.groups()
    if suffix in _BINARY:
        return Fraction(number) * _BINARY[suffix]
    power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return Fraction(number) * Fraction(10) ** power


def cpu_text(cpus: float) -> str:
    """CPUs as a quantity: whole ones as they are, others in thousandths, rounded up."""
    thousandths = math.ceil(Fraction(str(cpus)) * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
