"""Ids as they are typed: whole, a part that only one has, or `latest`. Knows lists, and no verb.

A whole id is taken as it stands. Of what is less, the newest jobs and runs are looked through and
no others, so that an installation with a hundred thousand answers as soon as a new one.
"""

import re
from collections.abc import Iterator
from itertools import chain

from .cli_options import UsageProblem
from .client import Client, Jobs
from .client_errors import PenstockError
from .known_names import LATEST
from .workflow_client import Workflows

NUM_NEWEST = 500  # jobs, and as many runs, that are looked through

_WHOLE = re.compile(r"(job|run)_[0-9A-HJKMNP-TV-Z]{26}")
_JOB, _RUN = "job_", "run_"
_PAGE = 100
_NUM_NAMED = 5
_ELLIPSIS = "…"  # before an id that progress has shortened


class UnknownId(PenstockError):
    """No job and no run is meant by what was typed."""


def is_run(subject_id: str) -> bool:
    """Tell whether an id is that of a run; all others are of jobs."""
    return subject_id.startswith(_RUN)


def whole_id(client: Client, typed: str) -> str:
    """Give the id that is meant: of the newest of all, or of what begins or ends so.

    Ids begin with the time, so that those of one day begin alike; their ends differ.

    Raises:
        UnknownId: nothing is called so, among the newest.
        UsageProblem: more than one is; the message names them.
    """
    if _WHOLE.fullmatch(typed):
        return typed
    if typed == LATEST:
        return _latest(client)
    kind = next((kind for kind in (_JOB, _RUN) if typed.lower().startswith(kind)), "")
    part = typed[len(kind) :].lstrip(_ELLIPSIS).upper()
    if not part:
        raise UsageProblem(f"an id, a part of one or {LATEST} is expected, got {typed!r}")
    found = [each for each in _newest(client, kind) if _is_called(each, part, kind)]
    if len(found) > 1:
        named = ", ".join(found[:_NUM_NAMED]) + (", …" if found[_NUM_NAMED:] else "")
        raise UsageProblem(f"{typed} may be any of {len(found)}, type more of it: {named}")
    if not found:
        raise UnknownId(
            f"none of the newest {NUM_NEWEST} jobs and runs is called {typed}; `penstock jobs` and "
            "`penstock workflow runs` list them, and an older one is found by its whole id"
        )
    return found[0]


def _is_called(whole: str, part: str, kind: str) -> bool:
    """Tell whether an id begins so or, where its kind was not typed before it, ends so."""
    _, _, body = whole.partition("_")
    return body.startswith(part) or (not kind and body.endswith(part))


def _latest(client: Client) -> str:
    newest = [each.id for each in (*client.jobs.list(limit=1), *client.workflows.list(limit=1))]
    if not newest:
        raise UnknownId("there is no job and no run yet")
    return max(newest, key=lambda each: each.partition("_")[2])  # which begins with the time


def _newest(client: Client, kind: str) -> Iterator[str]:
    lists = {_JOB: client.jobs, _RUN: client.workflows}
    return chain.from_iterable(_ids(each) for name, each in lists.items() if kind in ("", name))


def _ids(lists: Jobs | Workflows) -> Iterator[str]:
    after: str | None = None
    for _ in range(NUM_NEWEST // _PAGE):
        page = lists.list(limit=_PAGE, after=after)
        yield from (each.id for each in page)
        if len(page) < _PAGE:
            return
        after = page[-1].id
