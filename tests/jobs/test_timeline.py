"""How a job went, as its parts tell it."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import JobSpec, RequestError, RowStatus
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.timeline import _COLUMNS, Timelines, every_nth

from .conftest import SpecMaker

START_MS = 1_700_000_000_000


def row(index: int, ended_s: float, latency_ms: int = 100, **fields: object) -> LandedRow:
    ended_ms = START_MS + round(ended_s * 1000)
    values: dict[str, object] = {
        "row_index": index,
        "custom_id": None,
        "status": RowStatus.SUCCEEDED,
        "completion_tokens": 10,
        "worker": "w1",
        "started_at_ms": ended_ms - latency_ms,
        "finished_at_ms": ended_ms,
        **fields,
    }
    return LandedRow(**values)  # pyright: ignore[reportArgumentType]


def even(make_spec: SpecMaker, num_shards: int) -> JobSpec:
    """A job of two rows a shard and two shards a second."""
    spec = make_spec(num_rows=2 * num_shards, shard_rows=2)
    for shard in range(num_shards):
        ended_s = 0.5 * shard + 0.4
        land(spec, shard, 1, [row(2 * shard, ended_s, 400), row(2 * shard + 1, ended_s, 400)])
    return spec


def spoil(place: Path) -> None:
    """Put other bytes under the same name and time: who remembers the file sees none of it."""
    state = place.stat()
    with place.open("r+b") as file:
        file.write(bytes(state.st_size))
    os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_rows_are_told_when_they_ended(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=4, shard_rows=2)
    error = RequestError("engine_error", "it broke")
    failed = row(1, 0.3, 300, status=RowStatus.FAILED, error=error, completion_tokens=0)
    land(spec, 0, 1, [row(0, 0.2, 200), failed])
    late = [row(2, 3.5, 1000, worker="w2"), row(3, 3.6, 3000, worker="w2")]
    land(spec, 1, 1, late)
    timeline = Timelines().of(spec, num_moments=4)
    assert timeline.step_ms == 1000
    told = [(each.rows, each.failed, each.completion_tokens) for each in timeline.moments]
    assert told == [(2, 1, 10), (0, 0, 0), (0, 0, 0), (2, 0, 20)]
    first, *_, last = timeline.moments
    assert first.at_ms == START_MS
    assert (first.latency_p50_ms, last.latency_p95_ms) == (200, 3000)
    assert timeline.moments[1].latency_p50_ms is None
    assert (last.rows_per_s, last.tokens_per_s) == (2, 20)
    assert timeline.workers == {"w1": 2, "w2": 2}


def test_several_samples_are_one_row(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=1, shard_rows=1)
    land(spec, 0, 1, [row(0, 1.0), row(0, 1.5, sample_index=1)])
    moments = Timelines().of(spec).moments
    assert sum(each.rows for each in moments) == 1
    assert sum(each.completion_tokens for each in moments) == 20


def test_a_job_without_parts_has_no_moments(make_spec: SpecMaker) -> None:
    spec = make_spec()
    timeline = Timelines().of(spec)
    assert (timeline.moments, timeline.parts_landed) == ((), 0)


def test_rows_that_never_ran_have_no_time(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=1, shard_rows=1)
    never = row(0, 0, started_at_ms=None, finished_at_ms=None, status=RowStatus.FAILED)
    land(spec, 0, 1, [never])
    assert not Timelines().of(spec).moments


def test_of_many_parts_some_are_read_and_stand_for_the_rest(make_spec: SpecMaker) -> None:
    spec = even(make_spec, 40)
    timeline = Timelines(max_parts=12).of(spec, num_moments=10)
    assert (timeline.parts_read, timeline.parts_landed) == (10, 40)
    assert (timeline.rows_read, timeline.rows_landed) == (20, 80)
    assert sum(each.rows for each in timeline.moments) == pytest.approx(80)
    whole = timeline.moments[:-1]
    assert [each.rows_per_s for each in whole] == [pytest.approx(4)] * len(whole)


@pytest.mark.parametrize("num_moments", [2, 7, 60, 240])
def test_there_are_no_more_moments_than_asked_for(make_spec: SpecMaker, num_moments: int) -> None:
    spec = make_spec(num_rows=2, shard_rows=2)
    land(spec, 0, 1, [row(0, 0.1), row(1, 40 * 86_400.0)])  # it was paused for forty days
    moments = Timelines().of(spec, num_moments).moments
    assert len(moments) <= num_moments
    assert sum(each.rows for each in moments) == 2


def test_a_part_is_read_once_until_another_takes_its_place(make_spec: SpecMaker) -> None:
    spec = even(make_spec, 3)
    timelines = Timelines()
    timelines.of(spec)
    place = ResultsDir.of(spec).part(1)
    content = place.read_bytes()
    spoil(place)
    assert timelines.of(spec).parts_read == 3
    other = place.with_suffix(".new")
    other.write_bytes(bytes(len(content)))
    other.replace(place)
    assert timelines.of(spec).parts_read == 2


@pytest.mark.parametrize(("kept_parts", "parts_read"), [(3, 3), (2, 2)])
def test_parts_are_remembered_in_so_many_bytes(
    make_spec: SpecMaker, kept_parts: int, parts_read: int
) -> None:
    spec = even(make_spec, 3)
    first = ResultsDir.of(spec).part(0)
    part_bytes = pq.read_table(first, columns=_COLUMNS).nbytes
    timelines = Timelines(kept_bytes=kept_parts * part_bytes)
    assert timelines.of(spec).parts_read == 3
    spoil(first)
    assert timelines.of(spec).parts_read == parts_read


def test_parts_of_many_samples_are_fewer(
    make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = even(make_spec, 12)
    monkeypatch.setattr("penstock.jobs.timeline.MAX_SAMPLES", 20)
    assert Timelines().of(spec).parts_read == 6
    sampled = replace(spec, task=replace(spec.task, sampling={"n": 5}))
    assert Timelines().of(sampled).parts_read == 2
    assert Timelines().of(replace(spec, shard_rows=64)).parts_read == 1


def test_a_damaged_part_is_left_out(make_spec: SpecMaker) -> None:
    spec = even(make_spec, 3)
    ResultsDir.of(spec).part(1).write_bytes(b"PAR1 no more")
    timeline = Timelines().of(spec)
    assert (timeline.parts_read, timeline.parts_landed) == (2, 3)


@pytest.mark.parametrize("num_parts", [0, 1, 7, 8, 9, 40, 1000])
def test_longer_jobs_are_told_by_parts_that_were_read_before(num_parts: int) -> None:
    chosen = every_nth(range(num_parts), 8)
    assert len(chosen) <= 8
    assert bool(chosen) == bool(num_parts)
    if num_parts > 16:
        assert set(every_nth(range(2 * num_parts), 8)) & set(chosen)


def test_odd_shards_alone_have_landed(make_spec: SpecMaker) -> None:
    assert len(every_nth(range(1, 100, 2), 8)) == 8
