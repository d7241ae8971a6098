"""Scaler: how many replicas one deployment has now: the fixed number, or what its autoscaling decides.

The shell around `core/autoscaling`: it adds up what replicas and callers report, and calls a custom policy where there is
one. A policy that raises changes nothing, and its error is shown.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import cloudpickle

from raybook.serve.core.autoscaling import Autoscaler
from raybook.serve.core.names import DeploymentID
from raybook.serve.core.target import DeploymentTarget

logger = logging.getLogger("ray.serve")
STALE_MS = 3_000
"""How long a caller's report of what waits there counts."""


class Scaler:
    """Of one deployment."""

    def __init__(self, deployment: DeploymentID, target: DeploymentTarget) -> None:
        self.deployment = deployment
        self.autoscaler: Autoscaler | None = None
        self._target = target
        self._queued: dict[str, tuple[int, int]] = {}
        """By caller: (when it reported, how many wait there)."""
        self._policy: Any = None
        self._policy_state: dict[str, Any] = {}
        self.error = ""
        self._last_up_s: float | None = None
        self._last_down_s: float | None = None
        self.deploy(target)

    def deploy(self, target: DeploymentTarget) -> None:
        """A new target: what was learnt stays, if it was autoscaled before."""
        self._target = target
        if target.scaling is None:
            self.autoscaler = None
        elif self.autoscaler is None:
            self.autoscaler = Autoscaler(target.scaling, target.scaling.start)
        else:
            self.autoscaler.change_limits(target.scaling)
        self._policy = None

    def count(self, target: DeploymentTarget) -> int:
        """The number in force."""
        return target.num_replicas if self.autoscaler is None else self.autoscaler.target

    def note_queued(self, caller: str, now_ms: int, count: int) -> None:
        """A caller says how many requests wait with it."""
        if count:
            self._queued[caller] = (now_ms, count)
        else:
            self._queued.pop(caller, None)

    def queued(self, now_ms: int) -> int:
        """Over all callers."""
        return sum(count for at_ms, count in self._queued.values() if now_ms - at_ms < STALE_MS)

    def decide(self, now_ms: int, ongoing: dict[str, float], custom: dict[str, dict[str, float]]) -> bool:
        """Look at the load: whether the number changed. ongoing: requests by replica; custom: metrics by replica."""
        scaler = self.autoscaler
        if scaler is None:
            return False
        queued = self.queued(now_ms)
        scaler.observe(now_ms, sum(ongoing.values()) + queued)
        before = scaler.target
        if scaler.limits.policy and not (before == 0 and scaler.latest() > 0):
            self._decide_by_policy(now_ms, ongoing, queued, custom)
        else:
            scaler.decide(now_ms, len(ongoing))
        if scaler.target > before:
            self._last_up_s = time.time()
        elif scaler.target < before:
            self._last_down_s = time.time()
        return scaler.target != before

    def _decide_by_policy(
        self, now_ms: int, ongoing: dict[str, float], queued: int, custom: dict[str, dict[str, float]]
    ) -> None:
        scaler = self.autoscaler
        assert scaler is not None
        limits = scaler.limits
        try:
            if self._policy is None:
                policy = cloudpickle.loads(limits.policy)
                self._policy = policy(**limits.policy_kwargs) if isinstance(policy, type) else policy
            context = self._context(scaler, ongoing, queued, custom)
            wish, state = self._policy(context)
            self._policy_state = dict(state or {})
            self.error = ""
        except Exception as error:
            self.error = f"The autoscaling policy {limits.policy_name} raised {type(error).__name__}: {error}"
            logger.exception("The autoscaling policy of %s raised; its number of replicas stays.", self.deployment)
            return
        scaler.decide_wish(now_ms, math.ceil(wish), f"policy {limits.policy_name} wished for {wish}")

    def _context(
        self, scaler: Autoscaler, ongoing: dict[str, float], queued: int, custom: dict[str, dict[str, float]]
    ) -> Any:
        # Not at the top: pydantic takes 0.1 s to import, and few deployments have a policy of their own.
        from raybook.serve.autoscaling_policy import make_context

        return make_context(
            self.deployment, scaler, list(ongoing), queued, custom, dict(self._policy_state),
            self._last_up_s, self._last_down_s,
        )  # fmt: skip
