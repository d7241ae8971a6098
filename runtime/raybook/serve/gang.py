"""Gangs: replicas in groups that are placed together or not at all: their options, and what a member would know of its own.

Serve here does not place gangs: deploying one is a NotImplementedError that says so (`build_app`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pydantic import BaseModel, PositiveInt, field_validator


class GangPlacementStrategy(str, Enum):
    """Where the replicas of one gang stand: on few nodes, or on many; as far as there is room."""

    PACK = "PACK"
    SPREAD = "SPREAD"


class GangRuntimeFailurePolicy(str, Enum):
    """What follows when one replica of a gang fails: all are started anew, or that one."""

    RESTART_GANG = "RESTART_GANG"
    RESTART_REPLICA = "RESTART_REPLICA"


class GangSchedulingConfig(BaseModel):
    """gang_size: replicas in one gang; num_replicas is a multiple of it."""

    gang_size: PositiveInt
    gang_placement_strategy: GangPlacementStrategy = GangPlacementStrategy.PACK
    runtime_failure_policy: GangRuntimeFailurePolicy = GangRuntimeFailurePolicy.RESTART_GANG

    @field_validator("runtime_failure_policy")
    @classmethod
    def _check_policy(cls, value: GangRuntimeFailurePolicy) -> GangRuntimeFailurePolicy:
        if value is GangRuntimeFailurePolicy.RESTART_REPLICA:
            raise NotImplementedError("RESTART_REPLICA policy is not yet implemented.")
        return value


@dataclass
class GangContext:
    """Of one replica: its gang, its rank in it, and the others, by rank."""

    gang_id: str
    rank: int
    world_size: int
    member_replica_ids: list[str]
    pg_name: str = ""
