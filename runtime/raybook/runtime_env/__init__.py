"""Runtime environments on a node: what a worker of each gets (``plan``), and the packages it needs (``packages``).

``RuntimeEnv`` is the public class, under the path that Ray gave it.
"""

from raybook.base.environments import RuntimeEnv

__all__ = ["RuntimeEnv"]
