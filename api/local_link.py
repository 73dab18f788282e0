"""A hold on the stack that `local://` means: found, or started, and let go again.

Knows how the keeper is met; `local_keeper` is its other side. Knows no HTTP.

    connect to DATA/local/socket -> somebody is there: read its word
                                 -> nobody: take DATA/local/lock, start a keeper with it, connect
                                 -> nobody, and the lock is taken: one is ending; wait, and again
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from .client_errors import MissingPackage, PenstockError, StackFailed
from .local_place import LocalPlace

_NEEDED = ("celery", "fastapi", "pyarrow", "redis", "torch", "transformers", "uvicorn")
_LONGEST_SOCKET_PATH = 103  # of the systems that we know, with the closing zero
_AGAIN_S = 0.05
_ENDING_S = 120.0  # how long a stack that ends may take: running rows may finish
_LONGEST_WORD = 1 << 16


class LocalLink:
    """One user's hold on the stack of a data directory. `attach` and `release` come in pairs.

    What is never released is so when the process ends, however it ends.
    """

    def __init__(self, place: LocalPlace) -> None:
        self.place = place
        self.directory = place.data / "local"
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._server: tuple[str, str] | None = None
        self._is_released = False

    @property
    def server(self) -> tuple[str, str] | None:
        """The API's URL and its key, as long as we are attached."""
        return self._server if self._is_kept() else None

    def attach(self) -> tuple[str, str]:
        """Find or start the stack, and wait until a model answers; the URL and the key.

        Raises:
            MissingPackage: what a stack needs is not installed.
            StackFailed: it cannot be started, or serves other models.
        """
        with self._lock:
            if not self._is_kept():
                self._let_go()
                _check_packages()
                try:
                    self._server = self._meet()
                except OSError as error:
                    where = self.place.data
                    raise StackFailed(f"cannot run a stack in {where}: {error}") from error
            assert self._server is not None
            return self._server

    def release(self) -> None:
        """Let go, and wait for the end of the stack if nobody else uses it."""
        self._is_released = True
        connection = self._connection
        if connection is None:
            return
        with suppress(OSError):  # the keeper may have ended
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_ENDING_S)
            while connection.recv(_LONGEST_WORD):
                pass
        with self._lock:  # whoever attaches right now has been told
            connection.close()
            self._connection = self._server = None

    def _meet(self) -> tuple[str, str]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        deadline_s = time.monotonic() + _ENDING_S
        keeper: subprocess.Popen[bytes] | None = None
        while not self._is_released:
            connection = self._connect()
            if connection is not None:
                word = self._listen_to(connection)
                if word is not None:
                    return self._understand(word)
            if keeper is not None and keeper.poll() is not None:
                raise StackFailed(f"the stack ended before it was ready; its log: {self._log_path}")
            if keeper is None:
                keeper = self._start_keeper()
            if time.monotonic() > deadline_s:
                raise StackFailed(
                    f"another stack still ends in {self.place.data} after {_ENDING_S:g} s; "
                    "try again, or choose another directory"
                )
            time.sleep(_AGAIN_S)
        raise PenstockError("the client was closed while its stack was starting")

    def _connect(self) -> socket.socket | None:
        """Connect to the keeper; None where there is none."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            with _ShortPath(self.directory) as directory:
                connection.connect(f"{directory}/socket")
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except OSError:
            connection.close()
            raise
        self._connection = connection
        # Whoever forgets to close leaves no warning behind, and the stack still ends.
        weakref.finalize(self, connection.close)
        if self._is_released:  # without having seen this connection
            self._let_go()
            return None
        return connection

    def _listen_to(self, connection: socket.socket) -> bytes | None:
        """Wait for the keeper's word; None if it ends without one."""
        word = b""
        with suppress(OSError):
            while not word.endswith(b"\n"):
                piece = connection.recv(_LONGEST_WORD)
                if not piece:
                    break
                word += piece
        if word.endswith(b"\n"):
            return word
        self._connection = None
        connection.close()
        return None

    def _understand(self, word: bytes) -> tuple[str, str]:
        facts = json.loads(word)
        trouble = facts.get("error")
        served, wanted = facts.get("models") or (), self.place.models
        if trouble is None and wanted is not None and not set(wanted) <= set(served):
            trouble = (
                f"the stack of {self.place.data} serves {', '.join(served)}, not "
                f"{', '.join(wanted)}: close who uses it, or choose another directory"
            )
        if trouble is not None:
            self._let_go()
            raise StackFailed(trouble)
        return facts["url"], facts["api_key"]

    def _is_kept(self) -> bool:
        """Whether we are attached, and the keeper lives: it says nothing more until it ends."""
        if self._connection is None or self._server is None:
            return False
        try:
            return self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._server = None

    @property
    def _log_path(self) -> Path:
        return self.place.data / "logs" / "local.log"

    def _start_keeper(self) -> "subprocess.Popen[bytes] | None":
        """Start a keeper, which takes our lock over; None while another has it."""
        with (self.directory / "lock").open("a+") as lock:
            if not _lock(lock):
                return None
            path = self.directory / "socket"
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as listener:
                with _ShortPath(self.directory) as directory:
                    listener.bind(f"{directory}/socket")
                listener.listen(128)
                return self._launch(listener.fileno(), lock.fileno())

    def _launch(self, listener: int, lock: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "penstock.api.local_keeper"]
        command += ["--listener", str(listener), "--data", str(self.place.data)]
        if self.place.models is not None:
            command += ["--models", ",".join(self.place.models)]
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        with self._log_path.open("ab") as log:
            keeper = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(listener, lock),
                start_new_session=True,  # a Ctrl-C is for us; it ends when nobody holds on to it
            )
        # It may outlive this link, whose process is the one to see it out.
        threading.Thread(target=keeper.wait, name="local-keeper", daemon=True).start()
        return keeper


class _ShortPath:
    """A directory under a name that is short enough for a socket's path."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    def __enter__(self) -> str:
        path = str(self._directory)
        if len(os.fsencode(path)) + len("/socket") <= _LONGEST_SOCKET_PATH:
            return path
        self._descriptor = os.open(path, os.O_RDONLY)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _lock(file: IO[str]) -> bool:
    """Take a lock that lasts as long as anybody has this file open; False if another has it."""
    import fcntl  # not everywhere, while a client is

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _check_packages() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingPackage(
            f"local:// runs the whole stack on this machine, which needs {', '.join(missing)}: "
            "pip install 'penstock[all]'"
        )
