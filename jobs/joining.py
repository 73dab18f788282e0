"""The rows of a retry take the places of those that failed. Knows files, and the table last of all.

A retry is a job of its own, whose rows land once like any other's; joining is its last step. For
each shard concerned a part is written anew from the old one's rows and the new ones, and renamed
over it. So whoever reads `rows/*.parquet` meets every row once at any moment, first as it failed,
then as it went, if each file is opened once: one opened for its footer and again for its rows may
be another by then. `_SUCCESS` is away meanwhile.

    locked     parts, manifest, `_SUCCESS`       each part names the retry: none is joined twice
    unlocked   copies in an object store         these may take hours
    locked     the end of the job, of the retry  and a stale step finds that the retry has ended

The lock is that of the job that is retried. A killed step is taken again.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from .control import job_lock
from .durable import fsync_directory, replace_file
from .ending import end
from .job_dir import Final, JobDir
from .job_table import JobTable
from .landing import encode_part
from .manifest_file import read_parts, write_manifest
from .model import JobSpec, JobState, RowStatus
from .part_counts import PartCounts, summed
from .part_file import PartFacts, part_facts, read_part
from .publishing import publish, store_of
from .results_dir import ResultsDir
from .row_schema import row_schema
from .sealed_input import SealedInput
from .settings import Settings

Rows = list[dict[str, Any]]

logger = logging.getLogger(__name__)


def join(settings: Settings, table: JobTable, retry: JobSpec, state: JobState) -> bool:
    """Put the rows of a retry, which have all landed, into the job that it retries; end both.

    Returns whether that is done; if not, another process is copying the rows.

    Raises:
        CorruptInput: the input of the job has no readable footer any more.
        CorruptPart: rows of the retry cannot be read back.
        StorageFull: there is no room; what was joined so far stays so.
        StoreUnavailable: the rows cannot be copied to where they are wanted; likewise.
    """
    job_dir, retry_dir = (
        JobDir(settings.jobs_dir, job_id) for job_id in (retry.retry_of or "", retry.job_id)
    )
    spec, final = job_dir.read_spec(), job_dir.read_final()
    if final is None:
        raise ValueError(f"{spec.job_id} has not ended, so {retry.job_id} cannot retry it")
    store = store_of(settings, spec)
    if store is not None:
        store.check()  # before anything is touched, perhaps again
    with job_lock(job_dir):
        if retry_dir.read_final() is not None:
            return True
        parts = _join_parts(job_dir, spec, retry)
        final = _concluded(spec, final, parts)
    is_complete = len(parts) == spec.num_shards
    if is_complete and not publish(settings, spec, parts):
        return False
    with job_lock(job_dir):
        if retry_dir.read_final() is not None:
            return True
        if is_complete:
            job_dir.replace_final(final)
        totals = summed(part.counts for part in parts.values())
        table.amend(spec.job_id, final.state, totals, list(parts), at_ms=final.at_ms)
        end(settings, table, retry.job_id, state)
    logger.info("%s: after a retry %d rows are failed still", spec.job_id, totals.failed)
    return True


def _join_parts(job_dir: JobDir, spec: JobSpec, retry: JobSpec) -> dict[int, PartFacts]:
    """Write the parts of all shards that the retry makes better; return all there are then."""
    results = ResultsDir.of(spec)
    parts, _ = read_parts(spec)
    with job_dir.open_input() as sealed:
        results.create()
        results.success.unlink(missing_ok=True)
        fsync_directory(results.path)
        for index, rows in _improved(sealed, spec, parts, _Stream(retry)):
            counts = _count(spec, rows)
            table = pa.Table.from_pylist(rows, schema=row_schema(spec))
            data = encode_part(spec, counts, table, retry=retry.job_id)
            replace_file(results.part(index), data, temporary_dir=results.temporary)
            parts[index] = part_facts(results.part(index))
    results.remove_temporary()
    return dict(sorted(parts.items()))


def _concluded(spec: JobSpec, final: Final, parts: dict[int, PartFacts]) -> Final:
    """Return how the job is to end now; if it is complete, its manifest says so already."""
    if len(parts) < spec.num_shards:
        return final
    has_failures = any(part.counts.failed for part in parts.values())
    state = JobState.COMPLETED_WITH_ERRORS if has_failures else JobState.COMPLETED
    write_manifest(spec, state, parts)
    now_ms = time.time_ns() // 1_000_000
    return Final(state, at_ms=now_ms, started_at_ms=final.started_at_ms)


class _Stream:
    """The rows of a retry in the order of the input, taken from its parts one by one."""

    def __init__(self, retry: JobSpec) -> None:
        self.job_id = retry.job_id
        self._parts = iter(ResultsDir.of(retry).parts().values())
        self._rows: Rows = []

    def up_to(self, last_row_index: int) -> Rows:
        """Take all rows up to one of the input."""
        taken: Rows = []
        while True:
            if not self._rows:
                path = next(self._parts, None)
                if path is None:
                    return taken
                self._rows = read_part(path).to_pylist()[::-1]
            while self._rows and self._rows[-1]["row_index"] <= last_row_index:
                taken.append(self._rows.pop())
            if self._rows:
                return taken


def _improved(
    sealed: SealedInput, spec: JobSpec, parts: dict[int, PartFacts], stream: _Stream
) -> Iterator[tuple[int, Rows]]:
    """Yield every shard that the retry makes better, with all its rows."""
    results = ResultsDir.of(spec)
    for index in range(spec.num_shards):
        part = parts.get(index)
        if part is not None and (part.retry == stream.job_id or not part.counts.failed):
            continue
        wanted = set(sealed.row_indexes(index))
        old = [] if part is None else read_part(results.part(index)).to_pylist()
        # What belongs to shards before this one was joined before somebody was killed.
        new = [row for row in stream.up_to(max(wanted)) if row["row_index"] in wanted]
        rows = _merged(spec, old, new)
        if new and {row["row_index"] for row in rows} == wanted:
            yield index, rows


def _merged(spec: JobSpec, old: Rows, new: Rows) -> Rows:
    """Replace what failed by what came of it; a row that had succeeded stays, whatever came."""
    good = {row["row_index"] for row in old} - {
        row["row_index"] for row in old if row["status"] == RowStatus.FAILED
    }
    attempts: Counter[int] = Counter()
    for row in old:
        attempts[row["row_index"]] = max(attempts[row["row_index"]], row["attempts"])
    better = [
        row
        | {
            "row_id": f"{spec.job_id}/{row['row_index']}/{row['sample_index']}",
            "attempts": attempts[row["row_index"]] + row["attempts"],
        }
        for row in new
        if row["row_index"] not in good
    ]
    replaced = {row["row_index"] for row in better}
    kept = [row for row in old if row["row_index"] not in replaced]
    return sorted(kept + better, key=lambda row: (row["row_index"], row["sample_index"]))


def _count(spec: JobSpec, rows: Rows) -> PartCounts:
    """Add up a part, as landing does."""
    wants_documents = spec.wants_documents
    failed: dict[int, str] = {}
    unparsed: set[int] = set()
    prompts: dict[int, int] = {}
    cached: dict[int, int] = {}
    for row in rows:
        index = row["row_index"]
        prompts[index] = max(prompts.get(index, 0), row["prompt_tokens"])
        cached[index] = max(cached.get(index, 0), row["cached_tokens"])
        if row["status"] == RowStatus.FAILED:
            failed.setdefault(index, (row["error"] or {}).get("code") or "unknown")
        elif wants_documents and row["output_json"] is None and not row["tool_calls"]:
            unparsed.add(index)
    starts = [row["started_at"] for row in rows if row["started_at"] is not None]
    return PartCounts(
        rows=len(prompts),
        failed=len(failed),
        prompt_tokens=sum(prompts.values()),
        completion_tokens=sum(row["completion_tokens"] for row in rows),
        cached_tokens=sum(cached.values()),
        started_at_ms=int(min(starts).timestamp() * 1000) if starts else None,
        errors=dict(Counter(failed.values())),
        unparsed=len(unparsed - failed.keys()),
    )
