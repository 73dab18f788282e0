"""The process of a dry run: reads the input, and tells how far it is. Knows one order.

stdin   the order, as JSON       stdout   what is known so far, a line of JSON each time
"""

import io
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .child_bounds import die_first
from .dry_run import DryRun
from .dry_run_model import ModelAtHand, NoModelAtHand, model_at_hand
from .dry_run_report import DryRunReport
from .inputs import UnreadableInput, open_file, open_input
from .object_store import ObjectStore, StorePlace, StoreUnavailable, is_store_url
from .parent_death import die_with_parent
from .submit_request import SubmitRequest

OUT_OF_MEMORY = 77  # exit status
_NICE = 5  # what computes goes first, by three to one
_TELL_EVERY_S = 0.25


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where the rows are: a path or an object's URL, or the descriptor of an inherited file."""

    path: str | None = None
    descriptor: int | None = None
    filename: str | None = None  # where it is called something else


class DryRunOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a dry run is about."""

    request: SubmitRequest
    place: Place
    s3_endpoint: str | None
    max_model_len: int | None
    tool_format: str
    limit_s: float | None


class DryRunTold(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the process says: a report, or why there is none."""

    report: DryRunReport | None = None
    unreadable: str | None = None


def look_at(order: DryRunOrder) -> Iterator[DryRunReport]:
    """Yield what is known of the input, four times a second, and at last of all of it.

    Raises:
        UnreadableInput: it cannot be read as a whole.
    """
    began_s = told_s = time.monotonic()
    with closing(_opened(order)) as file:
        num_bytes = file.seek(0, io.SEEK_END)
        file.seek(0)
        name = order.place.filename or Path(order.place.path or "").name
        items = open_input(file, order.request.format, filename=name)
        model, unchecked = _model(order)
        run = DryRun(order.request, model, unchecked)
        yield run.report(share_read=0.0)
        for item in items:
            run.take(item)
            now_s = time.monotonic()
            if now_s - told_s < _TELL_EVERY_S:
                continue
            told_s = now_s
            share = file.tell() / max(1, num_bytes)
            if order.limit_s is not None and now_s - began_s > order.limit_s:
                why = f"the {order.limit_s:g} s that a dry run may take were over"
                yield run.report(share_read=share, stopped=why)
                return
            yield run.report(share_read=share)
        yield run.report(complete=True)


def _opened(order: DryRunOrder) -> BinaryIO:
    place = order.place
    if place.descriptor is not None:
        return os.fdopen(place.descriptor, "rb")
    path = place.path or ""
    if not is_store_url(path):
        return open_file(path)
    try:
        return ObjectStore(StorePlace.parse(path), order.s3_endpoint).open()
    except (ValueError, StoreUnavailable) as error:
        raise UnreadableInput(f"cannot read {path[:60]!r}: {error}") from error


def _model(order: DryRunOrder) -> tuple[ModelAtHand | None, tuple[str, ...]]:
    """Load the model's tokenizer, or say what cannot be told without it."""
    model = order.request.task.model
    try:
        found = model_at_hand(
            model,
            context_window=order.request.context_window,
            max_model_len=order.max_model_len,
            tool_format=order.tool_format,
        )
    except NoModelAtHand as error:
        what = "tokens, rows over the context, prefix reuse, and whether the form can be"
        return None, (f"{what}: no tokenizer of {model} is at hand here: {error}"[:500],)
    return found, ()


def main(parent_pid: int, max_memory_bytes: int) -> None:
    """Do what stdin orders."""
    die_with_parent(parent_pid, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for who started us, and ends us
    os.nice(_NICE)
    die_first()
    # Of data only: the libraries that a tokenizer brings along are mapped, and need no memory.
    resource.setrlimit(resource.RLIMIT_DATA, (max_memory_bytes, max_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever libraries print
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=DryRunOrder)

    def tell(**said: Any) -> None:
        answers.write(msgspec.json.encode(DryRunTold(**said)) + b"\n")
        answers.flush()

    try:
        for report in look_at(order):
            tell(report=report)
    except UnreadableInput as error:
        tell(unreadable=str(error))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
