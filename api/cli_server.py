"""The server that a verb works with: named, found, or started for as long as it is needed.

Knows of a job or a run how it stands, and what to type about it when this server is gone.
"""

import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..jobs.settings import DEMO_MODEL, Settings
from .cli_ids import RUN, Kind
from .cli_onlooker import detached, resume_with
from .cli_options import ApiKey, Config, Data, Set, Url, settings_and_sources
from .cli_output import Printer
from .client import Client
from .client_errors import PenstockError, ServerUnreachable, StackFailed
from .records import JobRecord
from .workflow_records import RunRecord

if TYPE_CHECKING:
    from .local import LocalStack

_PROBE_TIMEOUT_S = 2.0
_OF_CLIENTS = frozenset({"url", "api_key"})  # the settings that matter where a server runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFlags:
    """The options of a verb that starts a server where there is none."""

    data: Data = None
    config: Config = None
    settings: Set = None
    url: Url = None
    api_key: ApiKey = None

    def find(self, printer: Printer, models: Sequence[str]) -> tuple[Settings, str | None]:
        """Give the settings in force, and where a server is; None where one is to be started."""
        in_force, sources = settings_and_sources(
            self.config,
            self.settings,
            data=self.data,
            url=self.url,
            api_key=self.api_key,
            models=list(models) or None,
        )
        if sources["url"] != "default":
            self._note_unused(printer, in_force.url)
            return in_force, in_force.url
        if self.settings or sources["data"] != "default":
            return in_force, None
        return in_force, running_server(printer, in_force, models)

    def _note_unused(self, printer: Printer, url: str) -> None:
        """Name the options that tell a server how it begins, where there is one already."""
        names = [pair.partition("=")[0].strip() for pair in self.settings or ()]
        unused = [] if self.data is None else ["--data"]
        unused += [f"--set {name}" for name in names if name not in _OF_CLIENTS]
        if unused:
            printer.note(
                f"without effect: {' and '.join(unused)}; the server at {url} has settings of its "
                "own, and these are for one that is started here"
            )


@dataclass(frozen=True, slots=True)
class Server:
    """Where the job runs; `stack` is set when the server is ours and ends with us."""

    url: str
    stack: "LocalStack | None" = None

    def wait_until_ready(self, take_back: Callable[[], None]) -> None:
        """Wait for the engines of our own; those of a named server are not ours to judge.

        Raises:
            StackFailed: an engine will never be ready, and what waits for it has been taken back.
        """
        if self.stack is None:
            return
        try:
            self.stack.wait_until_ready()
        except StackFailed:
            take_back()
            raise

    def made_by(self, key: str, kind: Kind) -> str | None:
        """Name what an idempotency key has made in a data directory of ours; elsewhere, None."""
        if self.stack is None:
            return None
        from ..jobs.idempotency import IdempotencyKey  # not for the light client
        from ..jobs.tenants import DEFAULT_TENANT
        from ..jobs.workflow.runs.run_key import RunKey

        if kind == RUN:
            return RunKey.of(self.stack.settings, DEFAULT_TENANT, key).made()
        found = IdempotencyKey.of(self.stack.settings, DEFAULT_TENANT, key).made()
        return None if found is None else found.job_id

    def how_to_return(self, record: JobRecord | RunRecord, *, again: bool = False) -> str:
        """Say what becomes of a job or a run whose watcher left; `again` began it anew."""
        if self.stack is None:
            return detached(record)
        without = " without --again" if again else ""
        return (
            f"stopped; nothing that has landed is lost. The same command{without} goes on from here"
        )

    def how_to_see_errors(self, job_id: str) -> str:
        """Say which command lists them; our own stack ends before it can be typed."""
        if self.stack is None:
            return f"penstock errors {job_id}"
        return f"{self._up(self.stack)}, then penstock errors {job_id}"

    def how_to_resume(self, printer: Printer) -> Callable[[str], str]:
        """Give what says how something that pauses goes on: here while somebody waits, or later."""
        stack = self.stack
        if stack is None:
            return resume_with
        if printer.has_onlooker:
            return lambda job_id: f"penstock resume {job_id} --url {self.url}  lets it go on"
        return lambda job_id: f"{self._up(stack)}, then {resume_with(job_id)}"

    @staticmethod
    def _up(stack: "LocalStack") -> str:
        """Write the command that serves the same models over the same jobs."""
        models = [model for model in stack.settings.models if model != DEMO_MODEL]
        words = ["penstock", "up", "--data", str(stack.settings.data_dir)]
        return shlex.join(words + [word for model in models for word in ("--model", model)])


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
