"""The public surface beside Ray's: every name, member and parameter of Ray 2.60 is here, or named below with why not.

`surface.json` is what `survey_surface.py` found in Ray; names only.
"""

from __future__ import annotations

import fnmatch
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.survey_surface import MODULES, lacking_parameters

SURFACE: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "surface.json").read_text())

NOT_HERE = {
    # Ray's own insides, which show in its classes.
    "*.redis_shard_hash": "redis",
    "exceptions/*.from_bytes": "Ray's wire format of errors",
    "exceptions/*.to_bytes": "Ray's wire format of errors",
    "exceptions/*.from_ray_exception": "Ray's wire format of errors",
    "exceptions/*.BASE_ERROR_MSG": "part of a message",
    "exceptions/ObjectReconstructionFailedError.REASON_MESSAGES": "parts of messages",
    "exceptions/RayTaskError.make_dual_exception_instance": "as_instanceof_cause does it",
    "exceptions/ActorDiedError.from_task_error": "made by workers",
    "exceptions/PYTHON": "a number of Ray's languages",
    "./ActorID.of": "ids are not computed from others",
    "./ActorID.job_id": "an actor's id holds its creator's, not its job's",
    "./PlacementGroupID.of": "ids are not computed from others",
    "./TaskID.*": "ids are not computed from others",
    "./ObjectRef.tensor_transport": "for transfers between devices",
    "./ObjectID.tensor_transport": "as ObjectRef",
    "./ObjectRefGenerator.a*": "no code sends into a generator of refs",
    "./Language.value": "Ray's numbers of languages",
    "./ObjectRefGenerator.throw": "takes what Python's generators take",
    "./_config": "settings of Ray's daemons",
    "./internal": "free(), for Ray's own libraries",
    "./widgets": "templates of Ray's notebook output",
    "*/STREAMING_GENERATOR_RETURN": "a number on Ray's wire",
    "runtime_env/RuntimeEnv.*_uri": "Ray's cache of environments",
    "runtime_env/RuntimeEnv.plugin_uris": "Ray's plug-ins",
    "runtime_env/RuntimeEnv.*container*": "containers are refused",
    "runtime_env/RuntimeEnv.image_uri": "containers are refused",
    "runtime_env/RuntimeEnv.java_jars": "Java is refused",
    "runtime_env/RuntimeEnv.nsight": "profilers are refused",
    "runtime_env/RuntimeEnv.rocprof_sys": "profilers are refused",
    "runtime_env/RuntimeEnv.virtualenv_name": "pip is never a name",
    "runtime_env/RuntimeEnvConfig.*proto*": "Ray's wire format",
    "job_config/JobConfig.ensure_logging_config": "called by Ray's init",
    # How Ray copies its graphs and overlaps their steps.
    "dag/*.apply_*": "Ray's way to copy graphs",
    "dag/*.type_hint": "transports are chosen by name",
    "dag/*.get_result_type": "Serve's older graphs",
    "dag/InputNode.set_context": "Serve's older graphs",
    "dag/CollectiveOutputNode.collective_op": "Ray's insides",
    "dag/DAG*": "Ray's insides",
    "dag/GPUFuture": "Ray's insides",
    "dag/plot": "visualize() draws",
    # Deprecated in Ray, or for machines raybook does not run on.
    "util/iter": "deprecated in Ray",
    "util/ray_debugpy": "Visual Studio Code's debugger of clusters",
    "util/get_node_instance_id": "clouds' names of machines",
    "util.accelerators/tpu": "slices of TPUs",
    "util.annotations/AnnotationType": "Ray's check of its documentation",
    # How Ray's libraries are made inside.
    "util.multiprocessing.pool/*": "how Ray's pool is made",
    "util.placement_group/check_placement_group_index": "checked by the options",
    "util.placement_group/validate_placement_group": "checked by placement_group",
    "util.placement_group/PLACEMENT_GROUP_BUNDLE_RESOURCE_NAME": "bundles are no resources here",
    "util.serialization/StandaloneSerializationContext": "Ray's store",
    "util.debug/Suspect": "of Ray's own hunt for leaks",
    "util.state.common/*": "how Ray's state API is made",
    "util.state/StateApiClient.get_address": "Ray's dashboard",
    "util.state/StateApiClient.get_version": "Ray's dashboard",
    "util.collective.types/RecvOptions.unset_timeout_ms": "a slip of the pen for timeout_ms",
}
"""Patterns over `module/name.member`: what raybook does not have, and must then really lack."""

ELSEWHERE = {
    "*.bind": "dag",
    "./autoscaler": "autoscaler",
    "./data": "data",
    "cluster_utils/AutoscalingCluster": "autoscaler",
    "cluster_utils/FAKE_HEAD_NODE_ID": "autoscaler",
}
"""The same for what is being built."""

MADE_BY_RAYBOOK = frozenset(
    """
    ActorClass ActorHandle ActorMethod AsyncResult ClassMethodNode ClassNode CollectiveOutputNode FailureTuple FunctionNode
    IMapIterator InputAttributeNode MultiOutputNode ObjectRefGenerator PlacementGroup RemoteFunction RuntimeContext
    """.split()
)
"""Classes whose instances users get and do not make; errors are as well. Records of the state API have fewer fields."""


def _has(owner: Any, name: str) -> bool:
    try:
        getattr(owner, name)
    except (AttributeError, ImportError):
        return False
    return True


def _missing() -> dict[str, str]:
    """`module/name` or `module/name.member` → what is lacking."""
    found = {}
    for place, names in SURFACE.items():
        try:
            module = importlib.import_module("raybook" if place == "." else f"raybook.{place}")
        except ImportError:
            found |= {f"{place}/{name}": "no such module" for name in names}
            continue
        for name, about in names.items():
            if not _has(module, name):
                found[f"{place}/{name}"] = "no such name"
                continue
            ours = getattr(module, name)
            is_made = name in MADE_BY_RAYBOOK or place in ("exceptions", "util.state.common")
            if about.get("parameters") and not is_made:
                lacking = lacking_parameters(ours, about["parameters"])
                if lacking:
                    found[f"{place}/{name}"] = f"lacks the parameters {lacking}"
            for member, parameters in about.get("members", {}).items():
                full = f"{place}/{name}.{member}"
                if not _has(ours, member) and member not in getattr(ours, "__dataclass_fields__", {}):
                    found[full] = "no such member"
                elif parameters and callable(getattr(ours, member, None)):
                    lacking = lacking_parameters(getattr(ours, member), parameters)
                    if lacking:
                        found[full] = f"lacks the parameters {lacking}"
    return found


@pytest.fixture(scope="module")
def missing() -> dict[str, str]:
    pytest.importorskip("dask", reason="one of the modules needs dask")
    return _missing()


def test_every_public_name_and_parameter_of_ray_is_here_or_named_as_missing(missing):
    patterns = [*NOT_HERE, *ELSEWHERE]
    unexplained = {
        name: why for name, why in missing.items() if not any(fnmatch.fnmatchcase(name, each) for each in patterns)
    }
    assert unexplained == {}


def test_what_is_named_as_missing_is_missing(missing):
    present = [each for each in NOT_HERE if not any(fnmatch.fnmatchcase(name, each) for name in missing)]
    assert present == []


def test_the_survey_covers_its_modules_and_a_lost_name_would_be_noticed(missing, monkeypatch):
    assert list(SURFACE) == MODULES
    import raybook.util.actor_pool

    monkeypatch.delattr(raybook.util.actor_pool.ActorPool, "push")
    assert _missing()["util.actor_pool/ActorPool.push"] == "no such member"
