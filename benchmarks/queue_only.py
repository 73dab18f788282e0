"""How many rows per second the queue carries when the engine costs nothing, and what Redis holds.

    python benchmarks/queue_only.py --rows 1000000

Starts the whole stack with the made-up engine (one token per row, no waiting), submits one job
from a file and reports, for sealing and for running it, rows per second; and the most bytes per
row that Redis took above an empty stack, sampled every 0.2 s while the job ran. The floor for the
run phase is the writing of the rows: it is measured here too, as rows per second of `landing.land`
alone in one process.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

from penstock import Client
from penstock.jobs.landing import LandedRow, land
from penstock.jobs.model import ColumnType, JobSpec, RowStatus, TaskSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import running_stack

MODEL = "fake:step_ms=0;tokens=1"


def write_input(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for index in range(rows):
            file.write(f'{{"id": {index}, "text": "Row {index} has a few words of text in it."}}\n')


def landing_rows_per_s(home: Path, num_shards: int = 200, shard_rows: int = 256) -> float:
    """What one process reaches that does nothing but land shards of such rows."""
    spec = JobSpec(
        job_id="job_floor",
        task=TaskSpec(model=MODEL, prompt="{{ row.text }}"),
        num_rows=num_shards * shard_rows,
        num_shards=num_shards,
        shard_rows=shard_rows,
        columns={"id": ColumnType.INT, "text": ColumnType.STRING},
        out=str(home / "floor"),
        created_at_ms=0,
    )
    started = time.perf_counter()
    for shard in range(num_shards):
        first = shard * shard_rows
        rows = [
            LandedRow(
                row_index=index,
                custom_id=None,
                status=RowStatus.SUCCEEDED,
                output="water",
                columns={"id": index, "text": f"Row {index} has a few words of text in it."},
            )
            for index in range(first, first + shard_rows)
        ]
        land(spec, shard, 1, rows)
    return spec.num_rows / (time.perf_counter() - started)


class MemoryProbe(threading.Thread):
    """Samples what Redis has in use until it is told to stop."""

    def __init__(self, socket: Path) -> None:
        super().__init__(daemon=True)
        self._redis = redis.Redis(unix_socket_path=str(socket))
        self._done = threading.Event()
        self.baseline_bytes = self._used_bytes()
        self.most_bytes = self.baseline_bytes

    def _used_bytes(self) -> int:
        return int(self._redis.info("memory")["used_memory"])

    def run(self) -> None:
        while not self._done.wait(0.2):
            self.most_bytes = max(self.most_bytes, self._used_bytes())

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.most_bytes - self.baseline_bytes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ps") as folder:
        home = Path(folder)
        write_input(home / "rows.jsonl", asked.rows)
        floor = landing_rows_per_s(home)
        with running_stack(home / "data", "--no-flower", "--model", MODEL) as stack:
            client = Client(stack.url, timeout_s=600)
            probe = MemoryProbe(stack.data / "redis" / "redis.sock")
            probe.start()
            started = time.perf_counter()
            job = client.jobs.submit(
                home / "rows.jsonl", prompt="{{ row.text }}", sampling={"max_tokens": 1}
            )
            accepted = time.perf_counter()
            job.wait(progress=sys.stderr.isatty())
            ended = time.perf_counter()
            extra_bytes = probe.stop()
        if job.counts.succeeded != asked.rows:
            sys.exit(f"only {job.counts.succeeded} of {asked.rows} rows succeeded: {job.counts}")
    print(
        json.dumps(
            {
                "rows": asked.rows,
                "seal_s": round(accepted - started, 2),
                "seal_rows_per_s": round(asked.rows / (accepted - started)),
                "run_s": round(ended - accepted, 2),
                "run_rows_per_s": round(asked.rows / (ended - accepted)),
                "landing_alone_rows_per_s": round(floor),
                "redis_bytes_per_row": round(extra_bytes / asked.rows, 3),
            }
        )
    )


if __name__ == "__main__":
    main()
