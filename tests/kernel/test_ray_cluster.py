"""``%ray_cluster`` in a real kernel: it starts, tells, refuses and ends; a mistake never costs the cluster."""

from __future__ import annotations

import pytest


def test_start_shows_a_live_panel_and_status_marks_this_kernels_cluster(kernel):
    outcome = kernel.run("%ray_cluster start --cpus 4 --memory 2GiB --name fox")
    assert outcome.error == ""
    (bundle,) = outcome.bundles
    assert bundle["text/plain"] == "RayPanel(cluster)"
    assert 'data-panel="cluster"' in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert kernel.value("cluster.started_with") == {"num_cpus": 4, "memory": 2 << 30, "name": "fox"}
    status = kernel.run("%ray_cluster status").text
    assert [line.split()[:2] for line in status.splitlines() if "fox" in line][0] == ["*", "fox"]


def test_stop_ends_the_cluster_and_leaves_readable_html(kernel):
    kernel.run("%ray_cluster start --name fox")
    kernel.run("cluster.source.publish(counted(12, running=0))")
    outcome = kernel.run("%ray_cluster stop")
    assert "Stopped fox." in outcome.text
    (final,) = [message["content"]["data"] for message in outcome.of("update_display_data")]
    assert "12 / 12" in final["text/html"]
    assert "12/12" in final["text/plain"]
    assert "No cluster is running" in kernel.run("%ray_cluster status").text
    assert kernel.value("session.is_connected") is False


def test_start_when_started_says_so_and_starts_nothing(kernel):
    kernel.run("%ray_cluster start --name fox")
    outcome = kernel.run("%ray_cluster start --name bear")
    assert outcome.status == "ok"
    assert "already connected to fox; nothing was started" in outcome.text
    assert kernel.value("cluster.started_with['name']") == "fox"


def test_autoscale_hands_on_bounds_and_what_nodes_are_like(kernel):
    kernel.run("%ray_cluster start --name fox --autoscale 1:3 --node-cpus 2 --idle 30")
    bounds = {"min_nodes": 1, "max_nodes": 3, "node_cpus": 2, "idle_timeout_s": 30}
    assert kernel.value("cluster.started_with['autoscale']") == bounds


def test_a_real_ray_is_started_with_what_ray_knows(kernel):
    assert kernel.run("%ray_cluster start --engine ray --cpus 2").error == ""
    assert kernel.value("cluster.started_with") == {"engine": "ray", "num_cpus": 2}


def test_a_real_ray_elsewhere_is_connected_to_by_its_address(kernel):
    assert kernel.run("%ray_cluster connect ray://there:10001 --engine ray").error == ""
    assert kernel.value("cluster.started_with") == {"engine": "ray", "address": "ray://there:10001"}
    assert "Stopped Ray at ray://there:10001." in kernel.run("%ray_cluster stop").text


def test_several_nodes_are_asked_for_scaled_and_listed(kernel):
    assert kernel.run("%ray_cluster start --nodes 3 --cpus 2 --ssh ada@box --ssh-python /p --name fox").error == ""
    assert kernel.value("(cluster.started_with['nodes'], cluster.started_with['num_cpus'])") == (3, 2)
    assert kernel.value("[host.label for host in cluster.started_with['hosts'].workers]") == ["ada@box"]
    assert kernel.value("cluster.started_with['hosts'].environment.interpreter") == "/p"
    assert "fox has 5 nodes." in kernel.run("%ray_cluster scale 5").text
    lines = kernel.run("%ray_cluster nodes").text.splitlines()
    assert lines[0].split() == ["NODE", "ADDRESS", "FREE", "STATE"]
    assert lines[1].split() == ["head", "abababababab", "127.0.0.1", "8/8", "CPU", "alive"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%ray_cluster start --autoscale 3:1", "UsageError: --autoscale: 3:1 is no range"),
        ("%ray_cluster start --autoscale few", "UsageError: --autoscale: MIN:MAX nodes, such as 0:3"),
        (
            "%ray_cluster start --autoscale 3 --nodes 2",
            "UsageError: --autoscale brings nodes of this machine by itself",
        ),
        ("%ray_cluster start --idle 3", "UsageError: --node-cpus and --idle are about the nodes of --autoscale"),
        ("%ray_cluster start --engine dask", "UsageError: --engine: 'dask' is none of native, ray."),
        ("%ray_cluster start --engine ray --persist", "UsageError: --persist: not to be had with --engine ray"),
        ("%ray_cluster connect auto kept --engine ray", "UsageError: kept: not to be had with --engine ray"),
        ("%ray_cluster strat", "UsageError: There is no command 'strat'. Did you mean 'start'?"),
        ("%ray_cluster start --cpu 2", "UsageError: `start` has no option --cpu. Did you mean '--cpus'?"),
        ("%ray_cluster start --nodes 0", "UsageError: --nodes: a number of nodes such as 2 is needed, got '0'."),
        ("%ray_cluster start --nodes two", "UsageError: --nodes: a number of nodes such as 2 is needed, got 'two'."),
        ("%ray_cluster start --ssh -oX", "UsageError: --ssh: workers[0]: a machine is user@host"),
        ("%ray_cluster start --ssh box,box", "UsageError: --ssh: box stands there twice"),
        ("%ray_cluster start --ssh none.yaml", "UsageError: --ssh: [Errno 2] No such file or directory: 'none.yaml'"),
        ("%ray_cluster start --ssh-python /p", "UsageError: --ssh-python: of which machines?"),
        ("%ray_cluster start --ssh box --persist", "UsageError: --persist and --ssh: machines of --ssh live with"),
        ("%ray_cluster scale", "UsageError: `scale` needs N: `%ray_cluster scale N`."),
        ("%ray_cluster scale 3", "UsageError: This kernel is not connected to a cluster"),
        ("%ray_cluster scale some", "UsageError: `scale`: a number of nodes such as 2 is needed, got 'some'."),
        ("%ray_cluster nodes", "UsageError: This kernel is not connected to a cluster"),
        ("%ray_cluster connect nobody", "UsageError: There is no cluster 'nobody'."),
        ("%ray_cluster connect 127.0.0.1:1", "UsageError: Nobody answers at 127.0.0.1:1."),
        ("%ray_cluster stop", "UsageError: This kernel is not connected to a cluster."),
        ("%ray_cluster stop nobody", "UsageError: There is no cluster 'nobody'."),
    ],
)
def test_wrong_use_is_one_line(kernel, line, expected):
    outcome = kernel.run(line)
    assert outcome.error.startswith(expected)
    assert outcome.error.count("\n") <= 1


def test_cluster_lives_on_after_a_bad_magic(kernel):
    kernel.run("%ray_cluster start --name fox")
    assert kernel.run("%ray_cluster start --gpus minus").error.startswith("UsageError")
    assert kernel.run("%ray_cluster connect fox").error.startswith(
        "UsageError: This kernel is already connected to fox."
    )
    assert kernel.value("session.is_connected") is True


def test_help_lists_every_command_and_every_option(kernel):
    page = kernel.run("%ray_cluster help").text
    assert all(word in page for word in ("start", "connect", "status", "stop", "scale"))
    page = kernel.run("%ray_cluster start --help").text
    assert all(
        flag in page for flag in ("--cpus", "--gpus", "--memory", "--object-store-memory", "--name", "--persist")
    )
    assert kernel.value("session.is_connected") is False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%ray_cluster st", ["start", "status", "stop"]),
        ("%ray_cluster start --o", ["--object-store-memory"]),
        ("ray_cluster start --per", ["--persist"]),
    ],
)
def test_tab_offers_the_magics_words_and_nothing_else(kernel, line, expected):
    assert sorted(kernel.complete(line)) == expected


def test_tab_offers_the_names_of_running_clusters(kernel):
    kernel.run("%ray_cluster start --name fox")
    assert kernel.complete("%ray_cluster connect f") == ["fox"]


def test_reset_and_a_second_load_change_nothing(own_kernel):
    from tests.kernel.conftest import SCRIPTED

    own_kernel.run(SCRIPTED)
    own_kernel.run("%ray_cluster start --name fox")
    own_kernel.run("%reset -f")
    assert "fox" in own_kernel.run("%ray_cluster status").text
    own_kernel.run("from IPython import get_ipython; import raybook_kernel")
    own_kernel.run("raybook_kernel.load_ipython_extension(get_ipython())")
    own_kernel.run("raybook_kernel.load_ipython_extension(get_ipython())")
    hooks = "[len(get_ipython().events.callbacks[name]) for name in ('pre_run_cell', 'post_run_cell')]"
    matchers = "sorted(getattr(m, 'matcher_identifier', '') for m in get_ipython().Completer.custom_matchers)"
    threads = "__import__('collections').Counter(t.name for t in __import__('threading').enumerate())['raybook-ui']"
    before = own_kernel.value(f"({hooks}, {matchers}, {threads})")
    own_kernel.run("raybook_kernel.load_ipython_extension(get_ipython())")
    assert own_kernel.value(f"({hooks}, {matchers}, {threads})") == before
    assert before[1].count("raybook.ray_cluster") == before[2] == 1
    assert len(set(before[1])) == len(before[1])


def test_extension_registers_itself_only_inside_a_kernel(own_kernel):
    own_kernel.run("import raybook_kernel; raybook_kernel.register_if_in_kernel()")
    assert "Clusters of this notebook" in own_kernel.run("%ray_cluster help").text
    code = "import sys; sys.path[:0] = %r; import raybook_kernel; raybook_kernel.register_if_in_kernel(); "
    code += "print('IPython' in sys.modules)"
    from tests.kernel.kernel_process import SOURCE_ROOTS

    script = repr(code % (SOURCE_ROOTS,))
    run = f"__import__('subprocess').check_output([__import__('sys').executable, '-c', {script}], text=True)"
    assert own_kernel.value(run) == "False\n"


@pytest.mark.slow
def test_as_ray_makes_import_ray_mean_raybook_here_and_in_workers_which_have_what_is_preloaded(own_kernel):
    assert own_kernel.run("import raybook").error == ""
    started = own_kernel.run("%ray_cluster start --cpus 1 --as-ray --preload sched")
    assert started.error == "" and "`import ray` means raybook from now on" in started.text
    cell = """
import ray
from ray.util.queue import Queue

@ray.remote
def where():
    import sys
    preloaded = "sched" in sys.modules
    import ray.util.queue
    return ray.__name__, ray.util.queue.__name__, preloaded

found = ray.get(where.remote())
"""
    assert own_kernel.run(cell).error == ""
    assert tuple(own_kernel.value("found")) == ("raybook", "raybook.util.queue", True)
    own_kernel.run("%ray_cluster stop")
