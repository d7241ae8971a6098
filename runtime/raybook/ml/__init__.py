"""Shared ground of the machine-learning libraries: checkpoints, run configuration, results, sessions, storage.

Reading order: `checkpoint`, `run_config`, `session`, `result`, `storage`; `core/` holds the pure parts.
"""
