"""The server that a verb works with: named, found, or started for as long as it is needed.

Knows no job but its id.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..jobs.settings import Settings
from .cli_output import Printer
from .client import Client
from .client_errors import PenstockError, ServerUnreachable

if TYPE_CHECKING:
    from .local import LocalStack

_PROBE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where the job runs; `stack` is set when the server is ours and ends with us."""

    url: str
    stack: "LocalStack | None" = None

    def wait_until_ready(self) -> None:
        """Wait for the engines of our own; those of a named server are not ours to judge."""
        if self.stack is not None:
            self.stack.wait_until_ready()

    def how_to_return(self, job_id: str) -> str:
        """Say what becomes of a job whose watcher left."""
        if self.stack is None:
            return f"detached; the job goes on. penstock watch {job_id}  re-attaches"
        return "stopped; nothing that has landed is lost. The same command goes on from here"

    def how_to_see_errors(self, job_id: str) -> str:
        """Say which command lists them; our own stack ends before it can be typed."""
        if self.stack is None:
            return f"penstock errors {job_id}"
        return f"penstock up --data {self.stack.settings.data}, then penstock errors {job_id}"


def running_server(printer: Printer, settings: Settings, models: Collection[str]) -> str | None:
    """Find a server at the usual address that serves the models; None when there is none."""
    try:
        with Client(
            settings.url, settings.api_key, timeout_s=_PROBE_TIMEOUT_S, max_retries=0
        ) as client:
            ready = client.models.ready()
    except PenstockError:
        return None
    if not set(models) <= set(ready):
        return None
    printer.note(f"using the server at {settings.url}; --data DIR starts one of its own")
    return settings.url


def answers(settings: Settings) -> bool:
    """Tell whether a server is there, whatever it says."""
    with Client(
        settings.url, settings.api_key, timeout_s=_PROBE_TIMEOUT_S, max_retries=0
    ) as client:
        try:
            client.workers.list()
        except ServerUnreachable:
            return False
        except PenstockError:
            return True
    return True


@contextmanager
def server_for(printer: Printer, settings: Settings, url: str | None) -> Iterator[Server]:
    """Use the server that is named, or run one for as long as the block lasts."""
    if url is not None:
        yield Server(url)
        return
    from .local import LocalStack
    from .stop_signals import sigterm_as_interrupt

    with sigterm_as_interrupt(), LocalStack(settings, on_trouble=printer.note) as stack:
        printer.note(f"no server is named: starting one here, logs in {stack.log_dir}")
        stack.wait_until_up()  # what is wrong with the job, or done already, waits for no engine
        yield Server(stack.url, stack)
