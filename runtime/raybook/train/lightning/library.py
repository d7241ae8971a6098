"""Lightning under either of its names."""

from __future__ import annotations

try:
    import lightning.pytorch as pl
    from lightning.pytorch.plugins.environments import LightningEnvironment
except ModuleNotFoundError:
    import pytorch_lightning as pl
    from pytorch_lightning.plugins.environments import LightningEnvironment

__all__ = ["LightningEnvironment", "pl"]
