"""Lets a process die with the one that started it, even after a SIGKILL. Knows only Linux's prctl.

Run as a script it is a tiny launcher: `python parent_death.py PARENT SIGNAL PROGRAM ...` asks the
kernel for the signal, then becomes PROGRAM. A launcher instead of `preexec_fn`, because running
Python between fork and exec may deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, signum: signal.Signals) -> None:
    """Ask the kernel to send this process `signum` when the thread that started it ends.

    Elsewhere than on Linux nothing is asked for. A parent that is gone already counts as ended.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(code)}")
    if os.getppid() != parent_pid:  # it died between our start and the request above
        os.kill(os.getpid(), signum)


def launch_command(program: Sequence[str], signum: signal.Signals) -> list[str]:
    """Prefix a foreign program's command line so that it dies with this process.

    The kernel watches the *thread* that starts the process: call `Popen` from the main thread, or
    from one that lives as long as the child shall.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).resolve())]
    return [*launcher, str(os.getpid()), str(int(signum)), *program]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), signal.Signals(int(sys.argv[2])))
    os.execv(sys.argv[3], sys.argv[3:])
