"""A real terminal (a pseudo one) with a program in it: what it shows, typing, resizing, leaving."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_HOME = "\x1b[H"
_ORDERS = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")
SHOWN_CURSOR = "\x1b[?25h"
ALTERNATE_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


class Terminal:
    """The side that a person sees and types on."""

    def __init__(self, side: int, process: "subprocess.Popen[bytes]") -> None:
        self._side = side
        self.process = process
        self.heard = ""

    def press(self, keys: str) -> None:
        os.write(self._side, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def frame(self) -> str:
        """The last picture that has been drawn to its end."""
        frames = self.heard.split(_HOME)
        return _ORDERS.sub("", frames[-2] if len(frames) > 2 else "").replace("\r", "")

    def wait_for(self, *words: str, gone: str = "", within_s: float = 60) -> str:
        """Look until a picture has all the words, and another word no more."""
        deadline = time.monotonic() + within_s
        while True:
            frame = self.frame()
            if frame and all(word in frame for word in words) and not (gone and gone in frame):
                return frame
            assert self.process.poll() is None, self.heard[-2000:]
            assert time.monotonic() < deadline, f"no {words} in\n{frame}"
            self._hear(0.2)

    def wait_to_hear(self, words: str, within_s: float = 60) -> None:
        """Listen until it has said something, wherever that stands now."""
        deadline = time.monotonic() + within_s
        while words not in self.heard:
            assert self.process.poll() is None, self.heard[-2000:]
            assert time.monotonic() < deadline, self.heard[-2000:]
            self._hear(0.2)

    def wait_for_end(self, within_s: float = 60) -> int:
        """Hear it out; gives its exit status."""
        deadline = time.monotonic() + within_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.frame()
            self._hear(0.1)
        while self._hear(0):
            pass
        return self.process.returncode

    def echoes(self) -> bool:
        """Whether what is typed shows, as a shell wants to have it."""
        return bool(termios.tcgetattr(self._side)[3] & termios.ECHO)

    def _hear(self, longest_s: float) -> bool:
        if not select.select([self._side], [], [], longest_s)[0]:
            return False
        try:
            said = os.read(self._side, 1 << 16)
        except OSError:  # the program has gone, and its side of the terminal with it
            return False
        self.heard += said.decode("utf-8", "replace")
        return bool(said)


@contextmanager
def terminal(command: Sequence[str], *, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """Run a command in a terminal of its own for as long as the block lasts."""
    near, far = pty.openpty()
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("COLUMNS", "LINES", "NO_COLOR") and not name.startswith("PENSTOCK_")
    }
    process = subprocess.Popen(
        command,
        stdin=far,
        stdout=far,
        stderr=far,
        env={**environ, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        yield Terminal(near, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(near)
        os.close(far)
