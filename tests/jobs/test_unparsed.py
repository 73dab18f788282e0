"""Answers that are not the document that was asked for are counted, each row once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from penstock.jobs import joining
from penstock.jobs.job_table import JobTable
from penstock.jobs.landing import LandedRow, land, part_counts
from penstock.jobs.model import EMBED, Counts, JobSpec, JobState, RowStatus, ShardRef, TaskSpec
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.part_file import read_part
from penstock.jobs.results_dir import ResultsDir
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.tool_use import ToolCall

from .conftest import SpecMaker, flipped, format_of
from .small_jobs import SmallJobs

CUT = (2, 6, 9)  # rows whose answers are cut short
FORM = format_of({"type": "object", "properties": {"a": {"type": "integer"}}})
OF_DOCUMENTS = TaskSpec("fake", prompt="{{ row.text }}", response_format=FORM)


@dataclass(frozen=True, slots=True)
class Documents(SmallJobs):
    """Jobs that ask for documents, and get some of them."""

    def make(self, num_rows: int = 10, shard_rows: int = 4, **fields: Any) -> JobSpec:
        rows = RowsSource([{"text": f"text {number}"} for number in range(num_rows)])
        request = SubmitRequest(OF_DOCUMENTS, shard_rows=shard_rows, **fields)
        return submit(self.settings, self.table, rows, request).spec

    def answers(self, spec: JobSpec, shard: int, failing: Sequence[int] = ()) -> list[LandedRow]:
        return [
            row if row.row_index in CUT else replace(row, output_json='{"a":1}')
            for row in SmallJobs.answers(self, spec, shard, failing)
        ]


@pytest.fixture
def documents(settings: Settings, table: JobTable) -> Documents:
    return Documents(settings, table)


def test_a_row_is_counted_once_whatever_happens(documents: Documents) -> None:
    spec = documents.make()
    documents.run(spec, failing=[6])
    all_of_them = Counts(total=10, succeeded=9, failed=1, unparsed=2)
    assert documents.snapshot(spec).counts == all_of_them
    again = PartCounts(4, 0, 0, 0, 0, unparsed=4)
    assert documents.table.commit(ShardRef(spec.job_id, 0), 1, again).status == "duplicate"
    assert documents.snapshot(spec).counts == all_of_them

    documents.wipe()
    documents.rebuild_all()  # from the parts
    assert documents.snapshot(spec).counts == all_of_them
    damaged = ResultsDir.of(spec).part(2)
    damaged.write_bytes(flipped(damaged.read_bytes(), 100))
    assert documents.finalize(spec) is None
    assert documents.snapshot(spec).counts.unparsed == 1, "what the part had added is taken back"
    documents.run(spec)
    assert documents.finalize(spec) is JobState.COMPLETED_WITH_ERRORS
    for _ in range(2):
        assert documents.snapshot(spec).counts == all_of_them
        documents.wipe()
        documents.rebuild_all()  # from the manifest

    documents.rerun(spec)  # what had failed succeeds, and is cut short as well
    for _ in range(2):
        assert documents.snapshot(spec).counts == Counts(total=10, succeeded=10, unparsed=3)
        documents.wipe()
        documents.rebuild_all()


def row(index: int, *, sample: int = 0, **fields: Any) -> LandedRow:
    values = {"status": RowStatus.SUCCEEDED, "output": '{"a":', "columns": {"text": "t"}, **fields}
    return LandedRow(row_index=index, custom_id=None, sample_index=sample, **values)


def test_a_row_is_counted_if_one_of_its_answers_is_none(make_spec: SpecMaker) -> None:
    spec = make_spec(num_rows=4, shard_rows=4, task=OF_DOCUMENTS)
    rows = [
        *(row(0, sample=number, output_json='{"a":1}') for number in range(2)),
        *(row(1, sample=number, output_json='{"a":1}' if number else None) for number in range(2)),
        *(row(2, sample=number) for number in range(2)),
        row(3, sample=0),
        row(3, sample=1, status=RowStatus.FAILED),
    ]
    counts = land(spec, 0, 1, rows)
    assert (counts.rows, counts.failed, counts.unparsed) == (4, 1, 2)
    part = ResultsDir.of(spec).part(0)
    assert part_counts(part) == counts
    assert joining._count(spec, read_part(part).to_pylist()).unparsed == counts.unparsed


CALLS = (ToolCall("call_1", "look", "{}"),)


@pytest.mark.parametrize(
    ("task", "answer", "unparsed"),
    [
        (OF_DOCUMENTS, {}, 1),
        (OF_DOCUMENTS, {"tool_calls": CALLS}, 0),
        (replace(OF_DOCUMENTS, response_format={"type": "json_object"}), {}, 1),
        (replace(OF_DOCUMENTS, response_format=None), {}, 0),
        (replace(OF_DOCUMENTS, prompt=None), {}, 0),  # the row says what it wants
        (replace(OF_DOCUMENTS, endpoint=EMBED), {}, 0),
    ],
)
def test_only_answers_that_were_to_be_documents_count(
    make_spec: SpecMaker, task: TaskSpec, answer: dict[str, Any], unparsed: int
) -> None:
    columns = {**make_spec().columns, "body": make_spec().columns["text"]}
    spec = make_spec(num_rows=1, shard_rows=4, task=task, columns=columns)
    assert land(spec, 0, 1, [row(0, **answer)]).unparsed == unparsed
