"""What this machine offers as a node: measured here, decided in ``core/scheduling/node_resources``."""

from __future__ import annotations

from raybook.base.config import Config
from raybook.base.label_selector import ACCELERATOR_TYPE_LABEL
from raybook.base.resources import ACCELERATOR_RESOURCE, NODE_RESOURCE, Shape
from raybook.core.scheduling.node_resources import Machine, node_resources
from raybook.io import hardware
from raybook.io.gpu import gpu_type, visible_gpu_ids
from raybook.protocol.messages.daemons import NodeAmounts

HEAD_RESOURCE = f"{NODE_RESOURCE}__internal_head__"


def offered_resources(config: Config, amounts: NodeAmounts, ip: str = "127.0.0.1", is_head: bool = True) -> Shape:
    """Fixed-point totals of a node started here with these wishes, and one unit of its own name, ``node:IP``, by which
    tasks are pinned to it (``node:__internal_head__`` on the head, as in Ray). ValueError, TypeError. Cost: 0.2 ms, and
    10 ms more where there are GPUs and nobody said how many to use."""
    gpus = 0 if amounts.num_gpus is not None else len(visible_gpu_ids())
    machine = Machine(hardware.cpu_count(), gpus, hardware.memory_bytes())
    model = gpu_type() if amounts.num_gpus != 0 else ""
    names = {f"{NODE_RESOURCE}{ip}": 1.0, **({HEAD_RESOURCE: 1.0} if is_head else {})}
    if model:
        names[f"{ACCELERATOR_RESOURCE}{model}"] = 1.0
    return node_resources(
        config,
        machine,
        amounts.num_cpus,
        amounts.num_gpus,
        amounts.memory_bytes,
        amounts.object_store_bytes,
        {**names, **amounts.custom},
    )


def offered_labels(resources: Shape, labels: dict[str, str]) -> dict[str, str]:
    """The labels of a node with these resources: the user's, and the type of its accelerator."""
    found = (name.removeprefix(ACCELERATOR_RESOURCE) for name in resources if name.startswith(ACCELERATOR_RESOURCE))
    model = next(found, "")
    return {ACCELERATOR_TYPE_LABEL: model, **labels} if model else labels


def gpu_ids(resources: dict[str, int]) -> list[int] | None:
    """Identities of the devices; None (0, 1, …) when more were asked for than there are."""
    count = -(-resources.get("GPU", 0) // 10_000)
    ids = visible_gpu_ids() if count else []
    return ids if len(ids) >= count else None
