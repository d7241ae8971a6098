"""The layers of raybook as a table: who may import whom, and what a layer may not contain.

This is ARCHITECTURE §8 in a form a test can read; `docs/decisions/0003-layers-in-a-table.md` says how the rows it
does not spell out were filled in. Changing a row is a design decision: write one.
"""

from __future__ import annotations

from dataclasses import dataclass

CLOCKS_AND_CHANCE = frozenset({"time", "datetime", "random", "secrets", "uuid"})
SOCKETS = frozenset({"socket", "socketserver", "selectors", "select", "ssl"})
THREADS = frozenset({"threading", "_thread", "concurrent", "multiprocessing", "queue", "sched"})
EVENT_LOOPS = frozenset({"asyncio", "uvloop", "trio", "anyio"})
WORLD = frozenset({"os", "subprocess", "signal", "logging", "shutil", "tempfile", "pathlib", "io", "ctypes", "mmap"})
# A brain without hands: no clock, no chance, no world (ARCHITECTURE §7).
PURE = CLOCKS_AND_CHANCE | SOCKETS | THREADS | EVENT_LOOPS | WORLD


MSGSPEC = frozenset({"msgspec"})
LIBRARIES = ("ml", "data", "train", "tune", "serve", "rllib")


@dataclass(frozen=True)
class Layer:
    """One row. `prefixes` are the modules that belong to it; a module belongs to the layer of its longest prefix."""

    name: str
    prefixes: tuple[str, ...]
    may_import: frozenset[str]
    """Names of layers. A layer may always import itself."""
    forbidden: frozenset[str] = frozenset()
    """Top-level modules that may not appear at all."""
    third_party: frozenset[str] | None = None
    """Libraries allowed beside the standard library; None: any."""


def _row(name: str, may_import: str, *prefixes: str, **rules: frozenset[str]) -> Layer:
    return Layer(name, prefixes or (f"raybook.{name}",), frozenset(may_import.split()), **rules)


_FOUR = "base protocol messages core io"
_PUBLIC = "root exceptions api"

LAYERS: tuple[Layer, ...] = (
    _row("base", "", forbidden=SOCKETS | THREADS | EVENT_LOOPS | {"time", "datetime"}, third_party=MSGSPEC),
    _row("messages", "base", "raybook.protocol.messages", forbidden=PURE, third_party=MSGSPEC),
    _row("protocol", "base messages", forbidden=SOCKETS | EVENT_LOOPS),
    _row("core", "base messages", forbidden=PURE, third_party=MSGSPEC),
    _row("io", "base protocol messages"),
    _row("runtime_env", "base protocol messages io"),
    _row("gcs", _FOUR),
    _row("raylet", f"{_FOUR} runtime_env"),
    _row("worker", f"{_FOUR} runtime_env"),
    _row("session", _FOUR),
    _row("autoscaler", _FOUR),
    # What programs ask of it goes through the API, like any other question (0041).
    _row("autoscaler_sdk", f"{_PUBLIC} base messages", "raybook.autoscaler.sdk"),
    _row("head", f"{_FOUR} gcs raylet autoscaler"),
    _row("engines", f"{_FOUR} worker session runtime_env"),
    # Composition root of a worker, as `head` is of the head: the one place where executor, engine and API meet.
    _row("worker_process", f"{_FOUR} worker engines api as_ray"),
    # The same of a session process, which runs nobody's code: owner and link, and no API.
    _row("session_process", f"{_FOUR} worker session engines"),
    # `exceptions` is the public list of errors; `base.errors` is where they are written.
    _row("exceptions", "base"),
    _row("api", "base protocol messages io engines exceptions"),
    _row("observe", "base protocol messages io engines exceptions"),
    # raybook/__init__ and as_ray: the public verbs, and lazily the libraries (LAZY_EDGES).
    _row("root", "base api observe exceptions as_ray", "raybook"),
    # Modules that code written for Ray imports by name (`ray.actor`, ...): they only hand on what `api` has.
    _row("ray_names", "api exceptions base", "raybook.actor", "raybook.remote_function", "raybook.runtime_context",
         "raybook.job_config", "raybook.types", "raybook.client_builder", "raybook.cloudpickle",
         "raybook.cross_language", "raybook._raylet"),
    # Tools for tests and a few names of Ray's inside that users reach for: above the libraries, like a user's code.
    _row("ray_internals", f"{_PUBLIC} base util", "raybook._private", "raybook._common"),
    _row("as_ray", "root api exceptions base"),
    # Clusters over ssh: above the API like a user's script, and it finds and ends clusters as the CLI does.
    _row("ssh_hosts", f"{_PUBLIC} base protocol messages io runtime_env"),
    _row("cli", f"{_FOUR} root api observe exceptions gcs raylet head jobs serve ssh_hosts k8s library_core", "raybook.cli",
         "raybook.commands"),
    _row("cluster_utils", f"{_FOUR} root api observe exceptions gcs raylet head engines"),
    # The libraries: the public API, and what stands to their left.
    # Search draws from a seeded generator that it is given, so `random` is theirs; the clock is not.
    _row("library_core", "base", *(f"raybook.{name}.core" for name in (*LIBRARIES, "k8s")), forbidden=PURE - {"random"}),
    _row("util", f"{_PUBLIC} base ml"),
    _row("ml", f"{_PUBLIC} base library_core"),
    _row("data", f"{_PUBLIC} base library_core ml util"),
    _row("train", f"{_PUBLIC} base library_core ml util data"),
    _row("tune", f"{_PUBLIC} base library_core ml util data train"),
    _row("serve", f"{_PUBLIC} base library_core ml util data train"),
    _row("rllib", f"{_PUBLIC} base library_core ml util data train tune"),
    # Ray's older names for what Train and Tune have.
    _row("air", f"{_PUBLIC} ml train tune"),
    # A job is processes, and its server a daemon: `io` has both, and the registry that clients find clusters by (0025).
    # Its pages of Serve are the operator's, who asks for them at the same door (0091).
    _row("jobs", f"{_PUBLIC} base observe io messages", "raybook.jobs", "raybook.job_submission"),
    # Manifests and the API server that takes them: it starts clusters elsewhere, and knows nothing of one that runs (0090).
    _row("k8s", "base library_core", "raybook.k8s"),
    # A compiled graph's processes share memory and write values into it, which is `io` and `protocol`; nobody else's
    # messages go through there, so there is nothing of it below the public API (0025).
    _row("dag", f"{_PUBLIC} base protocol io", "raybook.dag", "raybook.experimental"),
    # Older or lesser names of Ray's beside the graphs: written above the public API, like `util`.
    _row("experimental", f"{_PUBLIC} base util", *(f"raybook.experimental.{name}" for name in (
         "dynamic_resources", "internal_kv", "locations", "multiprocessing", "queue", "state", "tqdm_ray"))),
    # Proving grounds: they may see the runtime, and nothing of the runtime may see them.
    _row("sim", f"{_FOUR} testing"),
    _row("testing", f"{_FOUR} {_PUBLIC} runtime_env gcs raylet worker session head engines observe cluster_utils sim "
         f"library_core {' '.join(LIBRARIES)} util jobs autoscaler"),
    _row("raybook_widgets", f"{_PUBLIC} observe", "raybook_widgets"),
    # Its magic starts nodes on machines that ssh reaches.
    _row("raybook_kernel", f"{_PUBLIC} observe raybook_widgets ssh_hosts k8s", "raybook_kernel"),
    # It runs in the Jupyter server's environment, which need not be the kernel's: no runtime, no widgets.
    _row("server_extension", "observe", "raybook_kernel.server",
         third_party=frozenset({"msgspec", "jupyter_server", "jupyter_core", "tornado", "traitlets"})),
)  # fmt: skip

# (importer, target prefix): edges that exist only inside functions, each for a reason of start-up time.
LAZY_EDGES: tuple[tuple[str, str], ...] = (
    # `import raybook` must stay quick; the libraries and the kernel part come when they are asked for.
    ("raybook", "raybook_kernel"),
    ("raybook", "raybook."),
    ("raybook.as_ray", "raybook."),
    # anywidget is optional, and with it the file that subclasses it.
    ("raybook_widgets.surface", "raybook_widgets.view_widget"),
    # The package's other half, `server`, runs where neither IPython nor ipywidgets need be.
    ("raybook_kernel", "raybook_kernel.extension"),
    # Engines are named in one place, and a script that only defines functions loads none.
    ("raybook.api.engine_factory", "raybook.engines."),
    ("raybook.api.engine_factory", "raybook.api.local_cluster"),
    # ssl costs 10 ms, and few drivers are on other machines.
    ("raybook.api.engine_factory", "raybook.io.tls"),
    # Graphs are written down with `.bind`; programs that write none load none of it.
    ("raybook.api.binding", "raybook.dag."),
    # zipfile and its kin cost 5 ms, and few environments have folders.
    ("raybook.api.environment_options", "raybook.api.archives"),
    # grpc costs 100 ms, and only `raybook status` speaks it.
    ("raybook.commands.ask", "raybook.io.rpc"),
    ("raybook.commands.ray_command", "raybook.io.rpc"),
    # The same of a Jupyter server, which may never look at a cluster.
    ("raybook.observe.remote", "raybook.io.rpc"),
    # cryptography is optional, and only who makes certificates needs it.
    ("raybook.commands.tls", "raybook.io.certificates"),
    # pydantic and starlette, half a second, in a server that few ask about Serve.
    ("raybook.jobs.serve_pages", "raybook.serve"),
    # msgspec's records of manifests are many, and only `raybook k8s` makes them.
    ("raybook.commands.k8s", "raybook.k8s."),
    # Its rows import numpy, which no other command needs.
    ("raybook.commands.microbenchmark", "raybook.commands.microbench"),
    # The zygote is started before the head's own imports, so that both import at the same time.
    ("raybook.head.main", "raybook.head.embedded"),
    ("raybook.raylet.main", "raybook.raylet.node_process"),
    # A run's controller knows the configuration of torch and never needs torch, which takes seconds to import.
    ("raybook.train.torch.config", "raybook.train.torch.train_loop_utils"),
    # A run without datasets needs none of Data, which imports pyarrow.
    ("raybook.train.data_config", "raybook.data"),
    ("raybook.train.framework_checkpoint", "raybook.data.preprocessor"),
    # `pin` subclasses numpy's array, and numpy is a tenth of a second that a driver without arrays need not wait for.
    ("raybook.io.shm_arena", "raybook.io.pin"),
    # Replicas that are called by handles only need no starlette, and controllers no uvicorn: 0.1 to 0.3 s each.
    ("raybook.serve.replica", "raybook.serve.http_replica"),
    ("raybook.serve.proxy", "raybook.serve.http_listener"),
    ("raybook.serve.proxy", "raybook.serve.grpc_ingress"),
    ("raybook.serve.replica", "raybook.serve.direct_ingress"),
    # pydantic is 0.1 s, and few deployments have an autoscaling policy of their own.
    ("raybook.serve.scaler", "raybook.serve.autoscaling_policy"),
)

# Imported inside functions because importing them takes long, or because they are optional.
HEAVY_LIBRARIES = frozenset(
    """
    IPython PIL aim anywidget bayes_opt comet_ml comm dask datasets decord deltalake fastapi fastavro fsspec google
    graphviz grpc grpc_tools gymnasium hyperopt ipykernel ipywidgets jax jupyter_server kubernetes lance lightgbm
    lightning matplotlib mlflow numpy optuna pandas polars prometheus_client psutil pyarrow pyiceberg pymongoarrow
    pynvml ray redis rich scipy sklearn soundfile starlette tensorboardX tensorflow torch torchvision tqdm
    transformers urllib3 uv uvicorn uvloop wandb xgboost yaml
    """.split()
)

LINES_NOTICED = 400
LINES_MAX = 500


def layer_of(module: str) -> Layer | None:
    """The layer a module belongs to; None when no row names it. `raybook` alone is `root`: its prefix is no parent."""
    best: tuple[int, Layer] | None = None
    for layer in LAYERS:
        for prefix in layer.prefixes:
            belongs = module == prefix or (prefix != "raybook" and module.startswith(f"{prefix}."))
            if belongs and (best is None or len(prefix) > best[0]):
                best = (len(prefix), layer)
    return best[1] if best else None
