"""Sync configuration: a record of Ray's that code of older versions makes. Nothing here reads it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SyncConfig:
    """How a trial's files were synchronised in older versions of Ray; accepted and without effect."""

    sync_period: int = 300
    sync_timeout: int = 1800
    sync_artifacts: bool = False
    sync_artifacts_on_checkpoint: bool = True
