"""The words of Ray's scaling configuration, and what is said of wrong ones."""

from __future__ import annotations

import pytest

from raybook.base.resources import shape_of
from raybook.core.autoscaler.configuration import local_configuration, read_configuration
from raybook.protocol.messages.daemons import AutoscaleBounds


def test_rays_words_become_settings():
    read = read_configuration(
        {
            "cluster_name": "mine",
            "max_workers": 7,
            "upscaling_speed": 2,
            "idle_timeout_minutes": 0.5,
            "provider": {"type": "external", "module": "racks.Racks", "region": "east"},
            "head_node_type": "head",
            "available_node_types": {
                "head": {"resources": {"CPU": 4}},
                "gpu": {
                    "resources": {"CPU": 8, "GPU": 1, "accelerator_type:A100": 1},
                    "labels": {"zone": "b"},
                    "min_workers": 1,
                    "max_workers": 3,
                    "idle_timeout_s": 90,
                    "node_config": {"image": "x"},
                },
            },
        }
    )
    (gpu,) = read.settings.types
    assert gpu.resources == shape_of({"CPU": 8, "GPU": 1, "accelerator_type:A100": 1})
    assert gpu.labels == {"zone": "b", "ray.io/accelerator-type": "A100"}
    assert (gpu.min_nodes, gpu.max_nodes, gpu.idle_timeout_ms) == (1, 3, 90_000)
    assert (read.settings.max_nodes, read.settings.upscaling_speed, read.settings.idle_timeout_ms) == (7, 2, 30_000)
    assert read.provider["region"] == "east"
    assert read.node_types["gpu"] == {"image": "x"}


def test_a_notebooks_bounds_become_one_type():
    read = read_configuration(local_configuration(AutoscaleBounds(1, 3, idle_timeout_s=30), 2))
    (kind,) = read.settings.types
    assert (kind.name, kind.min_nodes, kind.max_nodes, read.settings.max_nodes) == ("node", 1, 3, 3)
    assert read.settings.idle_timeout_ms == 30_000


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"max_worker": 1}, "no 'max_worker'"),
        ({"available_node_types": {"a": {"resource": {}}}}, "no 'resource' in node type 'a'"),
        ({"available_node_types": {"a": {"resources": {"CPU": -1}}}}, "cannot be negative"),
        ({"available_node_types": {"a": {"max_workers": -1}}}, "whole number"),
        ({"available_node_types": {"a": {"min_workers": 3, "max_workers": 1}}}, "min_workers 3"),
        ({"max_workers": 1, "available_node_types": {"a": {"min_workers": 2, "max_workers": 2}}}, "add up to 2"),
        ({"provider": {"type": "aws"}}, "'aws'"),
        ({"provider": {"type": "external"}}, "module"),
        ({"idle_timeout_minutes": "soon"}, "idle_timeout_minutes"),
        ({"upscaling_speed": -1}, "upscaling_speed"),
    ],
)
def test_wrong_configuration_names_its_key(config, words):
    with pytest.raises((ValueError, TypeError), match=words):
        read_configuration(config)
