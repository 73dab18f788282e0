"""A client that tells whoever waits before a terminal that the server is away, and back again.

Knows no verb: it hears what each call meets on its way, and how patient the call is stays its own.
"""

from collections.abc import Callable
from typing import TypeVar

import httpx2

from .client import Client
from .talk import Talk

T = TypeVar("T")

_AWAY = frozenset({502, 504})  # what a proxy says of a server that is gone


class TellingClient(Client):
    """Tells each absence once, at its first silent call, and its end."""

    def __init__(
        self,
        base_url: str | None,
        api_key: str | None,
        tell: Callable[[str], None],
        *,
        timeout_s: float,
        max_retries: int,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s=timeout_s, max_retries=max_retries)
        self._tell = tell
        self._is_away = False

    def run(self, talk: Talk[T]) -> T:
        """Carry a talk out."""
        return super().run(self._overheard(talk))

    def _overheard(self, talk: Talk[T]) -> Talk[T]:
        try:
            send = next(talk)
            while True:
                try:
                    response = yield send
                except httpx2.TransportError as error:
                    self._note(is_away=True)
                    send = talk.throw(error)
                else:
                    self._note(is_away=response.status_code in _AWAY)
                    send = talk.send(response)
        except StopIteration as end:
            return end.value

    def _note(self, *, is_away: bool) -> None:
        if is_away and not self._is_away:
            self._tell(f"cannot reach {self.address.shown}, trying again")
        elif self._is_away and not is_away:
            self._tell(f"{self.address.shown} is back again")
        self._is_away = is_away
