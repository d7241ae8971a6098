"""Runtime environments on a node: what a worker of each gets (``plan``), and the packages it needs (``packages``).

``RuntimeEnv`` and ``RuntimeEnvConfig`` are the public classes, under the path that Ray gave them.
"""

from raybook.base.runtime_env import RuntimeEnv, RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
