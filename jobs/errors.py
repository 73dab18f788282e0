"""What can be wrong with a job as such, as exceptions. Faults of one row are not here.

UnknownJob     no job has this id
InvalidJob     a submission that cannot become a job; `param` names the part at fault
CorruptJob     a job directory that cannot be read back
NewerJob       one that a newer Penstock can read
"""


class UnknownJob(LookupError):
    """No job has this id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job has the id {job_id[:80]!r}")
        self.job_id = job_id


class InvalidJob(ValueError):
    """A submission cannot become a job; `param` names the part of it that is at fault."""

    def __init__(self, param: str | None, message: str) -> None:
        super().__init__(message)
        self.param = param


class CorruptJob(Exception):
    """A job directory cannot be read; the message says which file and why."""


class NewerJob(CorruptJob):
    """A job directory of a newer Penstock cannot be read by this one: others may run the job."""
