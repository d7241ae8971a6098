"""Violation: a checker found that something does not hold."""

from __future__ import annotations


class Violation(AssertionError):
    """checker: whose invariant. keys: ids and names whose stories may explain it."""

    def __init__(self, checker: str, text: str, *keys: bytes) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker
        self.text = text
        self.keys = keys
