"""Builds the CPU kernels with this machine's own compiler at first use, and keeps the result.

Knows compilers and files. Refuses to know what the kernels compute. Without a compiler there is
simply no library, and the caller falls back to PyTorch.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

_SOURCES = Path(__file__).parent
_FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC", "-shared", "-pthread", "-Wno-psabi")
_BUILD_TIMEOUT_S = 300

log = logging.getLogger(__name__)


@cache
def cpu_library() -> ctypes.CDLL | None:
    """Return the compiled kernels, building them if need be, or None where that cannot be done."""
    try:
        compiler = _compiler()
        if compiler is None:
            log.warning("no C++ compiler found: the kernels run in plain PyTorch, which is slower")
            return None
        artefact = _cache_dir() / f"cpu_kernels-{_fingerprint(compiler)}.so"
        if not artefact.exists():
            _build(compiler, sorted(_SOURCES.glob("cpu_*.cpp")), artefact)
        return ctypes.CDLL(str(artefact))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        log.warning(
            "the CPU kernels run in plain PyTorch, building them failed: %s", detail[-2000:]
        )
        return None


def kernel_function(
    library: ctypes.CDLL, name: str, argument_types: Sequence[type]
) -> Callable[..., None]:
    """Return the kernel called `name`, which returns nothing, with its arguments' types."""
    function = getattr(library, name)
    function.argtypes = argument_types
    function.restype = None
    return function


def _compiler() -> str | None:
    for name in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        path = shutil.which(name) if name else None
        if path:
            return path
    return None


def _cache_dir() -> Path:
    """Return a directory that only this user can write to: what lies in it will be run.

    Raises:
        OSError: there is none, neither among the user's caches nor among temporary files.
    """
    temporary = Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}"
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return _own(Path(cache) / "penstock")
    except (OSError, RuntimeError) as error:  # no home, one that is read-only, or others' to write
        log.info("the CPU kernels are kept in %s: %s", temporary, error)
        return _own(temporary)


def _own(directory: Path) -> Path:
    """Return `directory`, made if need be, once it is this user's alone to write to.

    Raises:
        OSError: it is not, or cannot be made.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{directory} must be this user's own directory")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{directory} must not be writable by others: chmod go-w {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} must be writable")
    return directory


def _fingerprint(compiler: str) -> str:
    """Name what the artefact depends on: sources, flags, compiler and this processor."""
    digest = hashlib.sha256(repr((compiler, _FLAGS, platform.machine(), _processor())).encode())
    digest.update(str(Path(compiler).resolve().stat().st_mtime_ns).encode())
    for source in sorted([*_SOURCES.glob("cpu_*.cpp"), *_SOURCES.glob("cpu_*.h")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Return the processor's instruction sets, for a home directory may serve many machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def build_library(sources: Sequence[Path], artefact: Path) -> None:
    """Compile C++ `sources` for this machine into `artefact`.

    Raises:
        RuntimeError: there is no compiler.
        OSError, subprocess.SubprocessError: it failed; `stderr` says why.
    """
    compiler = _compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler found: install g++ or set CXX")
    _build(compiler, sources, artefact)


def _build(compiler: str, sources: Sequence[Path], artefact: Path) -> None:
    handle, name = tempfile.mkstemp(dir=artefact.parent, prefix=f"{artefact.name}.")
    os.close(handle)
    unfinished = Path(name)
    command = [compiler, *_FLAGS, *map(str, sources), "-o", str(unfinished)]
    try:
        subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S
        )
        unfinished.replace(artefact)  # whole or not at all, whoever else is building
    finally:
        unfinished.unlink(missing_ok=True)
