"""How chats fare under load: users, many streams, slow readers, a bulk job beside them.

    python benchmarks/load.py users --users 10 50 100              # the server's own share
    python benchmarks/load.py users --users 10 --bulk-rows 200000  # chats beside a job
    python benchmarks/load.py users --users 10 --model penstock-demo --every-s 4
    python benchmarks/load.py streams --streams 1000 --slow 0.05

The load is open: chats are due at Poisson times, one every `--every-s` seconds per user, whatever
has become of the earlier ones, and all waiting is counted from when a chat was due. The same chats
at the same times then go to the engine alone, in this process: what the ratios are ratios to.
`overhead_ms` is the whole price of API and queue: a chat's time through the stack less the same
chat's time in the engine alone. `header_ms` is the API's own share of it, as `x-overhead-ms` tells.
Client, server and engine share the machine, so processor time is told, too: it does not depend on
who else is at work.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from penstock import Client
from penstock.engine.outputs import Priority, Request
from penstock.jobs.engine_child import load_engine
from penstock.jobs.model import SamplingParams
from penstock.jobs.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.process_cpu import cpu_by_part
from benchmarks.sse_client import Answer, stream_chat
from tests.e2e.stack import Stack, running_stack

FAKE = "fake:step_ms=10;tokens=32"
WARM_UP = 5
SLOW_PAUSE_S = 0.25
_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat of the trace."""

    at_s: float
    prompt: str


def trace(users: int, every_s: float, seconds: float, seed: int) -> list[Chat]:
    """Draw the times at which chats are due: a Poisson process, the same for the same seed."""
    draw = random.Random(seed)
    chats: list[Chat] = []
    at_s = 0.0
    while (at_s := at_s + draw.expovariate(users / every_s)) < seconds:
        number = len(chats)
        chats.append(Chat(at_s, f"Add {number % 90 + 10} and {number % 7 + 1}, please: {number}"))
    return chats


def messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


async def through_the_stack(url: str, model: str, chats: list[Chat], tokens: int) -> list[Answer]:
    """Send every chat when it is due."""
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or 0
    started_s = time.perf_counter() + _LEAD_S

    async def send(chat: Chat) -> Answer:
        due_s = started_s + chat.at_s
        await asyncio.sleep(due_s - time.perf_counter())
        body: dict[str, object] = {"model": model, "messages": messages(chat.prompt)}
        body |= {"max_tokens": tokens, "temperature": 0}
        return await stream_chat(host, port, body, due_s)

    return await asyncio.gather(*map(send, chats))


def through_the_engine(model: str, chats: list[Chat], tokens: int) -> list[Answer]:
    """Give every chat to the engine when it is due, in the same words."""
    engine = load_engine(Settings(), model.replace(";", ","))
    params = SamplingParams(max_tokens=tokens, temperature=0.0)
    encoded = [tuple(engine.tokenizer.encode_chat(messages(chat.prompt))) for chat in chats]
    engine.add(Request("warm-up", encoded[0], params, Priority.INTERACTIVE))
    while engine.has_work:
        engine.step()
    started_s = time.perf_counter()
    answers: dict[str, Answer] = {}
    next_chat = 0
    while next_chat < len(chats) or engine.has_work:
        now_s = time.perf_counter()
        while next_chat < len(chats) and started_s + chats[next_chat].at_s <= now_s:
            name = str(next_chat)
            answers[name] = Answer(started_s + chats[next_chat].at_s, status=200)
            engine.add(Request(name, encoded[next_chat], params, Priority.INTERACTIVE))
            next_chat += 1
        if not engine.has_work:
            time.sleep(max(0.0, started_s + chats[next_chat].at_s - time.perf_counter()))
            continue
        for output in engine.step():
            answer = answers[output.request_id]
            answer.text += output.text
            if output.text:
                answer.times_s.append(time.perf_counter())
            if output.finish_reason is not None:
                answer.end_s = time.perf_counter()
    return [answers[str(number)] for number in range(len(chats))]


def cuts(samples_s: Iterable[float]) -> dict[str, float]:
    """Return what half, 95 and 99 of 100 samples stay below, in milliseconds."""
    samples = [sample * 1000 for sample in samples_s]
    found = statistics.quantiles(samples, n=100, method="inclusive")
    return {"p50": round(found[49], 2), "p95": round(found[94], 2), "p99": round(found[98], 2)}


def ratios(ours: dict[str, float], alone: dict[str, float]) -> dict[str, float]:
    return {name: round(ours[name] / alone[name], 3) for name in ours}


def compare(ours: Sequence[Answer], alone: Sequence[Answer]) -> dict[str, object]:
    """Set what chats took through the stack beside what they took in the engine alone."""
    pairs = [(a, b) for a, b in zip(ours, alone, strict=True) if a.is_whole and a.times_s][WARM_UP:]
    report: dict[str, object] = {
        "chats": len(ours),
        "errors": sum(not answer.is_whole for answer in ours),
        "other_text": sum(a.text != b.text for a, b in pairs),
    }
    for name, measure in (("ttft", "ttft_s"), ("e2e", "total_s")):
        times = cuts(getattr(a, measure) for a, _ in pairs)
        base = cuts(getattr(b, measure) for _, b in pairs)
        report[name] = {"ms": times, "alone_ms": base, "ratio": ratios(times, base)}
    gaps = cuts(gap for a, _ in pairs for gap in a.gaps_s)
    base = cuts(gap for _, b in pairs for gap in b.gaps_s)
    report["itl"] = {"ms": gaps, "alone_ms": base, "ratio": ratios(gaps, base)}
    report["overhead_ms"] = cuts(a.ttft_s - b.ttft_s for a, b in pairs)
    report["header_ms"] = cuts(a.overhead_ms / 1000 for a, _ in pairs)
    return report


def per(number: int, spent_s: dict[str, float]) -> dict[str, float]:
    return {part: round(used_s * 1000 / number, 2) for part, used_s in spent_s.items()}


def run_users(stack: Stack, asked: argparse.Namespace) -> None:
    for users in asked.users:
        chats = trace(users, asked.every_s, asked.seconds, asked.seed)
        job = None
        if asked.bulk_rows:
            job = Client(stack.url).jobs.submit(
                ({"n": number} for number in range(asked.bulk_rows)),
                model=asked.model,
                prompt="Tell a story about the number {{ row.n }}.",
                sampling={"max_tokens": asked.tokens},
            )
            while not job.refresh().counts.succeeded:
                time.sleep(0.1)
        client_s, parts_s = time.process_time(), cpu_by_part()
        ours = asyncio.run(through_the_stack(stack.url, asked.model, chats, asked.tokens))
        spent = {"client": time.process_time() - client_s}
        spent |= {part: used_s - parts_s[part] for part, used_s in cpu_by_part().items()}
        if job is not None:
            if job.refresh().status.is_final:
                sys.exit("the job ended before the chats did; ask for more with --bulk-rows")
            job.cancel()
        alone = through_the_engine(asked.model, chats, asked.tokens)
        report: dict[str, object] = {"users": users, "bulk": bool(job)}
        report |= compare(ours, alone)
        report["cpu_ms_per_chat"] = per(len(chats), spent)
        print(json.dumps(report), flush=True)


def run_streams(stack: Stack, asked: argparse.Namespace) -> None:
    """Open all streams at once; a few are read slowly. Every one must arrive in full."""
    address = urlsplit(stack.url)
    host, port = address.hostname or "", address.port or 0
    num_slow = round(asked.streams * asked.slow)

    async def run() -> list[Answer]:
        body: dict[str, object] = {"model": asked.model, "max_tokens": asked.tokens}
        due_s = time.perf_counter()
        return await asyncio.gather(
            *(
                stream_chat(
                    host,
                    port,
                    body | {"messages": messages(f"Tell me of number {number}.")},
                    due_s,
                    pause_s=SLOW_PAUSE_S if number < num_slow else 0.0,
                )
                for number in range(asked.streams)
            )
        )

    client_s, parts_s = time.process_time(), cpu_by_part()
    answers = asyncio.run(run())
    spent = {"client": time.process_time() - client_s}
    spent |= {part: used_s - parts_s[part] for part, used_s in cpu_by_part().items()}
    quick = [answer for answer in answers[num_slow:] if answer.is_whole]
    frames = sum(len(answer.times_s) for answer in answers)
    span_s = max(answer.end_s or 0.0 for answer in quick) - quick[0].due_s
    report = {
        "streams": asked.streams,
        "slow": num_slow,
        "whole": sum(answer.is_whole for answer in answers),
        "frames_lost": asked.streams * asked.tokens - frames,
        "errors": sorted({answer.error for answer in answers if answer.error}),
        "ttft_ms": cuts(answer.ttft_s for answer in quick),
        "itl_ms": cuts(gap for answer in quick for gap in answer.gaps_s),
        "frames_per_s": round(sum(len(answer.times_s) for answer in quick) / span_s),
        "cpu_ms_per_stream": per(asked.streams, spent),
    }
    print(json.dumps(report), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    profiles = parser.add_subparsers(required=True)
    users = profiles.add_parser("users")
    users.add_argument("--users", type=int, nargs="+", default=[10, 50, 100])
    users.add_argument("--every-s", type=float, default=5.0)
    users.add_argument("--seconds", type=float, default=30.0)
    users.add_argument("--bulk-rows", type=int, default=0)
    users.add_argument("--seed", type=int, default=0)
    users.set_defaults(run=run_users)
    streams = profiles.add_parser("streams")
    streams.add_argument("--streams", type=int, default=1000)
    streams.add_argument("--slow", type=float, default=0.05)
    streams.set_defaults(run=run_streams)
    for profile in (users, streams):
        profile.add_argument("--model", default=FAKE)
        profile.add_argument("--tokens", type=int, default=32)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ps") as folder,
        running_stack(Path(folder) / "data", "--no-flower", "--model", asked.model) as stack,
    ):
        asked.run(stack, asked)


if __name__ == "__main__":
    main()
