"""raybook.util.joblib: joblib's ``Parallel``, and so scikit-learn's, on a cluster.

register_ray()
with joblib.parallel_backend("ray"):
    ...
"""

from __future__ import annotations

try:
    from joblib.parallel import register_parallel_backend
except ImportError as error:
    raise ImportError("raybook.util.joblib needs joblib, which is not installed here: pip install joblib.") from error

from raybook.util.joblib.ray_backend import RayBackend

__all__ = ["register_ray"]


def register_ray() -> None:
    """Make "ray" a name of a joblib backend. Idempotent."""
    register_parallel_backend("ray", RayBackend)
