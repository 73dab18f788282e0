"""Ids as they are typed: whole, a part that only one has, or `latest`. Knows lists, and no verb.

A whole id is taken as it stands. A part must be long enough to be meant: where there is little, one
letter names something, too. Of what is less than whole, the newest jobs and runs are looked through
and no others, so that an installation with a hundred thousand answers as soon as a new one.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Literal, TypeAlias

from .cli_options import UsageProblem
from .client import Client, Job, Jobs
from .client_errors import PenstockError
from .known_names import LATEST
from .workflow_client import Workflows
from .workflow_run import WorkflowRun

Kind: TypeAlias = Literal["job_", "run_"]

NUM_NEWEST = 500  # jobs, and as many runs, that are looked through
SHORTEST_PART = 4  # characters of an id
JOB: Kind = "job_"
RUN: Kind = "run_"

_KINDS: tuple[Kind, ...] = (JOB, RUN)
_WHOLE = re.compile(r"(job|run)_[0-9A-HJKMNP-TV-Z]{26}")
_LISTED_BY = {JOB: "`penstock jobs`", RUN: "`penstock workflow runs`"}
_PAGE = 100
_FEW = 10  # the latest is nearly always among them
_NUM_NAMED = 5
_ELLIPSIS = "…"  # before an id that progress has shortened


class UnknownId(PenstockError):
    """No job and no run is meant by what was typed."""


def is_run(subject_id: str) -> bool:
    """Tell whether an id is that of a run; all others are of jobs."""
    return subject_id.startswith(RUN)


def require_whole(typed: str, verb: str) -> str:
    """Take nothing but a whole id, for a verb that cannot be taken back.

    Raises:
        UsageProblem: it is less than that.
    """
    if not _WHOLE.fullmatch(typed):
        raise UsageProblem(
            f"there is no way back from {verb}, so it takes a whole id, as {_LISTED_BY[JOB]} and "
            f"{_LISTED_BY[RUN]} list them; got {typed!r}"
        )
    return typed


def whole_id(client: Client, typed: str, wanted: Kind | None = None) -> str:
    """Give the id that is meant: of the newest of all, or of what begins or ends so.

    Ids begin with the time, so that those of one day begin alike; their ends differ.

    Args:
        client: whom to ask.
        typed: what stands for the id.
        wanted: of which kind it must be; any, unless told.

    Raises:
        UnknownId: nothing is called so, among the newest.
        UsageProblem: more than one is, and the message names them; or it is too little of an id,
            or one of another kind.
    """
    named = _kind_of(typed)
    if wanted and named not in (None, wanted):
        raise UsageProblem(f"the id of a {_noun(wanted)} is wanted here, got {typed}")
    if _WHOLE.fullmatch(typed):
        return typed
    kind = wanted or named
    kinds = _KINDS if kind is None else (kind,)
    if typed == LATEST:
        return _latest(client, kinds)
    part = typed[len(named or "") :].lstrip(_ELLIPSIS).upper()
    if len(part) < SHORTEST_PART:
        raise UsageProblem(
            f"expected an id, at least {SHORTEST_PART} characters of one or {LATEST}, got {typed!r}"
        )
    found = [each for each in _newest(client, kinds) if _is_called(each, part, named)]
    if len(found) > 1:
        first = ", ".join(found[:_NUM_NAMED]) + (", …" if found[_NUM_NAMED:] else "")
        raise UsageProblem(f"{typed} may be any of {len(found)}, type more of it: {first}")
    if not found:
        nouns = " and ".join(f"{_noun(kind)}s" for kind in kinds)
        lists = " and ".join(_LISTED_BY[kind] for kind in kinds)
        raise UnknownId(
            f"none of the newest {NUM_NEWEST} {nouns} is called {typed}; {lists} "
            f"list{'s' if len(kinds) == 1 else ''} them, and an older one is found by its whole id"
        )
    return found[0]


def _kind_of(typed: str) -> Kind | None:
    for kind in _KINDS:
        if typed.lower().startswith(kind):
            return kind
    return None


def _noun(kind: Kind) -> str:
    return kind.removesuffix("_")


def _is_called(whole: str, part: str, named: Kind | None) -> bool:
    """Tell whether an id begins so or, where its kind was not typed before it, ends so."""
    _, _, body = whole.partition("_")
    return body.startswith(part) or (named is None and body.endswith(part))


def _latest(client: Client, kinds: Sequence[Kind]) -> str:
    newest = [each for kind in kinds for each in islice(_meant(_lists(client, kind)), 1)]
    if not newest:
        raise UnknownId(f"there is {' and '.join(f'no {_noun(kind)}' for kind in kinds)} yet")
    return max(newest, key=lambda each: each.partition("_")[2])  # which begins with the time


def _meant(lists: Jobs | Workflows) -> Iterator[str]:
    """Yield what somebody wanted for its own sake; a trial is over once it is seen."""
    for each in _walked(lists, _FEW):
        if not each.record.raw.get("is_preview"):
            yield each.id


def _newest(client: Client, kinds: Sequence[Kind]) -> Iterator[str]:
    return chain.from_iterable(_ids(_lists(client, kind)) for kind in kinds)


def _lists(client: Client, kind: Kind) -> Jobs | Workflows:
    return client.jobs if kind == JOB else client.workflows


def _ids(lists: Jobs | Workflows) -> Iterator[str]:
    return (each.id for each in _walked(lists, _PAGE))


def _walked(lists: Jobs | Workflows, page_size: int) -> Iterator[Job | WorkflowRun]:
    after: str | None = None
    for _ in range(NUM_NEWEST // page_size):
        page = lists.list(limit=page_size, after=after)
        yield from page
        if len(page) < page_size:
            return
        after = page[-1].id
