"""Chats while something is wrong: does each of them end, soon, and with a clear word?

    python benchmarks/faults.py slow-redis     # every answer of Redis 20 ms late
    python benchmarks/faults.py dying-worker   # one of two killed in the middle

The load is open, as in load.py. "In-band" are answers that broke off and said why, as an error
frame: their status had been sent. `hung` are chats without an end after the time limit, and must be
0; so must be `unclear`: refused without a time to come again, or closed without a word.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.figures import cuts
from benchmarks.load import Chat, through_the_stack, trace
from benchmarks.slow_redis import late_answers
from benchmarks.sse_client import Answer
from penstock.jobs.redis_server import RedisServer
from tests.e2e.stack import Stack, running_stack

TOKENS = 32
LATE_S = 0.02
LIMIT_S = 60.0  # far beyond what any chat here needs
SLOW_MODEL = f"fake:step_ms=100;tokens={TOKENS}"
MODEL = f"fake:step_ms=10;tokens={TOKENS}"


def outcomes(answers: list[Answer]) -> dict[str, object]:
    """Sort answers by how they ended."""
    whole = [each for each in answers if each.is_whole]
    refused = [each for each in answers if each.status >= 400 and each.retry_after_s is not None]
    in_band = [each for each in answers if each.status == 200 and each.error and each.end_s]
    hung = [each for each in answers if each.end_s is None]
    kinds = Counter(f"{each.status} {each.error or 'whole'}" for each in answers)
    return {
        "chats": len(answers),
        "whole": len(whole),
        "refused, clearly": len(refused),
        "in-band": len(in_band),
        "hung": len(hung),
        "unclear": len(answers) - len(whole) - len(refused) - len(in_band) - len(hung),
        "kinds": dict(kinds),
        "ttft_ms": cuts(each.ttft_s for each in whole),
        "e2e_ms": cuts(each.total_s for each in whole),
        "told of a failure after ms": cuts(each.total_s for each in [*refused, *in_band]),
    }


async def within_limit(stack: Stack, model: str, chats: list[Chat]) -> list[Answer]:
    """Send all; a chat without an end would be waited for in vain."""
    work = through_the_stack(stack.url, model, chats, TOKENS)
    return await asyncio.wait_for(work, chats[-1].at_s + LIMIT_S)


def run_slow_redis(asked: argparse.Namespace, folder: Path, stack: ExitStack) -> dict[str, object]:
    server = stack.enter_context(RedisServer(folder / "redis"))
    target = folder / "redis" / "redis.sock"
    os.environ["PENSTOCK_REDIS_URL"] = stack.enter_context(
        late_answers(target, folder / "late.sock", LATE_S)
    )
    assert server.url.startswith("unix:")
    flags = ("--no-flower", "--model", MODEL)
    penstock = stack.enter_context(running_stack(folder / "data", *flags))
    report: dict[str, object] = {}
    for users in (10, 50, 100):
        chats = trace(users, 5.0, asked.seconds, seed=0)
        report[f"{users} users"] = outcomes(asyncio.run(within_limit(penstock, MODEL, chats)))
    return report


def run_dying_worker(
    asked: argparse.Namespace, folder: Path, stack: ExitStack
) -> dict[str, object]:
    flags = ("--no-flower", "--workers", "2", "--model", SLOW_MODEL)
    penstock = stack.enter_context(running_stack(folder / "data", *flags))
    chats = trace(100, 5.0, asked.seconds, seed=0)

    async def run() -> list[Answer]:
        work = asyncio.create_task(within_limit(penstock, SLOW_MODEL, chats))
        await asyncio.sleep(asked.seconds / 2)
        victim = (await asyncio.to_thread(penstock.workers))[0]
        os.killpg(os.getpgid(victim["pid"]), signal.SIGKILL)
        return await work

    while len(penstock.workers()) < 2:
        time.sleep(0.1)
    return outcomes(asyncio.run(run()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    profiles = parser.add_subparsers(required=True)
    profiles.add_parser("slow-redis").set_defaults(run=run_slow_redis)
    profiles.add_parser("dying-worker").set_defaults(run=run_dying_worker)
    for profile in profiles.choices.values():
        profile.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ps") as folder, ExitStack() as stack:
        load = os.getloadavg()[0]
        report = asked.run(asked, Path(folder), stack)
        print(json.dumps({**report, "load": [load, os.getloadavg()[0]]}, indent=1))


if __name__ == "__main__":
    main()
