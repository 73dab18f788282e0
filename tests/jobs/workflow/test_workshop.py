"""Processes that are lost over a piece of work: who is to blame, and what is done about it."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import pytest

from penstock.jobs.settings import InvalidSetting, Settings
from penstock.jobs.worker import run_worker
from penstock.jobs.workflow.runs.run_results import RunResults
from penstock.jobs.workflow.work import Broken, Compute, Gather, Made, Outcome
from penstock.jobs.workflow.workshop import last_words, workshop
from penstock.jobs.workflow.workshop.shard_file import read_shard
from penstock.jobs.workflow.workshop.workshop import Workshop

from ..live import wait_for
from .test_workbench import RUN_ID, sealed

MAPPED = [
    {"id": "d", "type": "map", "op": "act"},
    {"id": "plain", "type": "map", "set": {"x": "1"}, "from": "inputs.rows"},
    {"id": "once", "type": "dedupe", "key": "{{ row.t }}", "from": "d"},
]
PIECE = Compute(RUN_ID, "d", 0)
PLAIN = Compute(RUN_ID, "plain", 0)

Shop = Callable[..., Workshop]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Make a workshop at whose processes the operation `act` has the given body."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    opened: list[Workshop] = []

    def make(
        body: str = "return 1", texts: Sequence[str | None] = ("a",), **settings: int
    ) -> Workshop:
        operation = f"import os, resource, signal, sys, time\ndef act(row):\n    {body}\n"
        (tmp_path / "acting.py").write_text(operation, encoding="utf-8")
        sealed(tmp_path, MAPPED, list(texts))
        opened.append(Workshop(tmp_path, operations=["act=acting:act"], **settings))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def done(shop: Workshop, *pieces: Compute) -> list[Outcome]:
    return [shop.submit(piece).result(60) for piece in pieces]


def mapped(data: Path) -> list[object]:
    place = RunResults(data / "out", RUN_ID).step("d")
    return [row.values["d"] for row in read_shard(place.part(0), {"d": "json"})]


def killing(times: int, data: Path) -> str:
    """Kill the process, but not more often than so many times."""
    return (
        f"n = len(os.listdir({str(data / 'killed')!r}))\n"
        f"    if n < {times}:\n"
        f"        open({str(data / 'killed')!r} + f'/{{n}}', 'w').close()\n"
        f"        os.kill(os.getpid(), signal.SIGKILL)\n"
        f"    return n"
    )


def test_a_process_that_somebody_killed_is_no_fault_of_the_piece(
    shop: Shop, tmp_path: Path
) -> None:
    (tmp_path / "killed").mkdir()
    killed = shop(killing(2, tmp_path))
    first, second, third = done(killed, PIECE, PIECE, PIECE)
    for number, outcome in enumerate((first, second), 1):
        assert isinstance(outcome, Broken)
        assert not outcome.is_lasting
        assert "shard 0 of step d" in outcome.message
        assert f"SIGKILL), time {number} of 3" in outcome.message
    assert isinstance(third, Made)
    assert mapped(tmp_path) == [2]


def test_a_piece_over_which_three_processes_died_is_broken(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    killed = shop(killing(100, tmp_path))
    outcomes = done(killed, PIECE, PLAIN, PIECE, PLAIN, PIECE)
    assert [isinstance(each, Made) for each in outcomes] == [False, True, False, True, False]
    told = [each.is_lasting for each in outcomes if isinstance(each, Broken)]
    assert told == [False, False, True]


def test_a_piece_that_is_done_starts_anew(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "killed").mkdir()
    killed = shop(killing(2, tmp_path))
    done(killed, PIECE, PIECE, PIECE)
    for path in (tmp_path / "killed").iterdir():
        path.unlink()
    RunResults(tmp_path / "out", RUN_ID).remove()
    again = done(killed, PIECE)[0]
    assert isinstance(again, Broken)
    assert not again.is_lasting


def test_want_of_memory_is_tried_three_times_in_fresh_processes(shop: Shop) -> None:
    full = shop(
        "sys.modules['penstock.jobs.workflow.computing.local'].apply = full\n"
        "def full(*_):\n    raise MemoryError"
    )
    prepared, *outcomes = done(full, PIECE, PLAIN, PIECE, PLAIN, PIECE, PLAIN)
    assert isinstance(prepared, Made)  # from here on this process has no memory; the next one has
    told = [each for each in outcomes if isinstance(each, Broken)]
    assert [each.is_lasting for each in told] == [False, False, True]
    assert all("shard 0 of step plain took more memory" in each.message for each in told)


def test_what_takes_too_long_is_broken_at_once(shop: Shop) -> None:
    with mock.patch.object(workshop, "SHARD_S", 2.0):
        slow = shop("time.sleep(600)")
        (outcome,) = done(slow, PIECE)
    assert outcome == Broken("shard 0 of step d took more than 2 s", is_lasting=True)


def test_what_was_meant_for_its_parent_ends_no_process(shop: Shop, tmp_path: Path) -> None:
    deaf = shop("os.kill(os.getpid(), signal.SIGTERM); os.kill(os.getpid(), signal.SIGINT)")
    assert isinstance(done(deaf, PIECE)[0], Made)


def test_operations_may_print_and_read(shop: Shop, tmp_path: Path) -> None:
    loud = shop(
        "print('scoring', row, flush=True); os.write(1, b'x' * 64); return sys.stdin.read()",
        ["a", "b"],
    )
    assert isinstance(done(loud, PIECE)[0], Made)
    assert mapped(tmp_path) == ["", ""]
    assert isinstance(done(loud, PLAIN)[0], Made)


def test_an_operation_that_cannot_be_imported_breaks_only_who_names_it(
    shop: Shop, tmp_path: Path
) -> None:
    shop()
    lacking = Workshop(tmp_path, operations=["act=no_such_module:act"])
    try:
        missing, made = done(lacking, PIECE, PLAIN)
    finally:
        lacking.close()
    assert isinstance(missing, Broken)
    assert missing.is_lasting
    assert "'act'" in missing.message
    assert isinstance(made, Made)


def test_a_worker_does_not_start_with_operations_that_cannot_be_imported() -> None:
    settings = Settings(workflow_ops=("act=no_such_module:act",))
    with pytest.raises(InvalidSetting, match=r"PENSTOCK_WORKFLOW_OPS.*no_such_module"):
        run_worker(settings, "fake")


def test_a_shard_does_not_wait_behind_all_rows(shop: Shop, tmp_path: Path) -> None:
    both = shop()
    source = RunResults(tmp_path / "out", RUN_ID).step("d")
    source.create()
    os.mkfifo(source.part(0))  # whoever reads it waits for somebody to write
    gathers = [both.submit(Gather(RUN_ID, "once", (1,))) for _ in range(3)]
    wait_for(gathers[0].running, "the first to begin")
    assert isinstance(done(both, PLAIN)[0], Made)
    assert not any(each.done() for each in gathers)


def test_a_piece_that_nobody_wants_is_ended_alone(shop: Shop) -> None:
    slow = shop("time.sleep(600)")
    doomed = slow.submit(PIECE)
    wait_for(doomed.running, "the piece to begin")
    slow.stop("run_2")
    wait_for(lambda: slow.stop(RUN_ID) or doomed.done(), "the piece to end")
    outcome = doomed.result()
    assert isinstance(outcome, Broken)
    assert not outcome.is_lasting
    assert isinstance(done(slow, PLAIN)[0], Made)


def test_a_closed_workshop_leaves_no_process(shop: Shop) -> None:
    slow = shop("time.sleep(600)")
    doomed = slow.submit(PIECE)
    wait_for(doomed.running, "the piece to begin")
    slow.close()
    assert isinstance(doomed.result(60), Broken)


def test_the_last_words_of_a_process_are_told(
    shop: Shop, capfd: pytest.CaptureFixture[str]
) -> None:
    dying = shop("print('code is gone\\n', file=sys.stderr)\n    os._exit(5)")
    with mock.patch.object(last_words, "_LINGER_S", 60.0):
        (outcome,) = done(dying, PIECE)
    assert isinstance(outcome, Broken)
    assert "(status 5), which said at last: code is gone, time 1 of 3" in outcome.message
    assert "code is gone" in capfd.readouterr().err, "whoever reads the log reads it, too"


def test_its_processes_know_no_key_of_ours_go_first_and_have_a_bound(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://:secret@redis")
    monkeypatch.setenv("PENSTOCK_API_KEY", "secret")
    monkeypatch.setenv("THEIR_KEY", "theirs")
    looking = shop(
        "return [*[name for name, value in os.environ.items() if 'secret' in value], "
        "os.environ['THEIR_KEY'], int(open('/proc/self/oom_score_adj').read()), "
        "*resource.getrlimit(resource.RLIMIT_AS)]",
        max_memory_bytes=3 << 30,
    )
    assert isinstance(done(looking, PIECE)[0], Made)
    assert mapped(tmp_path) == [["theirs", 1000, 3 << 30, 3 << 30]]
