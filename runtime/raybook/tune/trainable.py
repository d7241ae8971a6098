"""Trainable: training code written as a class, one step at a time.

The class is the user's; this base gives it names, counts and folders. It does not decide when a checkpoint is made.
Source: the surface of Ray's `tune.Trainable`.
"""

from __future__ import annotations

from typing import Any


class Trainable:
    """Base of class trainables: override `setup` and `step`, and the two checkpoint methods to be able to go on."""

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        trial_id: str = "",
        trial_name: str = "",
        logdir: str = "",
        trial_resources: dict[str, float] | None = None,
    ) -> None:
        self.config: dict[str, Any] = config or {}
        self.trial_id = trial_id
        self.trial_name = trial_name
        self.logdir = logdir
        self.trial_resources = trial_resources or {}
        self._iteration = 0
        self.setup(self.config)

    @property
    def iteration(self) -> int:
        """How many steps are done, those before a restore included."""
        return self._iteration

    training_iteration = iteration

    def setup(self, config: dict[str, Any]) -> None:
        """Prepare; called once, before the first step."""

    def step(self) -> dict[str, Any]:
        """Do one iteration and return its metrics; `done: True` among them ends the trial."""
        raise NotImplementedError(f"{type(self).__name__} must have a method step() that returns metrics.")

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any] | None:
        """Write state into the folder, or return it as a dict that can be pickled."""
        raise NotImplementedError(f"{type(self).__name__} has no save_checkpoint(), so it cannot be saved or paused.")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Take state back: the dict that save_checkpoint returned, or else the folder it wrote."""
        raise NotImplementedError(f"{type(self).__name__} has no load_checkpoint(), so it cannot go on from one.")

    def cleanup(self) -> None:
        """Let go of what setup acquired; called once, at the end."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take a new configuration in place; False if that is not possible."""
        return False

    def train(self) -> dict[str, Any]:
        """Do one step and count it."""
        result = self.step()
        if not isinstance(result, dict):
            raise TypeError(f"{type(self).__name__}.step() must return a dict of metrics, not {result!r}.")
        self._iteration += 1
        return result

    def stop(self) -> None:
        """End: calls cleanup()."""
        self.cleanup()
