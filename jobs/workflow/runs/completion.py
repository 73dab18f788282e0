"""How a run whose output has landed ends: read again, told of, copied. No table here."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

from ...durable import StorageFull, may_exist
from ...found_part import set_aside
from ...model import JobState
from ...object_store import ObjectStore, StorePlace, StoreUnavailable
from ...publishing import FileFacts, publish_files
from ...settings import Settings
from ..plan import Plan
from .report import RunReport
from .run_dir import RunDir
from .run_manifest import LandedOutput, OutputPart, read_output, write_run_manifest
from .run_results import RunResults
from .run_spec import RunSpec

RETRY_S = 5.0
READING_S = 0.05  # a small output is read by then, and its run ends at once

logger = logging.getLogger(__name__)


class Completion:
    """Completes one run, a little each time that it is asked to.

    Neither the disk nor a store is waited for, and what is done is not done again because of what
    comes after it.

    Attributes:
        trouble: what holds it up.
        lost: parts of the output that were found damaged just now, and must land again.
    """

    def __init__(self, settings: Settings, spec: RunSpec, plan: Plan) -> None:
        self.trouble: str | None = None
        self.lost: Sequence[int] = ()
        self._settings = settings
        self._spec = spec
        self._plan = plan
        self._output = RunResults.of(spec).output
        self._reading: Future[LandedOutput] | None = None
        self._parts: Sequence[OutputPart] | None = None  # once all are as they should be
        self._files: dict[str, FileFacts] | None = None  # once the manifest tells of them
        self._copying: Future[bool] | None = None
        self._is_closed = threading.Event()
        self._retry_at_s = 0.0

    def go_on(self, state: JobState, report: RunReport, num_parts: int) -> bool:
        """Do what can be done now; returns whether the run may end.

        So many parts of the output have landed: somebody may have set one aside since.
        """
        self.lost = ()
        if time.monotonic() < self._retry_at_s:
            return False
        try:
            is_complete = self._go_on(state, report, num_parts)
        except StoreUnavailable as error:
            return self._try_later(f"store_unavailable: {error}")
        except StorageFull as error:
            return self._try_later(f"storage_full: {error}")
        except OSError as error:
            return self._try_later(f"storage_unavailable: {error}")
        if is_complete:
            self.trouble = None
        return is_complete

    def close(self) -> None:
        """Let somebody else go on."""
        self._is_closed.set()

    def withdraw(self) -> None:
        """Call nothing complete of a run that has ended in another way."""
        self.close()
        self._output.success.unlink(missing_ok=True)

    def _go_on(self, state: JobState, report: RunReport, num_parts: int) -> bool:
        if self._parts is None:
            self._parts = self._read(num_parts)
        if self._parts is None:
            return False
        if self._files is None:
            self._files = write_run_manifest(self._spec, self._plan, state, report, self._parts)
        return self._spec.out_url is None or self._is_copied(self._spec.out_url, self._files)

    def _read(self, num_parts: int) -> Sequence[OutputPart] | None:
        """Return all parts once they have been read, and were as they should be."""
        if self._reading is None:
            self._reading = _beside("reader", lambda: read_output(self._spec, num_parts))
            wait([self._reading], READING_S)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        output = reading.result()
        for index in output.damaged:
            if may_exist(self._output.part(index)):
                set_aside(self._output, index)
        self.lost = output.damaged
        return None if output.damaged else output.parts

    def _is_copied(self, url: str, files: dict[str, FileFacts]) -> bool:
        if self._copying is None:
            place = StorePlace.parse(f"{url}/{self._spec.run_id}")
            store = ObjectStore(place, self._settings.s3_endpoint)
            self._copying = _beside(
                "publisher", lambda: publish_files(store, self._output, files, self._is_wanted)
            )
        if not self._copying.done():
            return False
        copying, self._copying = self._copying, None
        if not copying.result():  # somebody else is at it
            self._retry_at_s = time.monotonic() + RETRY_S
            return False
        return True

    def _is_wanted(self) -> bool:
        directory = RunDir(self._settings.runs_dir, self._spec.run_id)
        return not self._is_closed.is_set() and directory.read_final() is None

    def _try_later(self, trouble: str) -> bool:
        if trouble != self.trouble:
            logger.warning("%s cannot be completed yet: %s", self._spec.run_id, trouble)
        self.trouble = trouble
        self._retry_at_s = time.monotonic() + RETRY_S
        return False


def _beside(name: str, work: Callable[[], Any]) -> "Future[Any]":
    """Do something in a thread of its own, for which the interpreter does not wait at its end."""
    future: Future[Any] = Future()

    def do() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # of whatever kind: whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=do, name=name, daemon=True).start()
    return future
