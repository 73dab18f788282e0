"""What rows that kill their engine cost: crashes, seconds, rows done again, and others' pace.

    python benchmarks/poison_rows.py --rows 6000 --poison 0,1,5 --workers 2

Starts workers with the made-up engine on a queue of their own and runs the same job with more and
more such rows in it, each time with a smaller job beside it. A crash costs as long as an engine
takes to load, so `--load-s` is part of the question.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.jobs.live import Live, live_queue


def prompts_of(num_rows: int, num_poison: int) -> list[str]:
    """Make the prompts of a job; where the poison lies is always the same."""
    prompts = [f"row {index}" for index in range(num_rows)]
    for index in random.Random(7).sample(range(num_rows), num_poison):
        prompts[index] = f"poison {index} [[crash]]"
    return prompts


def measure(live: Live, model: str, num_rows: int, num_poison: int) -> dict[str, object]:
    """Run the job to its end, and a quarter of its rows as another job beside it."""
    started_s = time.monotonic()
    spec = live.submit(prompts_of(num_rows, num_poison), model=model)
    beside = live.submit(prompts_of(num_rows // 4, 0), model=model)
    other_s = 0.0
    while not (snapshot := live.snapshot(spec)).state.is_final:
        if not other_s and live.snapshot(beside).state.is_final:
            other_s = time.monotonic() - started_s
        time.sleep(0.05)
    total_s = time.monotonic() - started_s
    live.wait_until_done(beside)
    rows = live.rows(spec)
    failed = [row for row in rows if row["status"] == "failed"]
    return {
        "poison": num_poison,
        "seconds": round(total_s, 1),
        "rows_per_s": round(num_rows * 1.25 / max(total_s, other_s)),
        "other_job_s": round(other_s or time.monotonic() - started_s, 1),
        "failed": snapshot.counts.failed,
        "codes": Counter(row["error"]["code"] for row in failed),
        "missing_or_double": num_rows - len({row["row_index"] for row in rows})
        + len(rows) - num_rows,
    }  # fmt: skip


def main() -> None:
    """Read the arguments, run, print one line of JSON per case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--poison", default="0,1,5")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--load-s", type=float, default=0.0)
    options = parser.parse_args()
    model = f"fake:step_ms=10,tokens=20,load_s={options.load_s:g}"
    for num_poison in map(int, options.poison.split(",")):
        with (
            tempfile.TemporaryDirectory() as home,
            live_queue(Path(home), max_num_seqs=options.slots) as live,
            (Path(home) / "workers.log").open("w+b") as log,
        ):
            for _ in range(options.workers):
                live.start_worker(model, log=log)
            figures = measure(live, model, options.rows, num_poison)
            log.seek(0)
            losses = re.findall(rb"the engine is lost", log.read())
            print(json.dumps({**figures, "crashes": len(losses)}), flush=True)


if __name__ == "__main__":
    main()
