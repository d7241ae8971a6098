"""Sources and sinks: the contract that readers and writers fill in, and those that come with raybook."""

from raybook.data.datasource.datasink import Datasink, DummyOutputDatasink, WriteResult, WriteReturnType
from raybook.data.datasource.datasource import Datasource, RandomIntRowDatasource, Reader, ReadTask
from raybook.data.datasource.file_based_datasource import FileBasedDatasource, FileShuffleConfig
from raybook.data.datasource.file_datasink import BlockBasedFileDatasink, RowBasedFileDatasink
from raybook.data.datasource.file_meta_provider import (
    BaseFileMetadataProvider,
    DefaultFileMetadataProvider,
    FileMetadataProvider,
)
from raybook.data.datasource.filename_provider import FilenameProvider
from raybook.data.datasource.partitioning import (
    Partitioning,
    PartitionStyle,
    PathPartitionFilter,
    PathPartitionParser,
)
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.sql_datasource import Connection
from raybook.data.datasource.task_context import TaskContext

__all__ = [
    "BaseFileMetadataProvider",
    "BlockBasedFileDatasink",
    "Connection",
    "Datasink",
    "Datasource",
    "DefaultFileMetadataProvider",
    "DummyOutputDatasink",
    "FileBasedDatasource",
    "FileMetadataProvider",
    "FileShuffleConfig",
    "FilenameProvider",
    "PartitionStyle",
    "Partitioning",
    "PathPartitionFilter",
    "PathPartitionParser",
    "RandomIntRowDatasource",
    "ReadTask",
    "Reader",
    "RowBasedFileDatasink",
    "SaveMode",
    "TaskContext",
    "WriteResult",
    "WriteReturnType",
]
