"""A disk that may be full, may lose what was not synced, and on which processes may die.

The files are real ones, on a file system in memory; `os` is what is stood in for, so that the
product's own code runs as it is. Of fsync only the bookkeeping happens:

    fsync of a file        its bytes survive a power cut
    fsync of a directory   so do the names it has now
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .faults import PAUSES_S, Plan
from .world import Crashed, Thread, World

ACTIONS = (
    *("open", "close", "write", "fsync", "link", "unlink"),
    *("rename", "replace", "mkdir", "rmdir"),
)
_TAKES_SPACE = frozenset({"open", "write", "link", "mkdir"})
_DURABLE = frozenset({"write", "fsync", "link", "unlink", "rename", "replace", "mkdir"})


class Disk:
    """The file system of all processes, under `root`."""

    def __init__(self, world: World, plan: Plan, root: Path) -> None:
        self.root = root
        self.is_full = False
        self.is_quiet = True
        self.on_change: Callable[[str, Path], None] = lambda action, path: None
        self._world = world
        self._plan = plan
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in ACTIONS}
        self._paths: dict[int, str] = {}  # of open descriptors
        self._synced: set[int] = set()  # inodes
        self._names: dict[str, dict[str, int]] = {}  # directory -> durable name -> inode
        self._locks: dict[
            str, tuple[Thread, int]
        ] = {}  # path -> who holds it, and by which descriptor
        self._replaced: dict[str, bytes] = {}  # what stood there before, while that is not durable

    def flock(self, descriptor: int, operation: int) -> None:
        """Stand in for `fcntl.flock`.

        Who holds a lock is held up, with this thread's steps run from within: it would wait for
        ever. So whoever finds a lock taken is killed, as somebody who waits may be at any time.
        """
        thread = self._world.current
        if thread is None:
            return
        self._world.reach()
        path = self._paths[descriptor]
        holder = self._locks.get(path)
        if holder is not None and not holder[0].process.is_dead:
            self._die()
        self._locks[path] = (thread, descriptor)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Let `os` act on this disk."""
        for name in ACTIONS:
            setattr(os, name, self._acting(name))
        try:
            yield
        finally:
            for name, function in self._real.items():
                setattr(os, name, function)
            self._locks.clear()

    def make(self, *directories: Path) -> None:
        """Make directories that are there before the story begins, durably."""
        for path in directories:
            path.mkdir(parents=True, exist_ok=True)
        for path in (self.root, *directories):
            self._names[str(path)] = {each.name: each.stat().st_ino for each in path.iterdir()}

    def lose_power(self) -> None:
        """Lose what nobody synced, or some of it."""
        thread, self._world.current = self._world.current, None  # nobody does this
        for directory, _, _ in os.walk(self.root):
            durable = self._names.get(directory, {})
            for path in sorted(Path(directory).iterdir()):
                inode = path.lstat().st_ino
                if durable.get(path.name) != inode and self._world.random.random() < 0.7:
                    self._forget(path)
                elif path.is_file() and not path.is_symlink() and inode not in self._synced:
                    os.truncate(path, 0)
        self._world.current = thread

    def _forget(self, path: Path) -> None:
        before = self._replaced.get(str(path))
        self._world.note(f"lost: {path.relative_to(self.root)}")
        if path.is_dir() and not path.is_symlink():
            self.on_change("lost", path)
            shutil.rmtree(path)
        elif before is not None:
            path.write_bytes(before)
            self._synced.add(path.stat().st_ino)
            self.on_change("back", path)
        else:
            self.on_change("lost", path)
            path.unlink()

    def _acting(self, name: str) -> Callable[..., Any]:
        real = self._real[name]
        after = getattr(self, f"_after_{name}", None)

        def act(*args: Any, **options: Any) -> Any:
            if name == "close":
                self._after_close(args)
            if name == "close" or self._world.current is None:
                return real(*args, **options)
            self._world.reach()
            takes_space = name in _TAKES_SPACE and not (name == "open" and not args[1] & os.O_CREAT)
            if self.is_full and takes_space:
                raise OSError(errno.ENOSPC, "simulated: no space left", str(args[0]))
            ends = name in _DURABLE and self._is_disturbed(name, args)
            if name == "replace":
                self._before_replace(args)
            result = None if name == "fsync" else real(*args, **options)
            if after is not None:
                after(args, result)
            if ends:
                self._die()
            return result

        return act

    def _is_disturbed(self, name: str, args: tuple[Any, ...]) -> bool:
        """Perhaps die or be held up before an action; returns whether to die after it."""
        random = self._world.random
        if self.is_quiet or random.random() >= self._plan.disk_rate:
            return False
        kind = random.choice(("crash before", "crash after", "late"))
        path = self._paths.get(args[0], "") if isinstance(args[0], int) else str(args[-1])
        self._world.note(f"{name} {Path(path).name}: {kind}")
        if kind == "crash before":
            self._die()
        if kind == "late" and self._world.may_pause:
            self._world.pause(random.choice(PAUSES_S))
        return kind == "crash after"

    def _die(self) -> None:
        assert self._world.current is not None
        self._world.crash(self._world.current.process)
        raise Crashed

    def _after_open(self, args: tuple[Any, ...], descriptor: int) -> None:
        self._paths[descriptor] = str(args[0])

    def _after_close(self, args: tuple[Any, ...]) -> None:
        path = self._paths.pop(args[0], "")
        if path in self._locks and self._locks[path][1] == args[0]:
            del self._locks[path]

    def _after_write(self, args: tuple[Any, ...], _: int) -> None:
        self._synced.discard(os.fstat(args[0]).st_ino)

    def _after_fsync(self, args: tuple[Any, ...], _: None) -> None:
        path = self._paths.get(args[0], "")
        if Path(path).is_dir():
            self._names[path] = {each.name: each.inode() for each in os.scandir(path)}
            for replaced in [each for each in self._replaced if str(Path(each).parent) == path]:
                del self._replaced[replaced]
        else:
            self._synced.add(os.fstat(args[0]).st_ino)

    def _after_link(self, args: tuple[Any, ...], _: None) -> None:
        self.on_change("made", Path(args[1]))

    def _after_unlink(self, args: tuple[Any, ...], _: None) -> None:
        self.on_change("removed", Path(str(args[0])))

    def _before_replace(self, args: tuple[Any, ...]) -> None:
        target = Path(args[1])
        if target.exists():
            self._replaced.setdefault(str(target), target.read_bytes())

    def _after_replace(self, args: tuple[Any, ...], _: None) -> None:
        self.on_change("replaced", Path(args[1]))
