"""Who looks on while a job or a run is at work: told of pauses, and free to leave.

Knows how to print; leaving never harms what is watched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import typer

from ..jobs.model import JobState
from .cli_exit import EXIT_INTERRUPTED
from .cli_ids import is_run
from .cli_output import Printer
from .records import JobRecord
from .workflow_records import RunRecord

Telling: TypeAlias = str | Callable[[], str]  # what is said, or what finds it out then

_BY_HAND = "paused_by_user"
_HINT = "; resume goes on"


@contextmanager
def leaving(printer: Printer, how_to_return: Telling) -> Iterator[None]:
    """Let Ctrl-C end the block in good order, at whatever moment it comes.

    Raises:
        typer.Exit: somebody left; `how_to_return` has told what that means.
    """
    try:
        yield
    except KeyboardInterrupt:
        printer.note(how_to_return if isinstance(how_to_return, str) else how_to_return())
        raise typer.Exit(EXIT_INTERRUPTED) from None


def detached(record: JobRecord | RunRecord) -> str:
    """Say what becomes of a job or a run, on a server elsewhere, whose watcher leaves now."""
    what = "run" if is_run(record.id) else "job"
    stands = "goes on"
    if record.status is JobState.PAUSED:
        stands = f"stays paused: {resume_with(record.id)}"
    return f"detached; the {what} {stands}. penstock watch {record.id}  re-attaches"


def resume_with(subject_id: str) -> str:
    """Say how what pauses on a server that stays goes on."""
    return f"penstock resume {subject_id}  lets it go on"


class PauseNotes:
    """Tells a watcher once of each pause: its reason, and how the job or the run goes on."""

    def __init__(self, printer: Printer, how_to_resume: Callable[[str], str] = resume_with) -> None:
        self._printer = printer
        self._how_to_resume = how_to_resume
        self._is_paused = False

    def look(self, record: JobRecord | RunRecord) -> None:
        """Look at it as it stands now."""
        is_paused = record.status is JobState.PAUSED
        if is_paused and not self._is_paused:
            self._printer.note(f"paused: {_why(record)}. {self._how_to_resume(record.id)}")
        self._is_paused = is_paused


def _why(record: JobRecord | RunRecord) -> str:
    """Say why it pauses; that it can be resumed, and that it has not been, is said beside that."""
    reason = record.status_reason or _BY_HAND
    return "somebody wanted it" if reason.startswith(_BY_HAND) else reason.removesuffix(_HINT)
