"""The toolbar chip in a real JupyterLab, fed by the registry."""

from __future__ import annotations

import os

from playwright.sync_api import expect

from raybook.io.cluster_registry import ClusterRecord, Owner, remove_record, write_record
from raybook.io.process import start_time

# Two polls of the chip are 4 s; the rest is for machines that do other things too.
CHIP_TIMEOUT_MS = 40_000


def kernel_id_of(lab) -> str:
    status, kernels = lab.server.get("api/kernels", token=lab.server.token)
    assert status == 200
    assert len(kernels) == 1
    return kernels[0]["id"]


def write_cluster(directory, kernel_id: str) -> None:
    started = start_time(os.getpid())
    assert started is not None
    write_record(
        ClusterRecord(
            cluster_id="chip-test",
            name="<b>blue-heron</b>",
            address="127.0.0.1:1",
            node_socket="",
            session_dir="",
            token_file="",
            head_pid=os.getpid(),
            head_start_time=started,
            owner=Owner(os.getpid(), started, kernel_id),
            resources={"CPU": 2.0, "GPU": 1.0, "memory": 1e9},
        ),
        directory,
    )


def test_chip_follows_the_cluster_of_the_notebooks_kernel(open_lab, jupyterlab):
    lab = open_lab("moving_panel.ipynb")
    expect(lab.chip).to_have_text("raybook: no cluster", timeout=CHIP_TIMEOUT_MS)

    write_cluster(jupyterlab.registry, kernel_id_of(lab))
    expect(lab.chip).to_have_text("raybook: 2 CPU · 1 GPU", timeout=CHIP_TIMEOUT_MS)
    # A cluster's name is somebody's input: it is shown, not interpreted.
    assert "<b>blue-heron</b> at 127.0.0.1:1" in (lab.chip.get_attribute("title") or "")

    remove_record("chip-test", jupyterlab.registry)
    expect(lab.chip).to_have_text("raybook: cluster ended", timeout=CHIP_TIMEOUT_MS)


def test_chip_of_another_kernels_cluster_says_no_cluster(open_lab, jupyterlab):
    write_cluster(jupyterlab.registry, "another-kernel")

    lab = open_lab("moving_panel.ipynb")

    expect(lab.chip).to_have_text("raybook: no cluster", timeout=CHIP_TIMEOUT_MS)
