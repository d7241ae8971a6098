"""Sources and sinks: the contract that readers and writers fill in, and those that come with raybook."""

from raybook.data.datasource.datasink import Datasink, DummyOutputDatasink, WriteResult, WriteReturnType
from raybook.data.datasource.datasource import Datasource, RandomIntRowDatasource, Reader, ReadTask
from raybook.data.datasource.save_mode import SaveMode
from raybook.data.datasource.task_context import TaskContext

__all__ = [
    "Datasink",
    "Datasource",
    "DummyOutputDatasink",
    "RandomIntRowDatasource",
    "ReadTask",
    "Reader",
    "SaveMode",
    "TaskContext",
    "WriteResult",
    "WriteReturnType",
]
