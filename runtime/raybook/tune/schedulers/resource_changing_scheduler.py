"""Resource changing: gives trials more or less while they run, by a function that is asked at each result.

Decides nothing about stopping: that is the wrapped scheduler's. A trial whose resources change is paused (it needs
checkpoints) and goes on with the new ones.
Source: the surface of Ray's ResourceChangingScheduler; the allocation rules are stated at their classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raybook.ml.core.metrics import WORST, has_metric, lookup, score
from raybook.tune.core.orders import Order, Resize
from raybook.tune.core.resource_request import ResourceRequest
from raybook.tune.core.scheduler import FIFOScheduler, TrialScheduler
from raybook.tune.core.trial_events import CONTINUE, PAUSE, SAVE
from raybook.tune.execution.placement_groups import PlacementGroupFactory

# A paused trial waits for room to go on with what it was given, so it counts.
_LIVE = frozenset({"STARTING", "RUNNING", "PAUSING", "PAUSED"})


@dataclass
class TrialView:
    """What an allocation function sees of a trial."""

    trial_id: str
    config: Mapping[str, Any]
    placement_group_factory: PlacementGroupFactory
    status: str = "PENDING"
    last_result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Ask whether it runs or is being started."""
        return self.status in _LIVE


class SweepView:
    """What an allocation function sees of the sweep, in the place of Ray's controller."""

    def __init__(self) -> None:
        self.trials: dict[str, TrialView] = {}
        self.total: dict[str, float] = {}

    def get_trials(self) -> list[TrialView]:
        """Return all trials."""
        return list(self.trials.values())

    def get_live_trials(self) -> list[TrialView]:
        """Return the trials that run."""
        return [trial for trial in self.trials.values() if trial.is_live]

    def get_num_cpus(self) -> float:
        """Return the CPUs of the whole cluster."""
        return self.total.get("CPU", 0.0)

    def get_num_gpus(self) -> float:
        """Return the GPUs of the whole cluster."""
        return self.total.get("GPU", 0.0)

    @property
    def _resource_updater(self) -> SweepView:  # Where allocation functions written for Ray look for the totals.
        return self


Allocation = Callable[[Any, Any, Mapping[str, Any], Any], Any]


class DistributeResources:
    """Shares what is free evenly between the trials that run, each getting at least what it began with.

    add_bundles: put more into new bundles instead of into the trial's one. increase_by: what a share is made of (one GPU
    if trials hold GPUs, else one CPU). increase_by_times: how many shares a trial may get at most, -1 for no limit.
    reserve_resources: what stays free.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Mapping[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: Mapping[str, float] | None = None,
    ) -> None:
        self.add_bundles = add_bundles
        self.increase_by = dict(increase_by or {})
        self.increase_by_times = increase_by_times
        self.reserve_resources = dict(reserve_resources or {})

    def __call__(self, tune_controller: Any, trial: Any, result: Mapping[str, Any], scheduler: Any) -> Any:
        """Return what trial shall hold from now on, None to leave it."""
        base = scheduler.base_trial_resources or PlacementGroupFactory([{"CPU": 1}])
        if not self.add_bundles and len(base.bundles) > 1:
            raise ValueError(
                f"{type(self).__name__}(add_bundles=False) needs trials of one bundle, and they have "
                f"{len(base.bundles)}. Pass add_bundles=True."
            )
        if result.get("training_iteration", 1) < 1:
            return None
        share = self._share(base)
        trials = tune_controller.get_live_trials()
        shares = self._shares_of(trial, trials, base, share, tune_controller)
        return self._with_shares(base, share, shares)

    def _share(self, base: ResourceRequest) -> dict[str, float]:
        if self.increase_by:
            return self.increase_by
        if self.add_bundles:
            return base.bundles[-1]
        return {"GPU": 1.0} if base.bundles[0].get("GPU") else {"CPU": 1.0}

    def _left(self, trials: Sequence[Any], base: ResourceRequest, share: Mapping[str, float], sweep: Any) -> int:
        """Return how many shares there are beyond what all trials began with."""
        total = {"CPU": sweep._resource_updater.get_num_cpus(), "GPU": sweep._resource_updater.get_num_gpus()}
        counts = []
        for name, amount in share.items():
            if amount > 0:
                taken = base.required_resources.get(name, 0.0) * len(trials) + self.reserve_resources.get(name, 0.0)
                counts.append(math.floor((total.get(name, 0.0) - taken) / amount + 1e-9))
        return max(0, min(counts, default=0))

    def _shares_of(
        self, trial: Any, trials: Sequence[Any], base: ResourceRequest, share: Mapping[str, float], sweep: Any
    ) -> int:
        left = self._left(trials, base, share, sweep)
        fair, rest = divmod(left, max(1, len(trials)))
        rank = [other.trial_id for other in trials].index(trial.trial_id) if trial in trials else len(trials)
        wanted = fair + (1 if rank < rest else 0)
        # Others hold on to what they have until their own next result: only what is free now can be taken.
        held = sum(_shares_held(other, base, share) for other in trials if other.trial_id != trial.trial_id)
        return self._limited(min(wanted, max(0, left - held)))

    def _limited(self, shares: int) -> int:
        return min(shares, self.increase_by_times) if self.increase_by_times > 0 else shares

    def _with_shares(self, base: ResourceRequest, share: Mapping[str, float], shares: int) -> PlacementGroupFactory:
        if self.add_bundles:
            return PlacementGroupFactory([*base.bundles, *[dict(share)] * shares], base.strategy)
        bundle = base.bundles[0]
        for name, amount in share.items():
            bundle[name] = bundle.get(name, 0.0) + amount * shares
        return PlacementGroupFactory([bundle], base.strategy)


class DistributeResourcesToTopJob(DistributeResources):
    """Gives all that is free to the trial that is best now; earlier best ones keep what they have.

    metric, mode: what best means; those of the scheduler if None. The other arguments are those of DistributeResources.
    """

    def __init__(
        self,
        add_bundles: bool = False,
        increase_by: Mapping[str, float] | None = None,
        increase_by_times: int = -1,
        reserve_resources: Mapping[str, float] | None = None,
        metric: str | None = None,
        mode: str | None = None,
    ) -> None:
        super().__init__(add_bundles, increase_by, increase_by_times, reserve_resources)
        self.metric = metric
        self.mode = mode

    def _shares_of(
        self, trial: Any, trials: Sequence[Any], base: ResourceRequest, share: Mapping[str, float], sweep: Any
    ) -> int:
        if self.metric is None or self.mode not in ("min", "max"):
            raise ValueError(
                f"{type(self).__name__} needs a metric and a mode: give them here, to the scheduler or in TuneConfig."
            )

        def rank(other: Any) -> float:
            known = has_metric(other.last_result, self.metric)  # type: ignore[arg-type]
            return score(lookup(other.last_result, self.metric), str(self.mode)) if known else WORST  # type: ignore[arg-type]

        held = _shares_held(trial, base, share)
        others = sum(_shares_held(other, base, share) for other in trials if other.trial_id != trial.trial_id)
        free = self._left(trials, base, share, sweep) - others
        limit = self.increase_by_times if self.increase_by_times > 0 else math.inf
        hungry = [other for other in trials if _shares_held(other, base, share) < limit] or list(trials)
        best = max(hungry, key=rank)
        return self._limited(max(0, free)) if best.trial_id == trial.trial_id else min(held, max(0, free))


def _shares_held(trial: Any, base: ResourceRequest, share: Mapping[str, float]) -> int:
    held, began = trial.placement_group_factory.required_resources, base.required_resources
    counts = [
        round((held.get(name, 0.0) - began.get(name, 0.0)) / amount) for name, amount in share.items() if amount > 0
    ]
    return max(0, min(counts, default=0))


class ResourceChangingScheduler(TrialScheduler):
    """Changes the resources of running trials. Trials need checkpoints; not with reuse_actors.

    base_scheduler: decides on stopping, FIFO if None. resources_allocation_function: called at each result with (a view
    of the sweep, the trial, its result, this scheduler); returns a PlacementGroupFactory or None for no change.
    """

    def __init__(
        self,
        base_scheduler: TrialScheduler | None = None,
        resources_allocation_function: Allocation | None = DistributeResources(add_bundles=False),  # noqa: B008
    ) -> None:
        super().__init__()
        self._base_scheduler = base_scheduler or FIFOScheduler()
        self._resources_allocation_function = resources_allocation_function
        self._base_trial_resources: PlacementGroupFactory | None = None
        self._view = SweepView()
        self.needs_metric = self._base_scheduler.needs_metric
        self.replaces_search = self._base_scheduler.replaces_search

    @property
    def base_trial_resources(self) -> PlacementGroupFactory | None:
        """What each trial begins with."""
        return self._base_trial_resources

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        accepted = self._base_scheduler.set_search_properties(metric, mode, **spec)
        self.metric, self.mode = self._base_scheduler.metric, self._base_scheduler.mode
        allocate = self._resources_allocation_function
        if isinstance(allocate, DistributeResourcesToTopJob):
            allocate.metric = allocate.metric or self.metric
            allocate.mode = allocate.mode or self.mode
        return accepted

    def on_trial_resources(self, trial_id: str, request: ResourceRequest) -> None:
        """Take note of what a trial holds."""
        factory = PlacementGroupFactory(request.bundles or [{"CPU": 0}], request.strategy)
        if self._base_trial_resources is None:
            self._base_trial_resources = factory
        view = self._view.trials.setdefault(trial_id, TrialView(trial_id, {}, factory))
        view.placement_group_factory = factory

    def add_trial(self, trial_id: str, config: Mapping[str, Any]) -> dict[str, Any] | None:
        changed = self._base_scheduler.add_trial(trial_id, config)
        self._view.trials[trial_id] = TrialView(trial_id, changed or config, PlacementGroupFactory([{"CPU": 1}]))
        return changed

    # By Ray's hooks, since the wrapped scheduler may have no others.

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._base_scheduler.on_trial_add(tune_controller, trial)
        view = TrialView(trial.trial_id, trial.config, PlacementGroupFactory([{"CPU": 1}]))
        self._view.trials[trial.trial_id] = view

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        verdict = self._base_scheduler.on_trial_result(tune_controller, trial, result)
        return self._resized(trial.trial_id, result, verdict)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._base_scheduler.on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._base_scheduler.on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._base_scheduler.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any | None:
        return self._base_scheduler.choose_trial_to_run(tune_controller)

    def on_trial_state(self, trial_id: str, state: str) -> None:
        self._view.trials[trial_id].status = state
        self._base_scheduler.on_trial_state(trial_id, state)

    def on_checkpoint(self, trial_id: str) -> None:
        self._base_scheduler.on_checkpoint(trial_id)

    def on_cluster(self, total: Mapping[str, float]) -> None:
        self._view.total = dict(total)
        self._base_scheduler.on_cluster(total)

    def on_search_end(self) -> None:
        self._base_scheduler.on_search_end()

    def on_stall(self) -> None:
        self._base_scheduler.on_stall()

    def judge(self, trial_id: str, result: Mapping[str, Any]) -> str:
        return self._resized(trial_id, result, self._base_scheduler.judge(trial_id, result))

    def _resized(self, trial_id: str, result: Mapping[str, Any], verdict: str) -> str:
        trial = self._view.trials[trial_id]
        trial.last_result = result
        if verdict not in (CONTINUE, SAVE) or self._resources_allocation_function is None:
            return verdict
        wanted = self._resources_allocation_function(self._view, trial, result, self)
        if wanted is None or wanted == trial.placement_group_factory:
            return verdict
        trial.placement_group_factory = wanted
        self._orders.append(Resize(trial_id, wanted))
        return PAUSE

    def complete_trial(self, trial_id: str, result: Mapping[str, Any]) -> None:
        self._base_scheduler.complete_trial(trial_id, result)

    def fail_trial(self, trial_id: str) -> None:
        self._base_scheduler.fail_trial(trial_id)

    def remove_trial(self, trial_id: str) -> None:
        self._base_scheduler.remove_trial(trial_id)

    def choose(self, waiting: Sequence[str]) -> str | None:
        return self._base_scheduler.choose(waiting)

    def take_orders(self) -> list[Order]:
        return [*self._base_scheduler.take_orders(), *super().take_orders()]

    def debug_string(self) -> str:
        return f"(ResourceChangingScheduler) {self._base_scheduler.debug_string()}"
