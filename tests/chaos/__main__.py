"""Every fault against a real stack, and a record of each run.

    make chaos
    python -m tests.chaos --rows 20000 --seeds 2 --out out/chaos.jsonl F07 F12
    python -m tests.chaos --render out/chaos.jsonl benchmarks/RESULTS.md

Words choose faults by number or title. Faults that ask for the same kind of stack share one. The
exit status is 1 if any rule was broken anywhere.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .faults import ALL_FAULTS
from .report import put_into, read_records, table, write_records
from .scene import Fault, Record, play
from .stack import running_stack


def main() -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="numbers or parts of titles; none: all faults")
    parser.add_argument("--rows", type=int, default=20_000, help="of the job that is hit")
    parser.add_argument("--seeds", type=int, default=1, help="how often each fault is run")
    parser.add_argument("--out", type=Path, default=Path("out/chaos.jsonl"))
    parser.add_argument("--render", nargs=2, type=Path, metavar=("RECORDS", "PAGE"))
    asked = parser.parse_args()
    if asked.render:
        records, page = asked.render
        put_into(page, table(read_records(records)))
        return 0
    chosen = [fault for fault in ALL_FAULTS if _is_wanted(fault, asked.words)]
    done: list[Record] = []
    for record in run(chosen, asked.rows, range(1, asked.seeds + 1)):
        done.append(record)
        write_records(asked.out, done)  # each time: the run takes long, and may be ended early
        print(f"{_verdict(record)}  {record.fault} {record.title} (seed {record.seed})", flush=True)
    print(table(done))
    return int(not done or any(not record.is_clean for record in done))


def run(faults: Sequence[Fault], rows: int, seeds: Sequence[int]) -> Iterator[Record]:
    """Play faults for every seed; those that this machine does not allow are passed over."""
    plays: list[tuple[Fault, int]] = []
    for fault in sorted(faults, key=lambda fault: repr(fault.options)):
        reason = fault.why_not()
        if reason is None:
            plays += [(fault, seed) for seed in seeds]
        else:
            print(f"left out  {fault.number} {fault.title}: {reason}", flush=True)
    while plays:
        options = plays[0][0].options
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as scratch,
            running_stack(Path(scratch), options) as stack,
        ):
            is_clean = True
            while plays and is_clean and plays[0][0].options == options:
                fault, seed = plays.pop(0)
                record = play(stack, fault, rows, seed)
                is_clean = record.is_clean  # else the next one gets a stack that bears no grudge
                yield record


def _is_wanted(fault: Fault, words: Sequence[str]) -> bool:
    return not words or any(word in (fault.number, *fault.title.split()) for word in words)


def _verdict(record: Record) -> str:
    if record.is_clean:
        return f"clean {record.took_s:6.1f} s"
    return f"BROKEN {record}"


if __name__ == "__main__":
    sys.exit(main())
