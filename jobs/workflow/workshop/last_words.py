"""What a process says on its stderr: passed on as it comes, and the last of it remembered."""

import os
import sys
import threading
from contextlib import suppress
from typing import IO

_MAX_CHARS = 500
_KEPT_BYTES = 4_096
_LINGER_S = 1.0  # for the last words of a process that has ended


class LastWords:
    """Listens in a thread of its own, until nobody is left who could say anything."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._listen, name="stderr", daemon=True)
        self._thread.start()

    def read(self) -> str:
        """Return the last line that says anything, once the process has ended."""
        self._thread.join(_LINGER_S)  # what the process has started may hold its stderr open
        lines = self._kept.decode(errors="replace").splitlines()
        return next((line.strip()[:_MAX_CHARS] for line in reversed(lines) if line.strip()), "")

    def _listen(self) -> None:
        with self._stream, suppress(OSError, ValueError):  # closed: nobody says anything more
            while said := os.read(self._stream.fileno(), _KEPT_BYTES):
                self._kept = (self._kept + said)[-_KEPT_BYTES:]
                _pass_on(said)


def _pass_on(said: bytes) -> None:
    with suppress(OSError, ValueError):  # ours is closed: nobody listens to us either
        sys.stderr.write(said.decode(errors="replace"))
        sys.stderr.flush()
