"""Failure policy: decides whether a run goes on after a failure, and keeps the three budgets apart.

Knows kinds of failure and counts; does not know errors or processes.
Source: Ray's `FailureConfig`: workers' failures count against `max_failures`, nodes that were taken away against
`max_preemption_failures`, and groups that could not be started against `controller_failure_limit`; -1 is no limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WORKERS = "workers"
PREEMPTION = "preemption"
CONTROLLER = "controller"

RETRY = "RETRY"
RAISE = "RAISE"


@dataclass
class FailurePolicy:
    """The budgets of one run and what is spent of them."""

    max_failures: int = 0
    max_preemption_failures: int = -1
    controller_failure_limit: int = -1
    spent: dict[str, int] = field(default_factory=dict)

    def decide(self, kind: str, is_retryable: bool = True) -> str:
        """Note one failure; return RETRY or RAISE."""
        self.spent[kind] = self.spent.get(kind, 0) + 1
        if not is_retryable:
            return RAISE
        limit = self.limit(kind)
        return RETRY if limit == -1 or self.spent[kind] <= limit else RAISE

    def limit(self, kind: str) -> int:
        """Return how many failures of a kind are tolerated, -1 for any number."""
        limits = {
            WORKERS: self.max_failures,
            PREEMPTION: self.max_preemption_failures,
            CONTROLLER: self.controller_failure_limit,
        }
        return limits[kind]
