"""SyncConfig under the module path that Ray's users import it from."""

from raybook.train.sync_config import SyncConfig

__all__ = ["SyncConfig"]
