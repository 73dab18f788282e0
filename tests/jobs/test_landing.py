import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from penstock.jobs import durable
from penstock.jobs.found_part import found_counts, set_aside
from penstock.jobs.landing import CorruptPart, LandedRow, StorageFull, land, part_counts
from penstock.jobs.model import ColumnType, JobSpec, RequestError, RowStatus
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.row_schema import OUR_COLUMNS, landed_names, row_schema

from .conftest import SpecMaker, flipped


def rows_of(spec: JobSpec, index: int, **fields: Any) -> list[LandedRow]:
    first = index * spec.shard_rows
    last = min(first + spec.shard_rows, spec.num_rows)
    values = {"status": RowStatus.SUCCEEDED, "output": "x", "columns": {"text": "t"}, **fields}
    return [LandedRow(row_index=i, custom_id=f"r{i}", **values) for i in range(first, last)]


def test_a_part_holds_every_column_and_its_counts(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=3, shard_rows=4)
    rows = rows_of(spec, 0, prompt_tokens=5, completion_tokens=2, cached_tokens=1)
    rows[1] = LandedRow(
        row_index=1,
        custom_id=None,
        status=RowStatus.FAILED,
        error=RequestError("engine_error", "no \ud800 luck", retryable=True),
        prompt_tokens=4,
        attempts=2,
        worker="gpu0",
        queued_at_ms=1_000,
        started_at_ms=2_000,
        finished_at_ms=3_500,
        columns={"text": None},
    )
    counts = land(spec, 0, 7, rows[::-1])  # in whatever order they finished
    errors = {"engine_error": 1}
    assert counts == PartCounts(3, 1, 14, 4, 2, attempt=7, started_at_ms=2_000, errors=errors)
    part = ResultsDir.of(spec).part(0)
    assert part_counts(part) == counts
    table = pq.read_table(part, page_checksum_verification=True)
    assert table.schema.equals(row_schema(spec))
    assert table.schema.names == [*OUR_COLUMNS.names, "text"]
    assert table["row_index"].to_pylist() == [0, 1, 2]
    row = table.to_pylist()[1]
    assert row["row_id"] == f"{spec.job_id}/1/0"
    assert row["error"]["message"] == "no ? luck"  # UTF-8 cannot hold half a character
    assert (row["status"], row["attempts"], row["latency_ms"]) == ("failed", 2, 1_500)
    assert row["started_at"].timestamp() == 2.0
    assert list(ResultsDir.of(spec).temporary.iterdir()) == []


def test_common_readers_read_the_rows_folder(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=10, shard_rows=4)
    for index in range(3):
        land(spec, index, 1, rows_of(spec, index))
    rows = ResultsDir.of(spec).rows
    assert ds.dataset(rows).to_table()["row_index"].to_pylist() == list(range(10))
    assert list(pd.read_parquet(rows)["output"]) == ["x"] * 10


def test_the_users_columns_keep_their_types_and_their_names(make_spec: SpecMaker) -> None:
    columns = {
        "flag": ColumnType.BOOL,
        "count": ColumnType.INT,
        "ratio": ColumnType.FLOAT,
        "anything": ColumnType.JSON,
        "status": ColumnType.STRING,
        "input_status": ColumnType.STRING,
    }
    spec = make_spec(num_rows=2, shard_rows=2, columns=columns)
    names = landed_names(spec)
    assert names["status"] == "input_input_status"
    assert names["input_status"] == "input_status"
    own = {"flag": True, "count": 2**40, "ratio": 1, "anything": {"a": [1]}, "status": "mine"}
    rows = rows_of(spec, 0, columns=own)
    rows[1] = LandedRow(1, None, RowStatus.SUCCEEDED, columns={"anything": "text"})
    land(spec, 0, 1, rows)
    first, second = pq.read_table(ResultsDir.of(spec).part(0)).to_pylist()
    assert (first["flag"], first["count"], first["ratio"]) == (True, 2**40, 1.0)
    assert json.loads(first["anything"]) == {"a": [1]}
    assert (first["status"], first["input_input_status"]) == ("succeeded", "mine")
    assert (second["flag"], json.loads(second["anything"])) == (None, "text")


def test_samples_are_rows_and_a_prompt_is_paid_for_once(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=1, shard_rows=4)
    samples = [
        LandedRow(
            0,
            None,
            RowStatus.FAILED if sample == 2 else RowStatus.SUCCEEDED,
            sample_index=sample,
            prompt_tokens=10,
            completion_tokens=3,
            cached_tokens=4,
        )
        for sample in range(3)
    ]
    counts = land(spec, 0, 1, samples)
    assert (counts.rows, counts.failed) == (1, 1)
    assert (counts.prompt_tokens, counts.completion_tokens, counts.cached_tokens) == (10, 9, 4)
    assert pq.read_metadata(ResultsDir.of(spec).part(0)).num_rows == 3


def test_only_a_whole_shard_lands(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=10, shard_rows=4)
    with pytest.raises(ValueError, match="has 4 rows, got 3"):
        land(spec, 0, 1, rows_of(spec, 0)[:3])
    with pytest.raises(ValueError, match="has 2 rows, got 4"):
        land(spec, 2, 1, rows_of(spec, 0))
    with pytest.raises(ValueError, match="twice"):
        land(spec, 0, 1, rows_of(spec, 0) + rows_of(spec, 0)[:1])
    assert ResultsDir.of(spec).parts() == {}


def test_the_part_that_is_there_wins(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=4, shard_rows=4)
    first = land(spec, 0, 1, rows_of(spec, 0, output="first", completion_tokens=1))
    again = land(spec, 0, 2, rows_of(spec, 0, output="second", completion_tokens=2))
    assert again == first
    assert set(pq.read_table(ResultsDir.of(spec).part(0))["output"].to_pylist()) == {"first"}


def _race(spec: JobSpec, attempt: int, start: Any, answers: Any) -> None:
    start.wait()
    winners: list[int] = []
    for index in range(spec.num_shards):
        rows = rows_of(spec, index, output=f"by {attempt}", completion_tokens=attempt)
        winners.append(land(spec, index, attempt, rows).attempt)
    answers.put(winners)


def test_of_racing_writers_one_wins_whole_and_the_others_know(make_spec: SpecMaker) -> None:
    """Real processes, many shards: the link decides, and every loser reports the winner."""
    context = multiprocessing.get_context("spawn")
    spec = make_spec(num_rows=100, shard_rows=4)
    start, answers = context.Event(), context.Queue()
    racers = [context.Process(target=_race, args=(spec, a, start, answers)) for a in (1, 2)]
    for racer in racers:
        racer.start()
    start.set()
    told = [answers.get(timeout=120) for _ in racers]
    for racer in racers:
        racer.join()
    assert told[0] == told[1]
    parts = ResultsDir.of(spec).parts()
    assert list(parts) == list(range(spec.num_shards))
    for index, winner in enumerate(told[0]):
        assert pq.read_table(parts[index])["output"].to_pylist() == [f"by {winner}"] * 4
        assert part_counts(parts[index]).completion_tokens == 4 * winner
    assert list(ResultsDir.of(spec).temporary.iterdir()) == []


def test_a_writer_that_lost_at_the_link_reports_the_winner(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The narrow window: both saw no part, both wrote, one link fails."""
    spec = make_spec(num_rows=4, shard_rows=4)
    real_link = os.link
    won: list[PartCounts] = []

    def link_after_the_other(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", real_link)
        won.append(land(spec, 0, 1, rows_of(spec, 0, output="first")))
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_after_the_other)
    counts = land(spec, 0, 2, rows_of(spec, 0, output="second"))
    assert [counts] == won
    assert counts.attempt == 1
    assert set(pq.read_table(ResultsDir.of(spec).part(0))["output"].to_pylist()) == {"first"}
    assert list(ResultsDir.of(spec).temporary.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_a_full_disk_leaves_nothing_and_landing_again_works(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    spec = make_spec(num_rows=4, shard_rows=4)
    ResultsDir.of(spec).create()

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, step, fail)
        with pytest.raises(StorageFull, match="no space left"):
            land(spec, 0, 1, rows_of(spec, 0))
    assert ResultsDir.of(spec).parts() == {}
    assert list(ResultsDir.of(spec).temporary.iterdir()) == []
    assert land(spec, 0, 2, rows_of(spec, 0)).attempt == 2


def test_a_disk_that_has_no_room_for_the_directory_is_told_of(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(num_rows=4, shard_rows=4)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", fail)
        with pytest.raises(StorageFull, match="rows"):
            land(spec, 0, 1, rows_of(spec, 0))
    assert land(spec, 0, 2, rows_of(spec, 0)).attempt == 2


def test_a_damaged_part_is_noticed(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=4, shard_rows=4)
    land(spec, 0, 1, rows_of(spec, 0, output="same text " * 50))
    part = ResultsDir.of(spec).part(0)
    whole = part.read_bytes()
    part.write_bytes(whole[:-30])
    with pytest.raises(CorruptPart, match=r"part-000000\.parquet"):
        part_counts(part)
    part.write_bytes(b"")
    with pytest.raises(CorruptPart):
        part_counts(part)


def test_only_parts_are_taken_for_parts(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=10, shard_rows=4)
    results = ResultsDir.of(spec)
    results.create()
    for name in ("part-000001.parquet.tmp", "part-1.parquet", "_part-000002.parquet", "notes"):
        (results.rows / name).touch()
    land(spec, 2, 1, rows_of(spec, 2))
    (results.rows / "part-1234567.parquet").touch()
    assert list(results.parts()) == [2, 1_234_567]


def test_a_part_that_was_found_is_made_durable(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever linked it may have died before its name was on disk."""
    spec = make_spec(num_rows=4)
    results = ResultsDir.of(spec)
    land(spec, 0, 1, rows_of(spec, 0))
    synced: list[Path] = []
    monkeypatch.setattr("penstock.jobs.durable.fsync_directory", synced.append)
    monkeypatch.setattr("penstock.jobs.found_part.fsync_directory", synced.append)
    land(spec, 0, 2, rows_of(spec, 0))
    assert synced == [results.rows]
    assert not durable.create_file(results.part(0), b"late", temporary_dir=results.temporary)
    assert synced == [results.rows] * 2


def test_a_part_that_took_the_place_of_a_damaged_one_is_put_back(make_spec: SpecMaker) -> None:
    """The narrow window: a damaged part was read, and a good one came before it was set aside."""
    spec = make_spec(num_rows=4, shard_rows=4)
    results = ResultsDir.of(spec)
    counts = land(spec, 0, 1, rows_of(spec, 0))
    set_aside(results, 0)
    assert found_counts(results, 0) == counts
    assert list(results.damaged.iterdir()) == []
    part = results.part(0)
    part.write_bytes(flipped(part.read_bytes(), 1_000))
    set_aside(results, 0)
    set_aside(results, 0)  # somebody else did it, too
    assert found_counts(results, 0) is None
    assert len(list(results.damaged.iterdir())) == 1
    assert land(spec, 0, 2, rows_of(spec, 0)).attempt == 2
