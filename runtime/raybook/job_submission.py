"""Ray's address of the Jobs API's client."""

from raybook.jobs.client import JobSubmissionClient
from raybook.jobs.records import DriverInfo, JobDetails, JobErrorType, JobInfo, JobStatus, JobType

__all__ = ["DriverInfo", "JobDetails", "JobErrorType", "JobInfo", "JobStatus", "JobSubmissionClient", "JobType"]
