"""What all objects share, ours and OpenAI's, for the OpenAPI document: errors, pages, and ends.

Knows shapes, makes none of them. Fields that are null at times say so; none is ever left out.
"""

from typing import Any, Literal

from .described import Described


class ErrorDetail(Described):
    """What was wrong, and where; `code` is for programs, `message` for people."""

    message: str
    """What was wrong, with the value and what to do; for people."""
    type: str
    """The kind of error, as at OpenAI: `invalid_request_error`, `server_error`, …"""
    param: str | None
    """Which field or parameter was at fault; null where it is none alone."""
    code: str | None
    """The error's code, for programs; null where there is none."""


class ErrorEnvelope(Described):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail
    """What was wrong."""


class Page(Described):
    """A part of a list; `after=<last_id>` asks for what follows."""

    object: Literal["list"]
    """What this is."""
    data: list[Any]
    """The objects of this page."""
    first_id: str | None
    """The first one's id; null on an empty page."""
    last_id: str | None
    """The last one's id, which `after` takes for the next page; null on an empty page."""
    has_more: bool
    """Whether there are more behind them."""


class Deleted(Described):
    """What was there, and is not any more."""

    id: str
    """What is gone."""
    object: str
    """What it was."""
    deleted: Literal[True]
    """Always true."""
