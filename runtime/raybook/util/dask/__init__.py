"""raybook.util.dask: Dask collections computed by raybook's tasks.

    with enable_dask_on_ray(): frame.compute()         or     dask.compute(x, scheduler=ray_dask_get)

    scheduler   ray_dask_get, enable_dask_on_ray       callbacks   RayDaskCallback, ProgressBarCallback

Importing it makes ``persist`` of Dask collections leave results in the cluster when raybook computes them; other
schedulers' ``persist`` is as it was.
"""

from __future__ import annotations

from typing import Any

try:
    import dask
    import dask._task_spec
except ImportError as error:
    raise ImportError(
        f"raybook.util.dask needs Dask 2024.12 or newer ({error}). Install it: pip install 'raybook[dask]'."
    ) from None

import dask.base

from raybook.util.dask.callbacks import (
    ProgressBarCallback,
    RayDaskCallback,
    local_ray_callbacks,
    unpack_ray_callbacks,
)
from raybook.util.dask.scheduler import disable_dask_on_ray, enable_dask_on_ray, ray_dask_get, ray_dask_get_sync

_dask_persist = dask.base.persist


def ray_dask_persist(*args: Any, scheduler: Any = None, **kwargs: Any) -> Any:
    """``dask.persist``: the same collections, computed; their results are refs when raybook computes them."""
    if dask.base.get_scheduler(scheduler=scheduler) in (ray_dask_get, ray_dask_get_sync):
        kwargs["ray_persist"] = True
    return _dask_persist(*args, scheduler=scheduler, **kwargs)


def dataframe_optimize(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """The graph as it is: Dask's own optimizer has done it."""
    return dsk


if not hasattr(_dask_persist, "_raybook"):
    ray_dask_persist._raybook = True  # type: ignore[attr-defined]
    dask.base.persist = dask.persist = ray_dask_persist

__all__ = [
    "ProgressBarCallback",
    "RayDaskCallback",
    "dataframe_optimize",
    "disable_dask_on_ray",
    "enable_dask_on_ray",
    "local_ray_callbacks",
    "ray_dask_get",
    "ray_dask_get_sync",
    "ray_dask_persist",
    "unpack_ray_callbacks",
]
