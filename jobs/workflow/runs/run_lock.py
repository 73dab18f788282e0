"""The lock of a run: who changes, retries or removes it holds it. Knows none of their work."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ...errors import JobBusy, UnknownJob
from ...file_lock import file_lock
from .run_dir import RunDir
from .run_spec import RunSpec

LOCK_WAIT_S = 2.0


@contextmanager
def run_lock(directory: RunDir) -> Iterator[RunSpec]:
    """Hold a run for as long as the block lasts; yields its spec.

    Raises:
        UnknownJob: there is no such run, or none any more.
        CorruptJob: it is damaged.
        JobBusy: somebody else holds it, and does not come to an end.
        StorageFull: there is no room for the lock.
    """
    directory.read()
    with ExitStack() as stack:
        try:
            held = stack.enter_context(file_lock(directory.path / ".lock", wait_s=LOCK_WAIT_S))
        except FileNotFoundError:  # it was removed just now
            raise UnknownJob(directory.run_id) from None
        if held is None:
            raise JobBusy(directory.run_id)
        yield directory.read()  # for it may have been removed as we waited
