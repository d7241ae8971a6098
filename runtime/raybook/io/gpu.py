"""GPUs of this node: how many, and which ones, as far as the driver may see them.

NVML is asked (it does not create a CUDA context, which would take 300 MiB of each device); without its Python package,
its library, or a device there are no GPUs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpu_ids(environ: Mapping[str, str] = os.environ) -> list[int]:
    """Indices of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, in its order; all of them when it is not set. Numbers
    are taken as they stand, so a test may name devices that are not there; names ("GPU-5f…") are looked up in NVML, and
    unknown ones, MIG slices among them, are left out. As in CUDA, what follows an invalid entry is invisible.
    Cost: 10 ms where there are GPUs."""
    setting = environ.get(VISIBLE)
    if setting is None:
        return list(range(_count()))
    ids: list[int] = []
    names: list[str] | None = None
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdigit():
            index = int(entry)
        else:
            names = _uuids() if names is None else names
            index = next((at for at, name in enumerate(names) if entry and name.startswith(entry)), -1)
        if index < 0 or index in ids:
            break
        ids.append(index)
    return ids


def gpu_type(environ: Mapping[str, str] = os.environ) -> str:
    """The model of the first visible GPU as users name it, such as ``A100`` or ``H200``; "" when NVML knows none. Cost:
    10 ms where there are GPUs."""
    with _nvml() as nvml:
        if not nvml:
            return ""
        ids = visible_gpu_ids(environ)
        if not ids or ids[0] >= nvml.nvmlDeviceGetCount():
            return ""
        name = nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(ids[0]))
        return model_of(name.decode() if isinstance(name, bytes) else name)


def gpu_usage() -> list[dict[str, Any]]:
    """``index``, ``utilization`` (0 to 1), ``memory_used_bytes``, ``memory_total_bytes`` of every GPU of this node; [] where
    NVML knows none. Cost: 10 ms where there are GPUs."""
    with _nvml() as nvml:
        if not nvml:
            return []
        rows = []
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            row: dict[str, Any] = {
                "index": index,
                "memory_used_bytes": int(memory.used),
                "memory_total_bytes": int(memory.total),
            }
            try:
                row["utilization"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            except nvml.NVMLError:
                # A GPU cut into slices (MIG) tells of none.
                row["utilization"] = 0.0
            rows.append(row)
        return rows


def model_of(name: str) -> str:
    """The model in a device's full name: the first word with a number in it. ``NVIDIA A100-SXM4-40GB`` → ``A100``."""
    words = name.replace("-", " ").split()
    return next((word for word in words if any(letter.isdigit() for letter in word)), "")


def _count() -> int:
    with _nvml() as nvml:
        return int(nvml.nvmlDeviceGetCount()) if nvml else 0


def _uuids() -> list[str]:
    with _nvml() as nvml:
        if not nvml:
            return []
        names = (nvml.nvmlDeviceGetUUID(nvml.nvmlDeviceGetHandleByIndex(at)) for at in range(nvml.nvmlDeviceGetCount()))
        return [name.decode() if isinstance(name, bytes) else name for name in names]


@contextlib.contextmanager
def _nvml() -> Iterator[Any]:
    """The initialised module, or None. The device file is looked at first: importing costs start-up time."""
    if not os.path.exists("/dev/nvidiactl"):
        yield None
        return
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()
