"""What can be wrong with a job, or a model, as such, as exceptions. Faults of rows are not here.

UnknownJob     no job has this id
InvalidJob     a submission that cannot become a job; `param` names the part at fault
  OverContext    it asks for more tokens than the model's context has
CorruptJob     a job directory that cannot be read back
NewerJob       one that a newer Penstock can read
JobBusy        another process is changing the job, and does not come to an end
CorruptModel   a model whose files are damaged, until somebody mends them
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


class OverContext(InvalidJob):
    """Every answer may be as long as the model's whole context, which prompts share."""

    def __init__(self, model: str, max_tokens: int, context_window: int) -> None:
        super().__init__(
            "max_tokens",
            f"max_tokens={max_tokens} leaves no room for a prompt: the context of {model[:80]!r}, "
            f"which a prompt and its answer share, is {context_window} tokens; ask for fewer",
        )


class CorruptJob(Exception):
    """Files of a job directory are damaged; the message says which and how."""


class NewerJob(CorruptJob):
    """A job directory of a newer Penstock cannot be read by this one: others may run the job."""


class JobBusy(Exception):
    """Another process holds a job's lock for longer than anybody should wait: try again."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"another process is changing {job_id}; try again soon")


class CorruptModel(ValueError):
    """A model's files are damaged; the message names the file."""
