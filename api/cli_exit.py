"""What the exit status of `penstock` tells. Knows how things end, and no verb."""

from ..jobs.model import JobState

EXIT_TROUBLE = 1
EXIT_USAGE = 2
EXIT_FAILED = 3
EXIT_WITH_ERRORS = 4
EXIT_PAUSED = 5
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141  # as of whoever ends by SIGPIPE: the reader of a pipe has left

COMPLETE = frozenset({JobState.COMPLETED, JobState.COMPLETED_WITH_ERRORS})


def exit_code(status: str, num_rejected: int) -> int:
    """Tell how a job or a run ended; lines that became no rows are errors too."""
    if status not in COMPLETE:
        return EXIT_FAILED
    return EXIT_WITH_ERRORS if status != JobState.COMPLETED or num_rejected else 0
