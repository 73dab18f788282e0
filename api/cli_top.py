"""The verb top: jobs, runs and workers, live. Knows the terminal and the client; changes nothing.

eye (a thread)  -- looks at the server every second -->  newest snapshot or trouble
main thread     -- draws it, and reads the keyboard  -->  q or Ctrl-C leaves
"""

import contextlib
import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated

import typer
from rich.live import Live

from .cli_client import open_client
from .cli_options import ApiKey, Output, Url
from .cli_output import Printer
from .client import Client
from .client_errors import ApiError, ServerUnreachable
from .rate_history import RateHistory
from .stop_signals import sigterm_as_interrupt
from .top_snapshot import look
from .top_view import TopView
from .wording import short_time

_LOOK_TIMEOUT_S = 5.0
_DRAW_S = 0.25  # how soon a terminal that was resized is drawn anew
_LEAVE = ("q", "Q")
_SERVERS_OWN_FAULT = 500
_TOO_SLOW, _TOO_MANY = 408, 429  # a no that is a yes a little later


def top(
    once: Annotated[bool, typer.Option("--once", help="Print one picture and leave.")] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Show jobs, runs and workers, live; q leaves. A pipe gets a line of JSON for every look."""
    printer = Printer(output)
    if once:
        with open_client(url, api_key) as client:
            _show(printer, TopView(client.address.shown, client.run(look(client.retry))))
        return
    with (
        open_client(url, api_key, timeout_s=_LOOK_TIMEOUT_S, max_retries=0) as client,
        sigterm_as_interrupt(),
        contextlib.suppress(KeyboardInterrupt),
    ):
        is_live = printer.out.is_terminal and not printer.is_json
        eye = Eye(client, TopView(client.address.shown, is_live=is_live))
        (_draw_on if is_live else _print_on)(printer, eye, interval_s)


class Eye:
    """Looks at a server, and remembers what it saw when the server is away."""

    def __init__(self, client: Client, view: TopView) -> None:
        self._client = client
        self._history = RateHistory()
        self.view = view
        self.asked_s = 0.0  # how long the server wants to be left alone

    def look(self) -> TopView:
        """Look once; a trouble that passes leaves the picture as it was, and is told in it.

        Raises:
            ApiError: the server has said no, and would say so again.
        """
        try:
            seen = self._client.run(look(self._client.retry))
        except (ServerUnreachable, ApiError) as error:
            if isinstance(error, ApiError) and not _passes(error):
                raise
            self.asked_s = (isinstance(error, ApiError) and error.retry_after_s) or 0.0
            again = f" in {short_time(self.asked_s)}" if self.asked_s else ""
            trouble = f"cannot reach {self.view.address}, trying again{again} ({error})"
            self.view = replace(self.view, trouble=trouble)
        else:
            self.asked_s = 0.0
            rates = self._history.add(seen.tokens_per_s, seen.rates())
            self.view = replace(self.view, snapshot=seen, rates=rates, trouble=None)
        return self.view


def _passes(error: ApiError) -> bool:
    return error.status_code >= _SERVERS_OWN_FAULT or error.status_code in (_TOO_SLOW, _TOO_MANY)


def _print_on(printer: Printer, eye: Eye, interval_s: float) -> None:
    """Print one look after the other, for a program or a file."""
    told: str | None = None
    while True:
        view = eye.look()
        if view.trouble is None:
            _show(printer, view)
        elif view.trouble != told:
            printer.note(view.trouble)
        told = view.trouble
        time.sleep(max(interval_s, eye.asked_s))


def _show(printer: Printer, view: TopView) -> None:
    if not printer.is_json:
        printer.out.print(view)
    elif view.snapshot is not None:
        printer.json_line(view.snapshot.to_json())


def _draw_on(printer: Printer, eye: Eye, interval_s: float) -> None:
    """Draw on a screen of its own until somebody leaves, and put the old one back."""
    ended = threading.Event()
    no: list[Exception] = []

    def look_on() -> None:
        try:
            eye.look()
            while not ended.wait(max(interval_s, eye.asked_s)):
                eye.look()
        except Exception as error:  # whatever it is: it is raised where somebody sees it
            no.append(error)

    # A look may take seconds where the network is bad. It is not waited for when somebody leaves:
    # the thread ends with the process.
    threading.Thread(target=look_on, name="penstock-top", daemon=True).start()
    try:
        with (
            _keyboard() as pressed,
            Live(console=printer.out, screen=True, auto_refresh=False) as live,
        ):
            while not no and pressed(_DRAW_S) not in _LEAVE:
                live.update(eye.view, refresh=True)
    finally:
        ended.set()
    if no:
        raise no[0]


@contextmanager
def _keyboard() -> Iterator[Callable[[float], str]]:
    """Read single keys without their being shown; what is given waits so long for one."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)

    def pressed(longest_s: float) -> str:
        if not select.select([keyboard], [], [], longest_s)[0]:
            return ""
        return os.read(keyboard, 1).decode("ascii", "replace") or _no_key(longest_s)

    tty.setcbreak(keyboard)
    try:
        yield pressed
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _no_key(longest_s: float) -> str:
    time.sleep(longest_s)
    return ""
