"""JAX: a trainer whose workers form one `jax.distributed` group. Needs `pip install jax`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raybook.train.lazy_names import lazy_names

if TYPE_CHECKING:
    from raybook.train.jax.config import JaxConfig
    from raybook.train.jax.jax_trainer import JaxTrainer

__all__ = ["JaxConfig", "JaxTrainer"]

__getattr__, __dir__ = lazy_names(__name__, {"config": "JaxConfig", "jax_trainer": "JaxTrainer"})
