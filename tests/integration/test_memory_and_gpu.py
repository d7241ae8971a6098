"""What a node finds out about its memory and GPUs, from files made up for the purpose."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import types

import pytest

from raybook.io import gpu, memory
from raybook.raylet.offer import offered_labels

GIB = 1 << 30


@pytest.fixture
def meminfo(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text(f"MemTotal: {16 * 1024 * 1024} kB\nMemFree: 100 kB\nMemAvailable: {10 * 1024 * 1024} kB\n")
    return path


def cgroup_2(folder, limit, used, cached=0, kills=0):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\nfile 7\ninactive_file {cached // 2}\nactive_file {cached // 2}\n")
    (folder / "memory.events").write_text(f"low 0\noom 1\noom_kill {kills}\n")
    return folder


def own_groups(folder, *lines):
    path = folder / "own"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def use_of(folder, meminfo, own):
    use = memory.NodeMemory(folder, own, meminfo).read()
    return use.used_bytes, use.limit_bytes


def test_without_a_limit_the_machine_says_what_is_in_use(tmp_path, meminfo):
    assert use_of(tmp_path / "none", meminfo, own_groups(tmp_path, "0::/")) == (6 * GIB, 16 * GIB)


def test_a_control_groups_limit_counts_and_its_file_cache_is_free(tmp_path, meminfo):
    cgroup_2(tmp_path / "cg", 4 * GIB, 3 * GIB, cached=GIB)
    assert use_of(tmp_path / "cg", meminfo, own_groups(tmp_path, "0::/")) == (2 * GIB, 4 * GIB)


def test_group_far_above_our_own_may_be_the_tightest(tmp_path, meminfo):
    cgroup_2(tmp_path / "cg" / "user", 8 * GIB, 7 * GIB)
    cgroup_2(tmp_path / "cg" / "user" / "lab" / "kernel", "max", GIB)
    own = own_groups(tmp_path, "1:name=systemd:/else", "0::/user/lab/kernel")
    assert use_of(tmp_path / "cg", meminfo, own) == (7 * GIB, 8 * GIB)


def test_in_a_container_that_is_told_the_hosts_paths_what_is_mounted_counts(tmp_path, meminfo):
    cgroup_2(tmp_path / "cg", 2 * GIB, GIB)
    assert use_of(tmp_path / "cg", meminfo, own_groups(tmp_path, "0::/docker/0123")) == (GIB, 2 * GIB)


def test_no_limit_is_written_as_max_or_as_a_huge_number(tmp_path, meminfo):
    for limit in ("max", 2**63 - 4096):
        cgroup_2(tmp_path / "cg", limit, 3 * GIB)
        assert use_of(tmp_path / "cg", meminfo, own_groups(tmp_path, "0::/")) == (6 * GIB, 16 * GIB)


def test_machine_that_is_fuller_than_the_group_counts(tmp_path, meminfo):
    cgroup_2(tmp_path / "cg", 4 * GIB, GIB)
    assert use_of(tmp_path / "cg", meminfo, own_groups(tmp_path, "0::/")) == (6 * GIB, 16 * GIB)


def test_the_first_version_of_control_groups_is_read_too(tmp_path, meminfo):
    folder = tmp_path / "cg" / "memory" / "lab"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{2 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    (folder / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 4096\ntotal_active_file 4096\n")
    (folder.parent / "memory.oom_control").write_text("under_oom 0\noom_kill 2\n")
    own = own_groups(tmp_path, "4:cpu,memory:/lab", "0::/")
    assert use_of(tmp_path / "cg", meminfo, own) == (GIB - 8192, 2 * GIB)
    assert memory.out_of_memory_kills(tmp_path / "cg") == 2


def test_shared_memory_is_nobodys_own():
    before = memory.private_bytes(os.getpid())
    with mmap.mmap(-1, 64 << 20) as shared:
        shared[:] = bytes(1) * (64 << 20)
        while_shared = memory.private_bytes(os.getpid())
    held = bytearray(64 << 20)
    held[::4096] = b"x" * (len(held) // 4096)

    assert while_shared - before < 32 << 20 < memory.private_bytes(os.getpid()) - before
    assert memory.private_bytes(2**22 + 1) == 0


def test_memory_of_a_process_counts_that_of_its_children():
    child = subprocess.Popen(
        [sys.executable, "-c", "x = b'x' * (50 << 20); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdout.readline()
    alone = memory.private_bytes(os.getpid())
    family = memory.family_bytes([os.getpid()])[os.getpid()]
    apart = memory.family_bytes([os.getpid(), child.pid])
    child.communicate(b"\n")

    assert family - alone > 50 << 20
    assert apart[child.pid] > 50 << 20 > apart[os.getpid()] - alone


def test_kills_for_want_of_memory_are_counted(tmp_path):
    assert memory.out_of_memory_kills(tmp_path) == 0
    assert memory.out_of_memory_kills(cgroup_2(tmp_path, GIB, GIB, kills=3)) == 3


@pytest.mark.parametrize(
    ("setting", "ids"),
    [("", []), ("0", [0]), ("2,0", [2, 0]), ("1, 3", [1, 3]), ("-1", []), ("0,-1,1", [0]), ("1,1", [1]), ("junk", [])],
)
def test_visible_devices_are_taken_in_their_order_up_to_the_first_invalid_one(setting, ids):
    assert gpu.visible_gpu_ids({"CUDA_VISIBLE_DEVICES": setting}) == ids


def test_names_are_looked_up_in_nvml(monkeypatch):
    nvml = types.SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: ("GPU-aaaa-1", "GPU-bbbb-2")[index],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(gpu.os.path, "exists", lambda path: True)
    assert gpu.visible_gpu_ids({"CUDA_VISIBLE_DEVICES": "GPU-bbbb,GPU-aaaa-1"}) == [1, 0]
    assert gpu.visible_gpu_ids({}) == [0, 1]


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setattr(gpu.os.path, "exists", lambda path: False)
    assert gpu.visible_gpu_ids({}) == []


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA H200", "H200"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("NVIDIA GeForce RTX 3090", "3090"),
        ("Some Device", ""),
    ],
)
def test_model_is_the_first_word_of_a_device_name_with_a_number_in_it(name, model):
    assert gpu.model_of(name) == model


def test_node_has_a_label_for_its_accelerator_unless_the_user_gave_one():
    shape = {"CPU": 10_000, "accelerator_type:H200": 10_000}
    assert offered_labels(shape, {"zone": "a"}) == {"ray.io/accelerator-type": "H200", "zone": "a"}
    assert offered_labels(shape, {"ray.io/accelerator-type": "mine"}) == {"ray.io/accelerator-type": "mine"}
    assert offered_labels({"CPU": 10_000}, {}) == {}
