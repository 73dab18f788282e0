"""The counting itself: an outsider's ledger must see what is wrong, or it proves nothing."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from penstock.engine.outputs import Request
from penstock.jobs.fake_engine import FakeEngine, FakeModel, expected_text
from penstock.jobs.model import SamplingParams

from .ledger import Ledger, Order
from .report import BEGIN, END, put_into, read_records, table, write_records
from .scene import Record
from .work import LATE_S, Work

ORDER = Order(rows=4, seed=1, tokens=2)
Writer = Callable[..., Ledger]


def row(index: int, **fields: Any) -> dict[str, Any]:
    prompt = ORDER.prompt(index)
    answer = expected_text(prompt, num_tokens=ORDER.tokens)
    whole = {"row_index": index, "sample_index": 0, "text": prompt, "output": answer}
    return {**whole, "status": "succeeded", "error": "", **fields}


def told(status: str = "completed", **counts: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("pending", "running", "succeeded", "failed", "rejected"), 0)
    return {"status": status, "counts": {**nothing, "total": 4, **counts}}


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def write(rows: Sequence[dict[str, Any]], order: Order = ORDER) -> Ledger:
        (tmp_path / "rows").mkdir()
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / "rows" / "part-000000.parquet")
        (tmp_path / "_SUCCESS").touch()
        return Ledger("job_1", order, tmp_path)

    return write


def test_a_whole_job_is_clean(write: Writer) -> None:
    ledger = write([row(index) for index in range(4)])
    ledger.look(told("running", pending=4))
    ledger.look(told(succeeded=4))
    verdict = ledger.verdict()
    assert (verdict.acked, verdict.terminal, verdict.violations) == (4, 4, ())
    assert (verdict.lost, verdict.duplicated, verdict.innocent, verdict.wrong) == (0, 0, 0, 0)


def test_what_is_missing_doubled_failed_and_wrong_is_counted(write: Writer) -> None:
    bad = [row(0), row(0), row(1, status="failed", output=None), row(2, output="made up")]
    verdict = write(bad).verdict()
    assert (verdict.lost, verdict.duplicated, verdict.innocent, verdict.wrong) == (1, 1, 1, 1)


def test_a_row_at_fault_may_fail_and_must(write: Writer) -> None:
    order = Order(rows=4, seed=1, tokens=2, poisoned=frozenset({0, 1}))
    spared = row(0, text=order.prompt(0), output=expected_text(order.prompt(0), num_tokens=2))
    ledger = write([spared, row(1, status="failed"), row(2), row(3)], order)
    verdict = ledger.verdict()
    assert verdict.innocent == 0
    assert any("did not fail: [0]" in violation for violation in verdict.violations)


@pytest.mark.parametrize(
    ("looks", "rule"),
    [
        ([told("running", pending=3)], "do not add up"),
        ([told("running", succeeded=4), told("running", succeeded=3, pending=1)], "fell from 4"),
        ([told("landing", succeeded=4), told("running", succeeded=4)], "went back"),
        ([told(succeeded=4)], "completed with 3 of 4"),
    ],
)
def test_a_status_that_lies_is_noticed(
    write: Writer, looks: list[dict[str, Any]], rule: str
) -> None:
    ledger = write([row(index) for index in range(3)])
    for look in looks:
        ledger.look(look)
    assert any(rule in violation for violation in ledger.violations), ledger.violations


def test_completed_before_its_mark_and_unknown_are_noticed(write: Writer, tmp_path: Path) -> None:
    ledger = write([row(index) for index in range(4)])
    (tmp_path / "_SUCCESS").unlink()
    ledger.look(told(succeeded=4))
    ledger.miss(404)
    ledger.miss(503)  # away is not unknown
    assert ledger.violations == ["I7 completed before _SUCCESS", "I7 an accepted job is unknown"]


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """What two engines note that ran the same two rows, and one that began a chat."""
    path = tmp_path / "journal"
    model = FakeModel(step_ms=0, tokens=2, journal=str(path))
    for ids in (["job_1/0.1/0", "job_1/0.1/1"], ["job_1/0.2/0", "job_1/0.2/1"], ["a-chat"]):
        engine = FakeEngine(model, slots=4)
        for request_id in ids:
            engine.add(Request(request_id, (97,), SamplingParams(max_tokens=2)))
        while engine.has_work:
            engine.step()
    return path


def test_the_engine_notes_what_it_begins_and_ends(journal: Path) -> None:
    lines = [line.split() for line in journal.read_text().splitlines()]
    assert len(lines) == 10
    assert [line[1:] for line in lines].count(["end", "job_1/0.2/1", "2"]) == 1
    assert [line[1] for line in lines[-2:]] == ["begin", "end"]


def test_rows_begun_again_are_counted(journal: Path, tmp_path: Path) -> None:
    work = Work(journal, 0, {"job_1": tmp_path / "job_1"})
    assert (work.num_again(), work.num_late()) == (2, 0)


def test_rows_begun_long_after_their_part_are_counted(journal: Path, tmp_path: Path) -> None:
    home = tmp_path / "job_1"
    (home / "rows").mkdir(parents=True)
    (home / "rows" / "part-000000.parquet").touch()
    assert Work(journal, 0, {"job_1": home}).num_late() == 0
    late = _shifted(journal, by_ns=int(100 * LATE_S * 1e9))
    assert Work(late, 0, {"job_1": home}).num_late() == 4


def test_how_long_rows_in_flight_took_to_land(journal: Path, tmp_path: Path) -> None:
    home = tmp_path / "job_1"
    (home / "rows").mkdir(parents=True)
    (home / "rows" / "part-000000.parquet").touch()
    before = _shifted(journal, by_ns=-int(60e9))
    struck_ns = int(before.read_text().splitlines()[-1].split()[0])
    held_s = Work(before, 0, {"job_1": home}).held_s(struck_ns)
    assert held_s is not None
    assert held_s > 50
    assert Work(before, 0, {"job_1": home}).held_s(0) is None  # nothing had begun by then


def _shifted(journal: Path, by_ns: int) -> Path:
    path = journal.with_name("shifted")
    lines = [line.split(" ", 1) for line in journal.read_text().splitlines()]
    path.write_text("".join(f"{int(at) + by_ns} {rest}\n" for at, rest in lines))
    return path


def test_records_survive_their_file_and_fill_the_page(tmp_path: Path) -> None:
    record = Record(
        fault="F07", title="worker killed", seed=1, rows=10, acked=10, terminal=9, lost=1,
        duplicated=0, innocent=0, wrong=0, redone=0, recomputed_tokens=20, engine_starts=1,
        unanswered_polls=0, t_first_s=1.25, t_held_s=None, t95_s=None, took_s=2.0,
        notes={"a": 1}, violations=[],
    )  # fmt: skip
    assert not record.is_clean
    write_records(tmp_path / "out" / "runs.jsonl", [record])
    assert read_records(tmp_path / "out" / "runs.jsonl") == [record]
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nafter{os.linesep}")
    put_into(page, table([record, record]))
    text = page.read_text()
    assert "old" not in text
    assert "| F07 worker killed | 2 | 20 | 2 | 0 |" in text
    assert "2.00 tokens/row | 2 | 1.2 s | - |" in text
    assert text.startswith("# Before\n")
    page.write_text("no markers")
    with pytest.raises(ValueError, match="needs the lines"):
        put_into(page, "x")
