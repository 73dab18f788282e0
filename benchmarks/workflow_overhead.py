"""What a workflow costs beyond its steps, and how much memory its advancing takes.

    python benchmarks/workflow_overhead.py --rows 200000

Starts the whole stack with a made-up engine and runs, one after the other, two jobs and a workflow
of four steps (generate, judge, filter, generate) that asks the same of it: the first step and the
second ask about every row, the last about the half that the filter lets pass. Reports the time of
the workflow against the sum of the jobs' times, and the most memory that the advancing processes
held together. The model's name says how long a step of the engine takes: see `fake_engine`.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from penstock import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.e2e.stack import running_stack

MODEL = "fake:step_ms=5;tokens=8"  # 1,600 rows a second at 64 rows a step
SAMPLING = {"max_tokens": 64}
IDEA = "Write about {{ row.text }}"
VERDICT = '[[say]]{"score": {{ row.id % 2 }}, "reason": "as the number wants it"}'
LAST = "Say more about {{ row.text }}"
WORKFLOW: dict[str, Any] = {
    "name": "overhead",
    "inputs": {"rows": {}},
    "defaults": {"sampling": SAMPLING},
    "steps": [
        {"id": "idea", "type": "generate", "prompt": IDEA, "cache": False},
        {"id": "verdict", "type": "judge", "prompt": VERDICT, "cache": False},
        {"id": "good", "type": "filter", "where": "row.verdict.score == 1"},
        {"id": "last", "type": "generate", "prompt": LAST, "cache": False},
    ],
}


def write_input(path: Path, numbers: range) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in numbers:
            file.write(f'{{"id": {number}, "text": "Row {number} has a few words in it."}}\n')
    return path


class MemoryProbe(threading.Thread):
    """Samples the memory of some processes, all of them together, until it is told to stop.

    `word` is what their command lines hold.
    """

    def __init__(self, word: bytes) -> None:
        super().__init__(daemon=True)
        self._word = word
        self._done = threading.Event()
        self._samples: list[int] = []

    def run(self) -> None:
        while not self._done.wait(0.5):
            found = [self._resident_bytes(path) for path in Path("/proc").glob("[0-9]*")]
            self._samples.append(sum(found))

    def stop(self) -> list[float]:
        """The most in each fifth of the time, in MB: what grows with the rows shows here."""
        self._done.set()
        self.join()
        fifth = max(1, -(-len(self._samples) // 5))
        parts = range(0, len(self._samples), fifth)
        return [round(max(self._samples[at : at + fifth]) / 1e6, 1) for at in parts]

    def _resident_bytes(self, process: Path) -> int:
        try:
            if self._word not in (process / "cmdline").read_bytes():
                return 0
            return int((process / "statm").read_text().split()[1]) * 4096
        except (OSError, ValueError, IndexError):
            return 0


def time_of_job(client: Client, path: Path, prompt: str) -> float:
    started = time.perf_counter()
    job = client.jobs.submit(path, prompt=prompt, sampling=SAMPLING)
    job.wait()
    if job.counts.failed:
        sys.exit(f"{job.id}: {job.counts}")
    return time.perf_counter() - started


def time_of_workflow(client: Client, path: Path, num_rows: int) -> float:
    started = time.perf_counter()
    run = client.workflows.run(WORKFLOW, inputs={"rows": path})
    run.wait()
    if run.status != "completed" or run.record.output_rows != num_rows // 2:
        sys.exit(f"{run.id} is {run.status} with {run.record.output_rows} rows: {run.record.error}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--model", default=MODEL)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ps") as folder:
        home = Path(folder)
        everything = write_input(home / "all.jsonl", range(asked.rows))
        half = write_input(home / "half.jsonl", range(1, asked.rows, 2))
        with running_stack(home / "data", "--no-flower", "--model", asked.model) as stack:
            client = Client(stack.url, timeout_s=600)
            steps = [
                time_of_job(client, everything, IDEA),
                time_of_job(client, everything, VERDICT),
                time_of_job(client, half, LAST),
            ]
            probes = {
                "advancing": MemoryProbe(b"workflow.workshop.bench"),
                "api": MemoryProbe(b"\0api\0"),
            }
            for probe in probes.values():
                probe.start()
            whole = time_of_workflow(client, everything, asked.rows)
            memory = {name: probe.stop() for name, probe in probes.items()}
    print(
        json.dumps(
            {
                "rows": asked.rows,
                "model": asked.model,
                "steps_s": [round(seconds, 2) for seconds in steps],
                "sum_s": round(sum(steps), 2),
                "workflow_s": round(whole, 2),
                "ratio": round(whole / sum(steps), 3),
                "memory_mb_by_fifths": memory,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
