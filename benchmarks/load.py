"""How chats fare under load: many users, and a bulk job beside them.

    python benchmarks/load.py --users 10 50 100 --seconds 120      # the server's own share
    python benchmarks/load.py --users 10 --bulk                    # and beside a job
    python benchmarks/load.py --users 10 --model penstock-demo --every-s 4

The load is open: chats are due at Poisson times, one every `--every-s` seconds per user, whatever
has become of the earlier ones, and all waiting is counted from when a chat was due. The same chats
at the same times then go to the engine alone, in this process: what the ratios are ratios to.
`overhead_ms` is the whole price of API and queue: a chat's time through the stack less the same
chat's time in the engine alone. `header_ms` is the API's own share of it, as `x-overhead-ms` tells.
With `--bulk` they go a third time, beside a job that keeps every slot of the engine full.
Client, server and engine share the machine, so processor time is told, too: it does not depend on
who else is at work. `load` is the machine's, before and after.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from penstock import Client
from penstock.engine.outputs import Priority, Request
from penstock.jobs.engine_child import load_engine
from penstock.jobs.model import SamplingParams
from penstock.jobs.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.figures import cuts, per
from benchmarks.process_cpu import cpu_by_part
from benchmarks.sse_client import Answer, stream_chat
from tests.e2e.stack import Stack, running_stack

FAKE = "fake:step_ms=10;tokens=32"
WARM_UP = 5
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


@dataclass(frozen=True, slots=True)
class Passage:
    """What became of all chats of a trace on their way through the stack."""

    answers: list[Answer]
    cpu_ms_per_chat: dict[str, float]
    load: tuple[float, float]


def pass_through(stack: Stack, model: str, chats: list[Chat], tokens: int) -> Passage:
    """Send a trace through the stack, and note what it cost."""
    load, client_s, parts_s = os.getloadavg()[0], time.process_time(), cpu_by_part()
    answers = asyncio.run(through_the_stack(stack.url, model, chats, tokens))
    spent = {"client": time.process_time() - client_s}
    spent |= {part: used_s - parts_s[part] for part, used_s in cpu_by_part().items()}
    return Passage(answers, per(len(chats), spent), (load, os.getloadavg()[0]))


@contextmanager
def job_beside(stack: Stack, model: str, rows: int, tokens: int) -> Iterator[None]:
    """Keep the engine full of a job's rows; the job must not end before the block does."""
    job = Client(stack.url).jobs.submit(
        ({"n": number} for number in range(rows)),
        model=model,
        prompt="Tell a story about the number {{ row.n }}.",
        sampling={"max_tokens": tokens},
    )
    while not job.refresh().counts.succeeded:
        time.sleep(0.1)
    yield
    if job.refresh().status.is_final:
        sys.exit("the job ended before the chats did; ask for more with --bulk-rows")
    job.cancel()


def measure(stack: Stack, users: int, asked: argparse.Namespace) -> None:
    """Send one trace every way there is, and print what came of it."""
    chats = trace(users, asked.every_s, asked.seconds, asked.seed)
    passages = {"idle": pass_through(stack, asked.model, chats, asked.tokens)}
    if asked.bulk:
        with job_beside(stack, asked.model, asked.bulk_rows, asked.tokens):
            passages["beside a job"] = pass_through(stack, asked.model, chats, asked.tokens)
    alone = through_the_engine(asked.model, chats, asked.tokens)
    for name, passage in passages.items():
        report: dict[str, object] = {"users": users, "stack": name}
        report |= compare(passage.answers, alone)
        report |= {"cpu_ms_per_chat": passage.cpu_ms_per_chat, "load": passage.load}
        print(json.dumps(report), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--users", type=int, nargs="+", default=[10, 50, 100])
    parser.add_argument("--every-s", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--bulk", action="store_true", help="once more beside a job")
    parser.add_argument("--bulk-rows", type=int, default=100_000, help="of that job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default=FAKE)
    parser.add_argument("--tokens", type=int, default=32)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ps") as folder,
        running_stack(Path(folder) / "data", "--no-flower", "--model", asked.model) as stack,
    ):
        for users in asked.users:
            measure(stack, users, asked)


if __name__ == "__main__":
    main()
