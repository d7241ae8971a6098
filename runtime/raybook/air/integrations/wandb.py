"""Weights & Biases under the module path that Ray's users import it from."""

from raybook.tune.logger.wandb import WandbLoggerCallback, setup_wandb

__all__ = ["WandbLoggerCallback", "setup_wandb"]
