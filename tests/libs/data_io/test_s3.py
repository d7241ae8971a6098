"""S3, against a server on this machine: moto's, with one that fails now and then in front of it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs as pafs

from raybook import data
from raybook.data.datasource.delta_datasink import DeltaDatasink
from raybook.data.datasource.delta_datasource import DeltaDatasource
from raybook.data.datasource.format_datasinks import CSVDatasink
from raybook.data.datasource.parquet_datasink import ParquetDatasink
from raybook.data.datasource.parquet_datasource import ParquetDatasource
from raybook.data.datasource.partitioning import Partitioning
from raybook.data.datasource.path_util import resolve_paths
from raybook.data.datasource.text_datasource import TextDatasource

pytest.importorskip("moto.server")
KEYS = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1", "scheme": "http"}
TABLE = pa.table({"x": np.arange(1000), "k": ["a", "b"] * 500})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # A process of its own: deltalake holds the interpreter's lock while it waits for an answer.
    program = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen([sys.executable, "-c", program], **quiet)
    end = time.monotonic() + 50
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert running.poll() is None and time.monotonic() < end, "moto's server did not come up"
            time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    running.terminate()
    running.wait()


@pytest.fixture(scope="module")
def s3(endpoint: str) -> pafs.S3FileSystem:
    filesystem = pafs.S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True, **KEYS)
    filesystem.create_dir("bucket")
    return filesystem


class Stumbling(socketserver.BaseRequestHandler):
    """Hands a connection on, byte by byte; but the first one that begins with a certain request is told to slow down."""

    def handle(self) -> None:
        start = self.request.recv(65536)
        request = start.split(b" HTTP/")[0].partition(b"?")[0].decode()
        if "stumble" in request and request not in self.server.refused:
            self.server.refused.append(request)
            body = b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>"
            head = f"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            self.request.sendall(head.encode() + body)
            self.request.shutdown(socket.SHUT_WR)
            while self.request.recv(65536):
                pass
            return
        with socket.create_connection(self.server.behind) as behind:
            behind.sendall(start)
            back = threading.Thread(target=self._copy, args=(behind, self.request), daemon=True)
            back.start()
            self._copy(self.request, behind)
            back.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data_ := source.recv(65536):
                target.sendall(data_)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def stumbling(endpoint: str) -> Iterator[socketserver.ThreadingTCPServer]:
    """In front of the store, with the list of the requests that it `refused`."""
    host, port = endpoint.split(":")
    front = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Stumbling)
    front.daemon_threads, front.refused, front.behind = True, [], (host, int(port))  # type: ignore[attr-defined]
    thread = threading.Thread(target=front.serve_forever, daemon=True)
    thread.start()
    yield front
    front.shutdown()
    front.server_close()
    thread.join()


def test_parquet_goes_round(s3: pafs.S3FileSystem, read, write) -> None:
    write(ParquetDatasink("s3://bucket/p", partition_cols=["k"], filesystem=s3), TABLE.slice(0, 600), TABLE.slice(600))
    source = ParquetDatasource("bucket/p", filesystem=s3, partitioning=Partitioning("hive"))
    assert source.num_rows() == 1000
    assert sorted(read(source).to_pylist(), key=lambda row: row["x"]) == TABLE.select(["x", "k"]).to_pylist()
    assert all("s3" not in task.metadata.input_files[0] for task in source.get_read_tasks(4))


def test_many_small_files_are_read_ahead_in_order(s3: pafs.S3FileSystem, read) -> None:
    for index in range(20):
        with s3.open_output_stream(f"bucket/t/{index:02}.txt") as stream:
            stream.write(f"line {index}\n".encode())
    found = read(TextDatasource("s3://bucket/t", filesystem=s3, include_paths=True), 1)
    assert found.column("text").to_pylist() == [f"line {index}" for index in range(20)]
    assert found.column("path")[3].as_py() == "bucket/t/03.txt"


def test_the_uri_alone_says_where(endpoint: str, s3: pafs.S3FileSystem, read, write, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    uri = f"s3://bucket/uri?scheme=http&endpoint_override={endpoint}&region=us-east-1"
    write(CSVDatasink(uri), TABLE.slice(0, 10))
    (path,) = [info.path for info in s3.get_file_info(pafs.FileSelector("bucket/uri"))]
    (found,), filesystem = resolve_paths(uri)
    assert found == "bucket/uri" and filesystem.type_name == "s3" and path.endswith(".csv")


def test_what_is_not_there_is_named(s3: pafs.S3FileSystem) -> None:
    with pytest.raises(FileNotFoundError, match=r"'bucket/nowhere' is not there \(looked on s3\)"):
        TextDatasource("s3://bucket/nowhere", filesystem=s3)


def test_modes_look_at_the_store(s3: pafs.S3FileSystem, write) -> None:
    write(CSVDatasink("bucket/m", filesystem=s3), TABLE.slice(0, 3))
    with pytest.raises(ValueError, match="already exists"):
        CSVDatasink("bucket/m", filesystem=s3, mode="error").prepare()
    write(CSVDatasink("bucket/m", filesystem=s3, mode="overwrite"), TABLE.slice(0, 3))
    assert len(s3.get_file_info(pafs.FileSelector("bucket/m"))) == 1


def test_a_write_that_fails_leaves_no_object(s3: pafs.S3FileSystem, write) -> None:
    with pytest.raises(ValueError, match="no way to write columns"):
        write(CSVDatasink("bucket/broken", filesystem=s3), pa.table({"k": [1], "v": [[1, 2]]}))
    assert s3.get_file_info(pafs.FileSelector("bucket/broken", allow_not_found=True)) == []


@pytest.mark.slow
def test_hiccups_of_the_store_are_waited_out(stumbling, s3: pafs.S3FileSystem, read, write) -> None:
    def connect() -> pafs.S3FileSystem:
        # Its own retries are off, so that those tested are ours.
        return pafs.S3FileSystem(
            endpoint_override=f"127.0.0.1:{stumbling.server_address[1]}",
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=0),
            **KEYS,
        )

    write(CSVDatasink("bucket/stumble", filesystem=connect()), TABLE.slice(0, 5))
    written = len(stumbling.refused)
    assert written and len(s3.get_file_info(pafs.FileSelector("bucket/stumble"))) == 1
    assert read(TextDatasource("bucket/stumble", filesystem=connect())).num_rows == 6
    assert len(stumbling.refused) > written


def test_delta_tables_on_s3(endpoint: str, s3: pafs.S3FileSystem, read, write) -> None:
    pytest.importorskip("deltalake")
    options = {
        "AWS_ENDPOINT_URL": f"http://{endpoint}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_S3_ALLOW_UNSAFE_RENAME": "true",
    }
    write(DeltaDatasink("s3://bucket/delta", storage_options=options, filesystem=s3), TABLE.slice(0, 10))
    source = DeltaDatasource("s3://bucket/delta", storage_options=options, filesystem=s3)
    assert read(source).equals(TABLE.slice(0, 10).combine_chunks())


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_datasets_read_and_write_s3(s3: pafs.S3FileSystem) -> None:
    data.range(100, override_num_blocks=4).write_parquet("bucket/ds", filesystem=s3)
    found = data.read_parquet("bucket/ds", filesystem=s3)
    assert found.count() == 100 and found.sum("id") == 4950
