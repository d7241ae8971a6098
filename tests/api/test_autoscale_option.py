"""How people say how many nodes there may be, and what they ask for; and what is said of mistakes."""

from __future__ import annotations

import pytest

from raybook.api.autoscale_option import autoscale_bounds
from raybook.autoscaler import sdk
from raybook.protocol.messages.daemons import AutoscaleBounds


@pytest.mark.parametrize(
    ("value", "bounds"),
    [
        (None, None),
        ("0:3", AutoscaleBounds(0, 3)),
        ("2", AutoscaleBounds(0, 2)),
        (4, AutoscaleBounds(0, 4)),
        ({"max_nodes": 2, "node_cpus": 0.5}, AutoscaleBounds(0, 2, 0.5)),
    ],
)
def test_bounds_are_read(value, bounds):
    assert autoscale_bounds(value) == bounds


@pytest.mark.parametrize("value", ["3:1", "a:b", ":", "-1", 0, {"min_nodes": 1}, {"max_nodes": 1, "x": 1}, "0:0"])
def test_bounds_that_make_no_sense_are_refused(value):
    with pytest.raises(ValueError, match="autoscale"):
        autoscale_bounds(value)


@pytest.mark.parametrize("value", [1.5, True, [1, 2], {"max_nodes": "2"}])
def test_bounds_of_another_type_are_refused(value):
    with pytest.raises(TypeError, match="autoscale"):
        autoscale_bounds(value)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"num_cpus": 1.5}, TypeError, "num_cpus should be of type int"),
        ({"num_cpus": -1}, ValueError, "between 0"),
        ({"bundles": {"CPU": 1}}, TypeError, "list of dicts"),
        ({"bundles": [1]}, TypeError, "each bundle"),
        ({"bundles": [{"CPU": -1}]}, ValueError, "negative"),
        ({"bundles": [{"CPU": 1}], "bundle_label_selectors": []}, ValueError, "0 selectors for 1 bundles"),
        ({"bundle_label_selectors": [{"a": "b"}]}, ValueError, "goes with bundles"),
        ({"bundles": [{"CPU": 1}], "bundle_label_selectors": [{"a": "in("}]}, ValueError, "no condition"),
    ],
)
def test_requests_that_make_no_sense_are_refused_before_they_are_sent(arguments, error, words):
    with pytest.raises(error, match=words):
        sdk.request_resources(**arguments)
