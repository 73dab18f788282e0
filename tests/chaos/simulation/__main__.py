"""Play many seeds, on all cores, and say which of them break a promise.

python -m tests.chaos.simulation --seeds 1000000 --first 0
python -m tests.chaos.simulation --seed 4711              one of them, with its trace
python -m tests.chaos.simulation --sabotage "leases are not renewed" --seeds 500
"""

import argparse
import os
import subprocess
import sys
import time
from contextlib import nullcontext

from .run import Outcome, simulate
from .sabotage import SABOTAGES

LAST_EVENTS = 60
NUM_TRACES = 3  # of the seeds that break a promise; the others are named


def main() -> int:
    arguments = _arguments()
    if arguments.seed is not None:
        outcome = play(arguments.seed, arguments.sabotage)
        print(report(outcome))
        return int(outcome.violation is not None)
    began_s = time.perf_counter()
    if arguments.jobs > 1:
        is_broken = _share_out(arguments)
    else:
        is_broken = _play_all(range(arguments.first, arguments.first + arguments.seeds), arguments)
    took_s = time.perf_counter() - began_s
    speed = arguments.seeds / took_s
    print(f"{arguments.seeds} seeds in {took_s:.0f} s, {speed:.1f} per second")
    return int(is_broken)


def play(seed: int, sabotage: str | None = None) -> Outcome:
    """Play one seed, without a piece of safety code if one is named."""
    with SABOTAGES[sabotage]() if sabotage else nullcontext():
        return simulate(seed)


def report(outcome: Outcome) -> str:
    """Tell how a run ended, and what happened on the way."""
    verdict = outcome.violation or f"kept all promises, {outcome.num_computed} shards computed"
    events = outcome.events[-LAST_EVENTS:]
    return "\n".join([f"seed {outcome.seed}: {verdict}", f"  {outcome.plan}", *events])


def _play_all(seeds: range, arguments: argparse.Namespace) -> bool:
    num_broken = 0
    for seed in seeds:
        outcome = play(seed, arguments.sabotage)
        if outcome.violation is not None:
            num_broken += 1
            is_told = num_broken <= NUM_TRACES
            print(report(outcome) if is_told else f"seed {seed}: {outcome.violation}", flush=True)
    return num_broken > 0


def _share_out(arguments: argparse.Namespace) -> bool:
    """Give each of several processes an equal share of the seeds."""
    share = -(-arguments.seeds // arguments.jobs)
    end = arguments.first + arguments.seeds
    processes = []
    for first in range(arguments.first, end, share):
        command = [sys.executable, "-m", "tests.chaos.simulation", "--jobs", "1"]
        command += ["--first", str(first), "--seeds", str(min(share, end - first))]
        if arguments.sabotage:
            command += ["--sabotage", arguments.sabotage]
        processes.append(subprocess.Popen(command))
    statuses = [process.wait() for process in processes]
    return any(statuses)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=10_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one only, with its trace")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="without this piece of safety code")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
