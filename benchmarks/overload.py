"""More than there is room for: how fast a no comes, and whether the work that fits goes on.

    python benchmarks/overload.py chats        # open load below and beyond what the line lets in
    python benchmarks/overload.py retries      # the official client, by its own retries only
    python benchmarks/overload.py connections  # 2,000 at once
    python benchmarks/overload.py files        # an API that may have 256 files open

The engine is made up: a step takes a second and begins whatever waits, so that all who wait have
their first word two steps later: with 40 places in the line 20 chats a second get in, and no more.
Latencies count from when a chat was due. "Clear" is an answer that says what went wrong and when to
come again; the rest must be 0.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import openai

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.figures import cuts
from benchmarks.load import pass_through, through_the_stack, trace
from benchmarks.process_cpu import memory_mb, pid_of
from benchmarks.sse_client import Answer
from tests.e2e.stack import Stack, running_stack

PLACES = 40
STEP_S = 1.0
TOKENS = 4
MODEL = f"fake:step_ms={STEP_S * 1000:g};tokens={TOKENS}"
QUICK_MODEL = f"fake:step_ms=5;tokens={TOKENS}"
PER_S = PLACES / (2 * STEP_S)
FEW_FILES = 256


def outcomes(answers: Sequence[Answer]) -> dict[str, object]:
    """Sort answers by how they ended."""
    refused = [each for each in answers if each.status in (429, 503)]
    refused_s = [each.total_s for each in refused]
    whole = [each for each in answers if each.is_whole]
    clear = [each for each in refused if each.retry_after_s is not None]
    kinds = Counter(f"{each.status} {each.error or 'whole'}" for each in answers)
    return {
        "chats": len(answers),
        "whole": len(whole),
        "clear": len(clear),
        "the rest": len(answers) - len(whole) - len(clear),
        "kinds": dict(kinds),
        "refused after ms": cuts(refused_s),
        "ttft_ms": cuts(each.ttft_s for each in whole),
        "retry_after_s": cuts(each.retry_after_s / 1000 for each in clear if each.retry_after_s),
    }


def run_chats(stack: Stack, asked: argparse.Namespace) -> None:
    """Offer less and more than there is room for, each for a while."""
    for share in (0.5, 0.8, 1.1, 2.0, 4.0):
        chats = trace(round(PER_S * share), 1.0, asked.seconds, seed=0)
        passage = pass_through(stack, MODEL, chats, TOKENS)
        report = {"offered": share, **outcomes(passage.answers)}
        num_whole = sum(each.is_whole for each in passage.answers)
        report["whole per s"] = round(num_whole / asked.seconds, 1)
        report |= {"cpu_ms_per_chat": passage.cpu_ms_per_chat, "load": passage.load}
        print(json.dumps(report), flush=True)
    print(json.dumps({"api_mb": memory_mb(pid_of("api"))}), flush=True)


def run_retries(stack: Stack, asked: argparse.Namespace) -> None:
    """Let many people ask in the same moment, with a client that comes again by itself."""

    async def run(number: int, max_retries: int) -> dict[str, object]:
        errors: Counter[str] = Counter()
        async with openai.AsyncOpenAI(
            base_url=f"{stack.url}/v1",
            api_key="none",
            max_retries=max_retries,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=httpx2.Limits(max_connections=number)
            ),
        ) as client:

            async def ask(index: int) -> None:
                try:
                    await client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": f"{index}"}]
                    )
                except openai.APIError as error:
                    errors[type(error).__name__] += 1

            began_s = time.perf_counter()
            await asyncio.gather(*map(ask, range(number)))
        return {
            "asked at once": number,
            "retries": max_retries,
            "answered": number - errors.total(),
            "errors": dict(errors),
            "took_s": round(time.perf_counter() - began_s, 1),
            "at best_s": number / PER_S + (TOKENS - 1) * STEP_S,
        }

    for number in (100, 200, 400):
        print(json.dumps(asyncio.run(run(number, openai.DEFAULT_MAX_RETRIES))), flush=True)


def run_connections(stack: Stack, asked: argparse.Namespace) -> None:
    """Open many connections in one moment, each with a chat."""
    chats = trace(asked.connections, 1.0, 1.0, seed=0)
    now = [type(chat)(0.0, chat.prompt) for chat in chats]
    began_s = time.perf_counter()
    answers = asyncio.run(through_the_stack(stack.url, QUICK_MODEL, now, TOKENS))
    took_s = round(time.perf_counter() - began_s, 1)
    report = {**outcomes(answers), "took_s": took_s, "api_mb": memory_mb(pid_of("api"))}
    print(json.dumps(report), flush=True)


def run_files(stack: Stack, asked: argparse.Namespace) -> None:
    """Leave the API few files, fill them with clients that never send, and ask for chats."""
    api = pid_of("api")
    resource.prlimit(api, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
    address = urlsplit(stack.url)
    silent = [
        socket.create_connection((address.hostname or "", address.port or 0)) for _ in range(400)
    ]
    chats = trace(50, 1.0, 20.0, seed=0)
    answers = asyncio.run(through_the_stack(stack.url, QUICK_MODEL, chats, TOKENS))
    late = [each for each, chat in zip(answers, chats, strict=True) if chat.at_s > 12.0]
    for each in silent:
        each.close()
    print(json.dumps({**outcomes(answers), "after the silent ones": outcomes(late)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    profiles = parser.add_subparsers(required=True)
    chats = profiles.add_parser("chats")
    chats.add_argument("--seconds", type=float, default=30.0)
    chats.set_defaults(run=run_chats, model=MODEL, places=PLACES)
    retries = profiles.add_parser("retries")
    retries.set_defaults(run=run_retries, model=MODEL, places=PLACES)
    connections = profiles.add_parser("connections")
    connections.add_argument("--connections", type=int, default=2_000)
    connections.set_defaults(run=run_connections, model=QUICK_MODEL, places=1_000)
    files = profiles.add_parser("files")
    files.set_defaults(run=run_files, model=QUICK_MODEL, places=1_000)
    asked = parser.parse_args()
    os.environ["PENSTOCK_MAX_WAITING_CHATS"] = str(asked.places)
    with (
        tempfile.TemporaryDirectory(prefix="ps") as folder,
        running_stack(Path(folder) / "data", "--no-flower", "--model", asked.model) as stack,
    ):
        asked.run(stack, asked)


if __name__ == "__main__":
    main()
