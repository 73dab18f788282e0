"""What a worker makes of an engine that dies, is damaged, or belongs to another version."""

import fcntl
import os
import re
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.crash_report import CrashReports, place_of, report_crashes
from penstock.jobs.engine_process import FIRST_PAUSE_S, LONGEST_PAUSE_S, SHORTEST_PAUSE_S
from penstock.jobs.events import JobEvents
from penstock.jobs.frames import VERSION, ModelTrouble, Ready
from penstock.jobs.redis_client import connect
from penstock.jobs.reporter import Reporter
from penstock.jobs.workers import WorkerRegister
from tests.waiting import PATIENCE_S

from .conftest import JobTable
from .engines import MODEL, generate


@pytest.mark.parametrize(
    ("word", "reason"), [("[[abort]]", "signal 6"), ("[[raise]]", "exit status 1")]
)
def test_an_engine_that_fails_is_never_used_again_and_says_where_it_was(
    engines: Any, word: str, reason: str
) -> None:
    engine, heard = engines()
    first = heard.next(Ready)
    engine.send(generate(word))
    loss = heard.losses.get(timeout=PATIENCE_S)
    assert (loss.process, loss.reason, loss.has_hung) == (first.pid, reason, False)
    assert re.fullmatch(rf"{reason} at fake_engine\.py:\d+ in _advance", str(loss))
    assert "_advance" in loss.report.read_text()
    assert heard.next(Ready).pid != first.pid


def test_an_engine_that_was_killed_has_nothing_to_report(engines: Any, tmp_path: Path) -> None:
    engine, heard = engines()
    heard.next(Ready)
    engine.send(generate("[[crash]]"))
    loss = heard.losses.get(timeout=PATIENCE_S)
    assert (loss.reason, loss.place, loss.report) == ("exit status 1", None, None)
    heard.next(Ready)
    engine.stop()
    assert not list((tmp_path / "crashes").iterdir())


def test_a_damaged_model_is_waited_for_and_the_worker_says_so(
    engines: Any, tmp_path: Path, table: JobTable, settings: Any
) -> None:
    weights = tmp_path / "weights"
    weights.write_text("rotten")
    model = f"fake:weights={weights}"
    engine, heard = engines(model)
    assert "damaged" in heard.losses.get(timeout=PATIENCE_S).reason
    assert engine.trouble == f"model_corrupt: cannot serve {model!r}: {weights} is damaged"
    client = connect(settings)
    register = WorkerRegister(client, table.keys)
    reporter = Reporter(register, JobEvents(client, table.keys), engine, model, "w1")
    reporter._report()
    (info,) = register.list()
    assert info.not_ready == engine.trouble and info.is_draining and info.proved_at_ms == 0
    weights.write_text("sound")
    heard.next(Ready)
    assert engine.trouble is None and heard.unusable.empty()


def test_a_worker_that_penstock_was_replaced_under_is_told_to_start_again(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.engine_process.VERSION", VERSION - 1)
    _, heard = engines()
    unusable = heard.unusable.get(timeout=PATIENCE_S)
    assert unusable.trouble is ModelTrouble.OUTDATED
    assert "start the worker again" in unusable.message
    assert heard.losses.empty()


def test_pauses_grow_only_while_nothing_is_gained(engines: Any) -> None:
    engine, heard = engines(MODEL)
    heard.next(Ready)

    def pauses(num: int, *, was_ready: bool, has_made: bool) -> list[float]:
        engine._was_ready, engine._has_made_something = was_ready, has_made
        return [engine._next_pause_s() for _ in range(num)]

    doubling = [FIRST_PAUSE_S * 2**number for number in range(5)]
    assert pauses(7, was_ready=False, has_made=False) == [*doubling, *[LONGEST_PAUSE_S] * 2]
    assert pauses(2, was_ready=True, has_made=True) == [SHORTEST_PAUSE_S] * 2
    # As many crashes as it takes to find a row that kills do not slow the search down.
    crashes = pauses(8, was_ready=True, has_made=False)
    assert crashes == [*[FIRST_PAUSE_S] * 6, *doubling[1:3]]


def test_few_and_small_reports_are_kept(tmp_path: Path) -> None:
    reports = CrashReports(tmp_path / "crashes", "w1")
    kept = []
    for number in range(25):
        path = reports.begin()
        assert path is not None
        path.write_text(f"{number}\n" + "x" * 300_000)
        os.utime(path, (number, number))
        kept.append(reports.take(path))
        assert not path.exists() and path.name.startswith(".")
    left = sorted((tmp_path / "crashes").iterdir())
    assert len(left) == 20 and all(path.stat().st_size == 256 * 1024 for path in left)
    assert kept[-1] in left
    empty = reports.begin()
    assert reports.take(empty) is None and empty is not None and not empty.exists()
    assert reports.take(None) is None


def test_who_starts_next_clears_up_after_workers_that_were_killed(tmp_path: Path) -> None:
    killed, crashes = CrashReports(tmp_path / "crashes", "killed"), tmp_path / "crashes"
    silent, telling, young, alive = (killed.begin() for _ in range(4))
    assert silent is not None and telling is not None and young is not None and alive is not None
    telling.write_text("where it stood")
    with alive.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        for path in (silent, telling, alive):
            os.utime(path, (1, 1))
        begun = CrashReports(crashes, "next").begin()
        assert begun is not None
        told = crashes / telling.name.removeprefix(".")
        assert set(crashes.iterdir()) == {told, young, alive, begun}
    assert told.read_text() == "where it stood"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("faulthandler.enable", lambda *_, **__: None)
        patch.setattr("faulthandler.register", lambda *_, **__: None)
        with report_crashes(young):  # as the process does that lives
            os.utime(young, (1, 1))
            CrashReports(crashes, "another").begin()
            assert young.exists()


def test_a_directory_that_cannot_be_written_costs_only_reports(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "crashes").touch()
    assert CrashReports(tmp_path / "crashes", "w1").begin() is None
    assert "crashes cannot be reported" in caplog.text
    assert place_of(None) is None and place_of(tmp_path / "none") is None
