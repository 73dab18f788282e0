"""Answers are used again while the model is what it was, and it is known what it is."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.jobs.model import JobState
from penstock.jobs.row_request import CHAT
from penstock.jobs.sources import RowsSource
from penstock.jobs.workers import WorkerInfo
from penstock.jobs.workflow.asks import Answer, Ask
from penstock.jobs.workflow.cache import RowCache
from penstock.jobs.workflow.earlier_answers import EarlierAnswers
from penstock.jobs.workflow.model_revisions import ModelRevisions
from penstock.jobs.workflow.orders.orders import Answered
from penstock.jobs.workflow.runs.run_dir import RunDir
from penstock.jobs.workflow.runs.run_submission import RunRequest, submit_run
from penstock.jobs.workflow.runs.runs import RunSnapshot, read_run
from penstock.jobs.workflow.spec import Workflow

from ..idle_workers import idle_worker
from ..live import Live, live_queue, stop, wait_for

ASK = Ask("17", CHAT, "m", {"model": "m", "prompt": "hi", "seed": 1})
ANSWER = Answer(text="hello")


def worker(name: str, revision: str, model: str = "m", not_ready: str | None = None) -> WorkerInfo:
    return idle_worker(name, model, not_ready=not_ready, revision=revision)


def test_what_workers_agree_on_is_known() -> None:
    workers = [worker("a", "1"), worker("b", "1"), worker("c", "9", "other")]
    revisions = ModelRevisions(lambda: workers)
    assert revisions.of(["m", "other"]) == {}
    revisions.look()
    assert revisions.of(["m", "other", "third"]) == {"m": "1", "other": "9"}
    assert revisions.of(["m"]) == {"m": "1"}


def test_a_model_that_nobody_serves_is_as_it_was() -> None:
    workers = [worker("a", "1")]
    revisions = ModelRevisions(lambda: workers)
    revisions.look()
    workers.clear()
    revisions.look()
    assert revisions.of(["m"]) == {"m": "1"}
    workers.append(worker("b", "2"))
    revisions.look()
    assert revisions.of(["m"]) == {"m": "2"}


@pytest.mark.parametrize("other", ["2", ""], ids=["another", "unknown, of an older version"])
def test_where_workers_disagree_it_is_unknown(other: str) -> None:
    workers = [worker("a", "1"), worker("b", other)]
    revisions = ModelRevisions(lambda: workers)
    revisions.look()
    assert revisions.of(["m"]) == {}
    workers.pop()
    revisions.look()
    assert revisions.of(["m"]) == {"m": "1"}


def test_a_worker_that_cannot_serve_is_not_asked() -> None:
    workers = [worker("a", "1"), worker("b", "", not_ready="model_corrupt")]
    revisions = ModelRevisions(lambda: workers)
    revisions.look()
    assert revisions.of(["m"]) == {"m": "1"}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RowCache]:
    cache = RowCache.open(tmp_path, "acme")
    yield cache
    cache.close()


def asked(cache: RowCache, revisions: dict[str, str]) -> Ask | None:
    """Return the ask as it would go out; None if it is answered already."""
    answers: dict[str, Answer] = {}
    asks = EarlierAnswers(cache, revisions).find([ASK], answers)
    assert len(asks) + len(answers) == 1
    return asks[0] if asks else None


def test_an_answer_is_of_one_revision(cache: RowCache) -> None:
    ask = asked(cache, {"m": "1"})
    assert ask is not None
    EarlierAnswers(cache, {"m": "1"}).keep([Answered(ANSWER, ask.cache_key)], "m")
    assert asked(cache, {"m": "1"}) is None
    assert asked(cache, {"m": "2"}) is not None


def test_of_an_unknown_revision_nothing_is_used_or_kept(cache: RowCache) -> None:
    ask = asked(cache, {"m": "1"})
    assert ask is not None
    EarlierAnswers(cache, {}).keep([Answered(ANSWER, ask.cache_key)], "m")
    assert asked(cache, {"m": "1"}) is not None
    EarlierAnswers(cache, {"m": "1"}).keep([Answered(ANSWER, ask.cache_key)], "m")
    unknown = asked(cache, {})
    assert unknown is not None
    assert unknown.cache_key == ""
    EarlierAnswers(cache, {"m": "1"}).keep([Answered(ANSWER, None)], "m")


def test_what_an_exchanged_model_was_asked_before_is_not_kept(cache: RowCache) -> None:
    """Whether the old one or the new one has answered, nobody can tell."""
    ask = asked(cache, {"m": "1"})
    assert ask is not None
    EarlierAnswers(cache, {"m": "2"}).keep([Answered(ANSWER, ask.cache_key)], "m")
    assert asked(cache, {"m": "1"}) is not None
    assert asked(cache, {"m": "2"}) is not None


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with live_queue(tmp_path) as live:
        yield live


def run(live: Live, model: str) -> RunSnapshot:
    """Ask a model about 20 rows, and wait for its answers."""
    steps = [{"id": "idea", "type": "generate", "prompt": "[[say]]{{ row.topic }}!"}]
    workflow = {"name": "w", "inputs": {"topics": {}}, "defaults": {"model": model}, "steps": steps}
    rows = RowsSource([{"topic": f"topic {n}"} for n in range(20)])
    request = RunRequest(msgspec.convert(workflow, Workflow), {"topics": rows})
    begun = submit_run(live.settings, live.table, request)

    def probe() -> RunSnapshot | None:
        now = read_run(live.settings, live.table, begun.run_id)
        is_settled = begun.run_id not in RunDir.unsettled(live.settings.runs_dir)
        return now if now.state.is_final and is_settled else None

    return wait_for(probe, f"{begun.run_id} to end", 60.0)


def test_a_run_asks_anew_after_the_model_changed_under_its_name(live: Live, tmp_path: Path) -> None:
    file = tmp_path / "revision"
    model = f"fake:step_ms=1;tokens=64;revision={file}"
    for revision in ("old", "new"):
        file.write_text(revision)
        worker = live.start_worker(model)
        assert [info.revision for info in live.register.list()] == [revision]
        ended = run(live, model)
        assert (ended.state, ended.output_rows) == (JobState.COMPLETED, 20)
        assert ended.steps[0].cached_rows == 0
        if revision == "old":
            assert run(live, model).steps[0].cached_rows == 20
            stop(worker)
            live.workers.remove(worker)
