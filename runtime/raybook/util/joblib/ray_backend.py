"""Ray backend: what joblib asks of a backend, answered by a ``Pool``.

joblib decides how calls are batched and in which order results are taken; the pool runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib.parallel import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from raybook.api import cluster_resources, init, is_initialized
from raybook.util.multiprocessing import Pool
from raybook.util.multiprocessing.results import AsyncResult


class RayBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib has no types
    """One ``Parallel`` at a time. ray_remote_args: options of the pool's actors, given to ``parallel_backend``."""

    supports_retrieve_callback = True
    supports_return_generator = True
    supports_timeout = True

    def __init__(
        self, nesting_level: int | None = None, ray_remote_args: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, **kwargs)
        self._ray_remote_args = ray_remote_args
        self._pool: Pool | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """-1: all CPUs of the cluster, which is started if need be; -2: all but one."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if not is_initialized():
            init()
        cpus = max(1, int(cluster_resources().get("CPU", 1)))
        return min(cpus, n_jobs) if n_jobs > 0 else max(1, cpus + 1 + n_jobs)

    def configure(
        self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None, **_: Any
    ) -> int:
        """Start the processes."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._pool = Pool(processes=n_jobs, ray_remote_args=self._ray_remote_args)
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> AsyncResult:
        """Run one batch; ``callback`` gets its value or its exception."""
        assert self._pool is not None, "joblib configures a backend before it submits to it"
        return self._pool.apply_async(func, callback=callback, error_callback=callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """What the callback got, as a value or raised."""
        if isinstance(out, BaseException):
            raise out
        return out

    def terminate(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call raised: drop the rest, and start anew when the backend is to be used again."""
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)
