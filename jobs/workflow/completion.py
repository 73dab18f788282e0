"""How a run whose output has landed ends: read again, told of, copied. No table here."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from ..durable import StorageFull
from ..found_part import set_aside
from ..model import JobState
from ..object_store import ObjectStore, StorePlace, StoreUnavailable
from ..publishing import publish_files
from ..settings import Settings
from .plan import Plan
from .report import RunReport
from .run_dir import RunResults, RunSpec
from .run_manifest import damaged_parts, write_run_manifest

STORE_RETRY_S = 5.0

logger = logging.getLogger(__name__)


class Completion:
    """Completes one run, a little each time that it is asked to; it never waits for a store.

    Attributes:
        trouble: what holds it up.
        lost: parts of the output that were found damaged, and must land again.
    """

    def __init__(self, settings: Settings, spec: RunSpec, plan: Plan) -> None:
        self.trouble: str | None = None
        self.lost: list[int] = []
        self._settings = settings
        self._spec = spec
        self._plan = plan
        self._output = RunResults.of(spec).output
        self._copying: Future[bool] | None = None
        self._retry_at_s = 0.0

    def go_on(self, state: JobState, report: RunReport, num_parts: int) -> bool:
        """Do what can be done now; returns whether the run may end.

        So many parts of the output have landed: somebody may have set one aside since.

        Raises:
            StorageFull: there is no room for the manifest; try again later.
        """
        if self._copying is not None:
            return self._is_copied(self._copying)
        if time.monotonic() < self._retry_at_s:
            return False
        self.lost = damaged_parts(self._spec, num_parts)
        for index in self.lost:
            set_aside(self._output, index)
        if self.lost:
            return False
        files = write_run_manifest(self._spec, self._plan, state, report)
        if self._spec.out_url is None:
            return True
        place = StorePlace.parse(f"{self._spec.out_url}/{self._spec.run_id}")
        store = ObjectStore(place, self._settings.s3_endpoint)
        thread = ThreadPoolExecutor(1, "publisher")
        self._copying = thread.submit(publish_files, store, self._output, files)
        thread.shutdown(wait=False)
        return False

    def _is_copied(self, copying: "Future[bool]") -> bool:
        if not copying.done():
            return False
        self._copying = None
        self._retry_at_s = time.monotonic() + STORE_RETRY_S
        try:
            return copying.result()
        except (StoreUnavailable, StorageFull, OSError) as error:
            self.trouble = f"store_unavailable: {error}"
            logger.warning("%s cannot be copied yet: %s", self._spec.run_id, error)
            return False
