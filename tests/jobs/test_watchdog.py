"""The watch over an engine that stands still, by a worker that may have stood still itself."""

import time
from typing import Any

import pytest

from penstock.jobs.engine_process import LOAD_LIMIT_S, EngineProcess
from penstock.jobs.settings import Settings


class Link:
    """A connection to an engine that says nothing."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def engine(settings: Settings) -> EngineProcess:
    def ignore(_: Any) -> None: ...

    return EngineProcess(
        settings, "fake:", "w1", on_frame=ignore, on_lost=ignore, on_unusable=ignore
    )


def test_a_worker_that_was_stopped_does_not_blame_its_engine(engine: EngineProcess) -> None:
    link: Any = Link()
    engine._link = link
    engine._moved_at_s = engine._watched_at_s = time.monotonic() - 2 * LOAD_LIMIT_S
    engine._watch()
    assert not link.is_closed
    engine._moved_at_s = time.monotonic() - 2 * LOAD_LIMIT_S  # and we have been looking all along
    engine._watch()
    assert link.is_closed
