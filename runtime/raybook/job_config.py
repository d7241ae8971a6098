"""raybook.job_config: where Ray's users find JobConfig. Defined in ``api/job_config``."""

from raybook.api.job_config import JobConfig

__all__ = ["JobConfig"]
