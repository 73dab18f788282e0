"""What tenants' interactive requests have used, by day. Knows tokens and files, no HTTP.

    usage/2026-11-21/<process>.json    of one API process, written again as it grows

A process that is killed takes the last ten seconds with it: this is for looking, not for billing.
"""

import datetime
import logging
import os
import secrets
import socket
import threading
from pathlib import Path

import msgspec

from .durable import StorageFull, make_directories, replace_file

FLUSH_S = 10.0

logger = logging.getLogger(__name__)


class ChatTokens(msgspec.Struct, kw_only=True):
    """A sum over requests."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def add(self, other: "ChatTokens") -> None:
        """Add another sum."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_Day = dict[str, dict[str, ChatTokens]]  # tenant -> model -> its sum


class ChatUsage:
    """Counts for one API process, and reads what all of them wrote. `start` and `stop` pair up."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self._days: dict[str, _Day] = {}
        self._unwritten: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chat-usage", daemon=True)

    def start(self) -> None:
        """Write what is counted every now and then."""
        self._thread.start()

    def stop(self) -> None:
        """Write the rest."""
        self._stopping.set()
        self._thread.join()
        self.flush()

    def count(self, tenant: str, model: str, prompt: int, completion: int, cached: int) -> None:
        """Note what one request has used."""
        tokens = ChatTokens(
            requests=1, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached
        )
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        with self._lock:
            models = self._days.setdefault(today, {}).setdefault(tenant, {})
            models.setdefault(model, ChatTokens()).add(tokens)
            self._unwritten.add(today)

    def flush(self) -> None:
        """Write what has been counted since the last time; what cannot be written is kept."""
        with self._lock:
            written = {day: msgspec.json.encode(self._days[day]) for day in self._unwritten}
            self._unwritten.clear()
        for day, content in written.items():
            try:
                make_directories(self._directory / day)
                replace_file(self._directory / day / self._name, content)
            except (OSError, StorageFull) as error:
                logger.warning("what chats have used cannot be written yet: %s", error)
                with self._lock:
                    self._unwritten.add(day)

    def used(self, tenant: str, start_s: int, end_s: int) -> dict[str, ChatTokens]:
        """Add up, by model, the days that begin in a span of time, in UTC."""
        self.flush()
        total: dict[str, ChatTokens] = {}
        for path in sorted(self._directory.glob("????-??-??/*.json")):
            day = datetime.datetime.fromisoformat(f"{path.parent.name}T00:00:00+00:00")
            if start_s <= day.timestamp() < end_s:
                for model, tokens in _read(path).get(tenant, {}).items():
                    total.setdefault(model, ChatTokens()).add(tokens)
        return total

    def _run(self) -> None:
        while not self._stopping.wait(FLUSH_S):
            self.flush()


def _read(path: Path) -> _Day:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Day)
    except (OSError, msgspec.MsgspecError) as error:
        logger.warning("cannot read %s, which is left out: %s", path, error)
        return {}
