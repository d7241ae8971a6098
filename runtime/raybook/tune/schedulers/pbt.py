"""Population based training under Ray's import path, and the replay of what such a run found.

The replay reads the policy file here; what it decides from the rows is a table of (step, configuration).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raybook.tune.core.orders import Exploit
from raybook.tune.core.pbt import PopulationBasedTraining as PurePopulationBasedTraining
from raybook.tune.core.scheduler import TrialScheduler
from raybook.tune.core.trial_events import CONTINUE, PAUSE
from raybook.tune.error import TuneError


class PopulationBasedTraining(PurePopulationBasedTraining):
    __doc__ = PurePopulationBasedTraining.__doc__

    @staticmethod
    def _error(text: str) -> Exception:
        return TuneError(text)


class PopulationBasedTrainingReplay(TrialScheduler):
    """Trains one trial with the schedule of configurations that a PBT run found.

    policy_file: the `pbt_policy_<trial>.txt` of the trial whose schedule is replayed. Raises ValueError if it does not
    exist or cannot be read. Use it with num_samples=1 and without param_space.
    """

    def __init__(self, policy_file: str) -> None:
        super().__init__()
        file = Path(policy_file).expanduser()
        if not file.exists():
            raise ValueError(f"Policy file not found: {file}. PBT writes it into the run's folder (log_config=True).")
        self.policy_file = str(file)
        self.config, self._policy = _read_policy(file)
        self.current_config = self.config
        self._trial: str | None = None
        self._step = 0
        self._num_perturbations = 0

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        if self._trial is not None:
            raise ValueError(
                "More than one trial was added to a PBT replay, which would train the same schedule twice. "
                "Use num_samples=1 and no grid."
            )
        self._trial = trial_id
        if self.config is None:
            if not config:
                raise ValueError(f"{self.policy_file} has no row, and the trial has no configuration: nothing to run.")
            self.config = self.current_config = dict(config)
            return None
        return dict(self.config)

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        self._step = int(result.get("training_iteration", 0))
        if not self._policy or self._step < self._policy[0][0]:
            return CONTINUE
        _, config = self._policy.pop(0)
        self.current_config = config
        self._num_perturbations += 1
        self._orders.append(Exploit(trial_id, None, dict(config), f"PBT replay: new configuration at {self._step}"))
        return PAUSE

    def debug_string(self) -> str:
        return f"PopulationBasedTraining replay: Step {self._step}, perturb {self._num_perturbations}"


def _read_policy(file: Path) -> tuple[dict[str, Any] | None, list[tuple[int, dict[str, Any]]]]:
    """Return (first configuration, [(step, configuration from there on)]). Follows the last trial back to its origin."""
    try:
        rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"Could not read PBT policy file: {file}: {error}.") from None
    policy: list[tuple[int, dict[str, Any]]] = []
    first, came_from = None, None
    for old_tag, new_tag, _, new_step, old_config, new_config in reversed(rows):
        if came_from is not None and old_tag != came_from:
            break
        came_from, first = new_tag, old_config
        policy.append((new_step, new_config))
    return first, policy[::-1]
