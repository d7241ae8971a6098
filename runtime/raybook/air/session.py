"""The verbs of a training function or a trial under the module path that Ray's users import them from."""

from raybook.train.session import get_checkpoint, get_context, get_dataset_shard, report

__all__ = ["get_checkpoint", "get_context", "get_dataset_shard", "report"]
