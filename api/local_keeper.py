"""The process that keeps a stack for as long as a client is attached to it, and no longer.

Knows the stack and how many hold on to it; knows no job. Who holds on is told by connections to a
Unix socket, which the kernel closes for whoever dies. The first line on each tells where the API is
and its key, once an engine is ready, or why there will be none.

    a client comes -> starting -> ready -> the last one leaves -> stopping -> gone, and so the lock
"""

import argparse
import json
import secrets
import selectors
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..jobs.settings import Settings
from .client_errors import PenstockError
from .local import LocalStack
from .stop_signals import sigterm_as_interrupt

_FIRST_CLIENT_S = 3.0  # who has started us has come before we could look, or will not come


class Keeper:
    """A stack and the connections of those who use it."""

    def __init__(self, listener: socket.socket, settings: Settings) -> None:
        self._listener = listener
        self._settings = settings
        self._clients: set[socket.socket] = set()
        self._is_over = threading.Event()
        self._news, self._tell_news = socket.socketpair()
        self._word: bytes | None = None  # what is said to each client, once it is known
        self._last_client: socket.socket | None = None

    def run(self) -> None:
        """Keep the stack until its last client has left."""
        try:
            stack = LocalStack(self._settings, on_trouble=lambda text: print(text, flush=True))
        except PenstockError as error:
            self._word = _line(error=str(error))
            self._serve()
            return
        starter = threading.Thread(target=self._start, args=(stack,), name="starter")
        starter.start()
        try:
            self._serve()
        finally:
            self._is_over.set()
            self._listener.close()  # who comes now finds nobody, and waits for our end
            stack.stop()  # cuts off whatever the starter waits for
            starter.join()
            stack.stop()  # had it only just begun

    def _start(self, stack: LocalStack) -> None:
        try:
            stack.start()
            stack.wait_until_ready(give_up=self._is_over.is_set)
            settings = stack.settings
            word = _line(url=stack.url, api_key=settings.api_key, models=settings.models)
        except PenstockError as error:
            word = _line(error=str(error))
        self._tell_news.sendall(word)
        self._tell_news.close()

    def _serve(self) -> None:
        """Let clients come and go until there is none, or nothing to come for."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ, self._welcome)
            selector.register(self._news, selectors.EVENT_READ, self._hear)
            patience_s: float | None = _FIRST_CLIENT_S
            while events := selector.select(patience_s):
                for key, _ in events:
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    key.data(selector, connection)
                    patience_s = None
                if not self._clients:
                    return

    def _welcome(self, selector: selectors.BaseSelector, listener: socket.socket) -> None:
        client, _ = listener.accept()
        self._clients.add(client)
        selector.register(client, selectors.EVENT_READ, self._part)
        self._say(client)

    def _hear(self, selector: selectors.BaseSelector, news: socket.socket) -> None:
        """Pass on how the start went."""
        with news.makefile("rb") as file:
            self._word = file.readline()
        selector.unregister(news)
        for client in self._clients:
            self._say(client)

    def _part(self, selector: selectors.BaseSelector, client: socket.socket) -> None:
        """Let a client go; the last one, who may wait for it, sees its connection end with us."""
        selector.unregister(client)
        self._clients.remove(client)
        if self._clients:
            client.close()
        else:
            self._last_client = client  # ends with this process

    def _say(self, client: socket.socket) -> None:
        if self._word is not None:
            with suppress(OSError):  # it has gone, as its connection will tell
                client.sendall(self._word)


def _line(**facts: Any) -> bytes:
    return json.dumps(facts).encode() + b"\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep a stack; started by `local_link`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listener", type=int, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--models")
    told = parser.parse_args(arguments)
    settings = replace(
        Settings.load(data=told.data, models=told.models),
        redis_url=None,  # one of its own, whatever the environment says
        api_key=secrets.token_urlsafe(32),  # nobody else of this machine gets in
    )
    with suppress(KeyboardInterrupt), sigterm_as_interrupt():
        Keeper(socket.socket(fileno=told.listener), settings).run()


if __name__ == "__main__":
    main()
