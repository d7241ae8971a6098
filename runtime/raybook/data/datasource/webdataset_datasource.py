"""Reading and writing WebDataset archives: a row a sample, a column an extension, `__key__` and `__url__` beside."""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from raybook.data.batches import from_rows
from raybook.data.block import Block
from raybook.data.block_accessor import BlockAccessor
from raybook.data.datasource.file_based_datasource import FileBasedDatasource
from raybook.data.datasource.file_datasink import BlockBasedFileDatasink
from raybook.data.datasource.webdataset import Stages, apply_stages, decode, encode, group_samples, is_wanted

SAMPLES_AT_ONCE = 512


class WebDatasetDatasource(FileBasedDatasource):
    """decoder: of samples; True the default one, None bytes as they are. fileselect, suffixes: which members to take.
    filerename: of members' names. expand_json: the fields of `json` become columns, too."""

    _FILE_EXTENSIONS = ["tar"]

    def __init__(
        self,
        paths: Any,
        decoder: Stages = True,
        fileselect: Any = None,
        filerename: Any = None,
        suffixes: Any = None,
        verbose_open: bool = False,
        expand_json: bool = False,
        **file_args: Any,
    ) -> None:
        super().__init__(paths, **file_args)
        self.decoder, self.fileselect, self.filerename, self.suffixes = decoder, fileselect, filerename, suffixes
        self.verbose_open, self.expand_json = verbose_open, expand_json

    def get_name(self) -> str:
        return "WebDataset"

    def _read_stream(self, f: pa.NativeFile, path: str) -> Iterator[Block]:
        rows = []
        for sample in group_samples(self._members(f, path), path, self.suffixes):
            rows.append(self._row(sample))
            if len(rows) == SAMPLES_AT_ONCE:
                yield from_rows(rows)
                rows = []
        if rows:
            yield from_rows(rows)

    def _members(self, f: pa.NativeFile, path: str) -> Iterator[tuple[str, bytes]]:
        if self.verbose_open:
            print(f"start {path}")
        try:
            with tarfile.open(fileobj=f, mode="r|*") as archive:
                for member in archive:
                    if not member.isreg():
                        continue
                    content = archive.extractfile(member)
                    assert content is not None
                    name = apply_stages(self.filerename, member.name)
                    if is_wanted(name, self.fileselect):
                        yield name, content.read()
        except tarfile.TarError as error:
            raise ValueError(f"{path!r} is no tar archive, or it is damaged: {error}") from error
        if self.verbose_open:
            print(f"done {path}")

    def _row(self, sample: dict[str, Any]) -> dict[str, Any]:
        sample = apply_stages(self.decoder, sample, decode)
        if self.expand_json:
            found = sample["json"]
            for name, value in (json.loads(found) if isinstance(found, (bytes, str)) else found).items():
                sample.setdefault(name, value)
        return sample


class WebDatasetDatasink(BlockBasedFileDatasink):
    """encoder: of samples; True the default one. Rows without `__key__` get one."""

    def __init__(self, path: str, encoder: Stages = True, *, file_format: str = "tar", **file_args: Any) -> None:
        super().__init__(path, file_format=file_format, **file_args)
        self.encoder = encoder

    def get_name(self) -> str:
        return "WebDataset"

    def write_block_to_file(self, block: BlockAccessor, file: pa.NativeFile) -> None:
        with tarfile.open(fileobj=file, mode="w|") as archive:
            for row in block.iter_rows():
                sample = apply_stages(self.encoder, dict(row), encode)
                key = sample.get("__key__") or uuid.uuid4().hex
                for name, value in sample.items():
                    if value is None or name.startswith("__"):
                        continue
                    if isinstance(value, str):
                        value = value.encode()
                    if not isinstance(value, bytes):
                        raise ValueError(
                            f"Column {name!r} of sample {key!r} is a {type(value).__name__}, and a WebDataset holds bytes. "
                            "Name the column by an extension that raybook encodes (txt, cls, json, npy, png, ...), or pass "
                            "an encoder."
                        )
                    member = tarfile.TarInfo(f"{key}.{name}")
                    member.size, member.mode = len(value), 0o644
                    archive.addfile(member, io.BytesIO(value))
