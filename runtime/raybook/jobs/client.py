"""JobSubmissionClient: submits jobs to a cluster and asks after them. Each call is one request; nothing is kept open."""

from __future__ import annotations

import asyncio
import codecs
import copy
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from raybook.io import archives
from raybook.jobs.http_client import Answer, JobsHttp, raise_error
from raybook.jobs.records import JobDetails, JobInfo, JobStatus
from raybook.jobs.request import parse_request

DEFAULT_EXCLUDES = (".git", ".venv", "venv", "__pycache__")
"""What nobody wants elsewhere."""


class JobSubmissionClient:
    """``JobSubmissionClient("http://127.0.0.1:8265")``, or the name, id or address of a cluster of this machine; without an
    address, the one that RAY_API_SERVER_ADDRESS or RAY_ADDRESS names, else the newest here.

    create_cluster_if_needed: accepted; clusters are started by ``init`` and ``raybook start``. cookies, headers: sent with
    each request. metadata: put on each job. verify: as for https: True, False, or a file or folder of certificates.
    ConnectionError when nobody answers.
    """

    def __init__(
        self,
        address: str | None = None,
        create_cluster_if_needed: bool = False,
        cookies: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        verify: str | bool | None = True,
    ) -> None:
        all_headers = dict(headers or {})
        if cookies:
            all_headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._default_metadata = dict(metadata or {})
        self._http = JobsHttp(address, all_headers, verify)
        self.get_version()

    def get_address(self) -> str:
        """Where the server is."""
        return self._http.address

    def get_version(self) -> str:
        """Of the REST API."""
        return str(self._ask("GET", "/api/version").json()["version"])

    def submit_job(
        self,
        *,
        entrypoint: str,
        job_id: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        submission_id: str | None = None,
        entrypoint_num_cpus: float | None = None,
        entrypoint_num_gpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: Mapping[str, float] | None = None,
        entrypoint_label_selector: Mapping[str, str] | None = None,
    ) -> str:
        """Have a shell command run on the cluster; its submission id.

        runtime_env: of the command and, unless they say otherwise, of what it starts on the cluster; a local working_dir
        (and local py_modules) are sent along. entrypoint_*: resources that the command itself holds; it waits until they
        are there. TypeError or ValueError for wrong arguments, RuntimeError for an id that is taken.
        """
        environment = copy.deepcopy(dict(runtime_env or {}))
        hook = environment.get("worker_process_setup_hook")
        if hook is not None and not isinstance(hook, str):
            raise ValueError(
                f"Invalid type {type(hook)} for `worker_process_setup_hook`: with the Jobs API it is 'module.function'. "
                "Give a function to init() in the driver."
            )
        body = {
            "entrypoint": entrypoint,
            "submission_id": submission_id or job_id,
            "runtime_env": environment,
            "metadata": {**(metadata or {}), **self._default_metadata},
            "entrypoint_num_cpus": entrypoint_num_cpus,
            "entrypoint_num_gpus": entrypoint_num_gpus,
            "entrypoint_memory": entrypoint_memory,
            "entrypoint_resources": dict(entrypoint_resources) if entrypoint_resources else None,
            "entrypoint_label_selector": dict(entrypoint_label_selector) if entrypoint_label_selector else None,
        }
        # The server's checks, before anything is sent.
        parse_request({name: value for name, value in body.items() if value is not None})
        self._send_folders(environment)
        answer = self._ask("POST", "/api/jobs/", {name: value for name, value in body.items() if value is not None})
        return str(answer.json()["submission_id"])

    def stop_job(self, job_id: str) -> bool:
        """Have a job ended: SIGTERM, then SIGKILL. Whether it had not ended before. RuntimeError when there is none."""
        return bool(self._ask("POST", f"/api/jobs/{job_id}/stop").json()["stopped"])

    def delete_job(self, job_id: str) -> bool:
        """Have a job that has ended forgotten; its log stays. RuntimeError when there is none, or it has not ended."""
        return bool(self._ask("DELETE", f"/api/jobs/{job_id}").json()["deleted"])

    def get_job_info(self, job_id: str) -> JobDetails:
        """What is known of a job, by its submission id or its driver's job id. RuntimeError when there is none."""
        return JobDetails.from_json(self._ask("GET", f"/api/jobs/{job_id}").json())

    def list_jobs(self) -> list[JobDetails]:
        """All jobs, submitted ones and drivers'."""
        return [JobDetails.from_json(each) for each in self._ask("GET", "/api/jobs/").json()]

    def get_job_status(self, job_id: str) -> JobStatus:
        """Where a job is. RuntimeError when there is none."""
        return self.get_job_info(job_id).status

    def get_job_logs(self, job_id: str) -> str:
        """What a job's command has printed. RuntimeError when there is none."""
        return str(self._ask("GET", f"/api/jobs/{job_id}/logs").json()["logs"])

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """What a job's command prints, as it does, until it has ended. RuntimeError when there is none, or when the
        connection breaks before its end."""
        parts = self._http.stream(f"/api/jobs/{job_id}/logs/tail")
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        loop = asyncio.get_running_loop()
        try:
            while True:
                data = await loop.run_in_executor(None, next, parts, b"")
                if not data:
                    break
                yield decoder.decode(data)
        except ConnectionError as error:
            raise RuntimeError(f"The connection closed before job {job_id} had ended: {error}") from None
        if not (await loop.run_in_executor(None, self.get_job_status, job_id)).is_terminal():
            raise RuntimeError(f"The connection closed before job {job_id} had ended.")

    def _ask(self, verb: str, path: str, body: Any = None) -> Answer:
        answer = self._http.ask(verb, path, body)
        if answer.status != 200:
            raise_error(answer)
        return answer

    def _send_folders(self, environment: dict[str, Any]) -> None:
        """Replace local folders and files by the addresses of the archives that were made of them."""
        excludes = [*DEFAULT_EXCLUDES, *(environment.pop("excludes", None) or [])]
        folder = environment.get("working_dir")
        if folder is not None and "://" not in str(folder):
            environment["working_dir"] = self._send_path(Path(folder).expanduser(), excludes, with_name=False)
        modules = environment.get("py_modules")
        if modules:
            environment["py_modules"] = [self._send_module(module, excludes) for module in modules]

    def _send_module(self, module: Any, excludes: list[str]) -> str:
        if not isinstance(module, (str, Path)):
            raise TypeError(f"py_modules of a submission are paths or addresses, got {module!r}.")
        if "://" in str(module):
            return str(module)
        return self._send_path(Path(module).expanduser(), excludes, with_name=True)

    def _send_path(self, path: Path, excludes: list[str], with_name: bool) -> str:
        """with_name: the folder itself is at the archive's top, not only what is in it."""
        path = path.absolute()
        if not path.exists():
            raise ValueError(
                f"There is no {path}. Give the path of a folder that exists, or the address of an archive."
            )
        if path.is_dir():
            found = list(archives.files_of(path, excludes))
            root, chosen = (path.parent, [path, *found]) if with_name else (path, found)
            try:
                address, content = archives.pack(root, chosen)
            except archives.ArchiveTooLarge as largest:
                raise ValueError(
                    f"{path} is larger than {archives.ARCHIVE_BYTES_MAX >> 20} MiB. Its largest files: {largest}. Leave "
                    "some out with runtime_env={'excludes': [...]}."
                ) from None
        elif path.suffix in (".zip", ".whl"):
            content = path.read_bytes()
            address = archives.address_of(content, path.suffix)
        else:
            address, content = archives.pack(path.parent, [path])
        self._send_archive(address, content)
        return address

    def _send_archive(self, address: str, content: bytes) -> None:
        where = f"/api/packages/{address.replace('://', '/')}"
        answer = self._http.ask("GET", where)
        if answer.status == 404:
            answer = self._http.ask("PUT", where, data=content, size=len(content))
        if answer.status != 200:
            raise_error(answer)


__all__ = ["JobInfo", "JobSubmissionClient"]
