"""What a shell may offer for a word that is being typed: ids and models that the server knows.

A shell waits for the answer, so it is a quick one or none; whatever goes wrong, nothing is said.
Some shells evaluate what they are offered. So nothing is offered that people have written, such as
a job's name, and nothing with a character that means something to a shell.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Iterable

import typer

from ..jobs.settings import InvalidSetting
from .cli_client import open_client
from .client import Client
from .client_errors import PenstockError

LATEST = "latest"  # the newest job or run

_LONGEST_S = 0.3
_MOST = 50
_HARMLESS = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_.:/=,@+-]*")  # whatever the shell

Offer = tuple[str, str]  # a word, and what a shell may show beside it


def jobs_and_runs(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the latest jobs, the latest runs of workflows, and the word for the last of them."""

    def ask(client: Client) -> Iterable[Offer]:
        yield LATEST, "newest"
        if not incomplete.startswith("run_"):
            for job in client.jobs.list(limit=_MOST):
                yield job.id, job.status
        if not incomplete.startswith("job_"):
            for run in client.workflows.list(limit=_MOST):
                yield run.id, run.status

    return _offers(ctx, incomplete, ask)


def whole_ids(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the latest jobs and runs, and no word for any of them."""
    return [offer for offer in jobs_and_runs(ctx, incomplete) if offer[0] != LATEST]


def models(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Offer the models that are served."""
    return _offers(ctx, incomplete, lambda client: [(m["id"], "") for m in client.models.list()])


def _offers(
    ctx: typer.Context, incomplete: str, ask: Callable[[Client], Iterable[Offer]]
) -> list[Offer]:
    """Give what begins as the word does and is harmless, of all that has come in time."""
    found: list[Offer] = []
    url, key = ctx.params.get("url"), ctx.params.get("api_key")
    with contextlib.suppress(PenstockError, InvalidSetting):  # a prompt is no place for them
        client = open_client(url, key, timeout_s=_LONGEST_S, max_retries=0)
        # In a thread, which ends with the process: a look-up of a name may take long to fail.
        asked = (client, ask, found)
        thread = threading.Thread(target=_fill, args=asked, name="penstock-names", daemon=True)
        thread.start()
        thread.join(_LONGEST_S)
    return [
        (word, beside if _HARMLESS.fullmatch(beside) else "")
        for word, beside in list(found)
        if word.startswith(incomplete) and _HARMLESS.fullmatch(word)
    ]


def _fill(client: Client, ask: Callable[[Client], Iterable[Offer]], found: list[Offer]) -> None:
    with client, contextlib.suppress(PenstockError):
        found.extend(ask(client))
