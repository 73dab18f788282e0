"""What is told of a run: seldom, only what has moved, and again when Redis may have lost it."""

import pytest
import redis

from penstock.jobs.events import JobEvents
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.workflow.runs import telling
from penstock.jobs.workflow.runs.report import RunReport, StepProgress
from penstock.jobs.workflow.runs.telling import RunNews, read_news

IDLE = RunReport(JobState.RUNNING, (StepProgress("said", "generate", "waiting"),))
BUSY = RunReport(JobState.RUNNING, (StepProgress("said", "generate", "running", rows_in=3),))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def news(table: JobTable, clock: Clock) -> RunNews:
    return RunNews(table, JobEvents(table.redis, table.keys), "run_1", clock)


def test_what_redis_has_lost_is_said_again_though_it_has_not_changed(
    news: RunNews, table: JobTable, clock: Clock
) -> None:
    for _ in range(100):  # looked after all the time
        news.tell(IDLE)
        clock.now_s += 1.0
    table.redis.delete(table.keys.run("run_1"))
    news.tell(IDLE)
    clock.now_s += telling._SAID_AGAIN_S
    news.tell(IDLE)
    assert read_news(table, "run_1") == IDLE


def test_what_has_not_changed_is_said_once(news: RunNews, table: JobTable, clock: Clock) -> None:
    news.tell(IDLE)
    table.redis.delete(table.keys.run("run_1"))
    clock.now_s += 1.0
    news.tell(IDLE)
    assert read_news(table, "run_1") is None
    clock.now_s += 0.1
    news.tell(BUSY)
    assert read_news(table, "run_1") is None, "too soon"
    news.tell(BUSY, at_once=True)
    assert read_news(table, "run_1") == BUSY


def test_what_redis_would_not_take_is_said_at_the_next_look(
    news: RunNews, table: JobTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise redis.ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(table.redis, "set", away)
        with pytest.raises(redis.ConnectionError):
            news.tell(BUSY)
    clock.now_s += 1.0
    news.tell(BUSY)
    assert read_news(table, "run_1") == BUSY
