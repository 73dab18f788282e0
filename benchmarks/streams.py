"""A thousand streams at once, and a few of their readers really slow.

    python benchmarks/streams.py chats --streams 1000 --slow 0.05
    python benchmarks/streams.py events --streams 1000 --slow 0.05

chats   All quick readers open theirs in the same moment, first alone, then while the windows of the
        slow ones are full and the server cannot get rid of their text. What the second round takes
        longer is what slow readers cost the others.
events  All follow one job from its beginning to its end. How late an event is, is told by its id,
        which is the time at which it was written. Slow readers come back with Last-Event-ID.

Every text and every row of events is looked at: `lost` and `wrong` must be 0. A slow chat may be
cut off, but what came of it must be the beginning of its answer.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from penstock import Client
from penstock.jobs.fake_engine import SAY, expected_text

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.figures import cuts, per
from benchmarks.process_cpu import cpu_by_part, memory_mb, pid_of
from benchmarks.sse_client import Answer, stream_chat
from benchmarks.straws import Straw
from tests.e2e.stack import Stack, running_stack

CHATS_MODEL = "fake:step_ms=40;tokens=2000"
EVENTS_MODEL = "fake:step_ms=10;tokens=8"
QUICK_TOKENS = 32
CUT_WITHIN_S = 150.0
_CONTENT = re.compile(rb'"content":"([^"]*)"')
_EVENT_ID = re.compile(rb"^id: (\d+)-(\d+)$", re.MULTILINE)
_DONE = b"event: done\n"


@dataclass(frozen=True, slots=True)
class Site:
    """Where the streams come from."""

    stack: Stack
    host: str
    port: int
    api_pid: int

    @classmethod
    def of(cls, stack: Stack) -> "Site":
        address = urlsplit(stack.url)
        return cls(stack, address.hostname or "", address.port or 0, pid_of("api"))

    def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
        """Write a request in HTTP/1.0, whose answers come as they are, not in chunks."""
        head = f"{method} {path} HTTP/1.0\r\nHost: {self.host}:{self.port}\r\n{headers}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode() + body


def num_slow(asked: argparse.Namespace) -> int:
    return round(asked.streams * asked.slow)


async def quick_chats(site: Site, model: str, number: int) -> list[Answer]:
    """Open so many chats in one moment, and read them as they come."""
    due_s = time.perf_counter()
    bodies = (
        {
            "model": model,
            "max_tokens": QUICK_TOKENS,
            "messages": [{"role": "user", "content": f"Tell me of number {index}."}],
        }
        for index in range(number)
    )
    return await asyncio.gather(
        *(stream_chat(site.host, site.port, body, due_s) for body in bodies)
    )


def tell_quick(answers: list[Answer]) -> dict[str, object]:
    whole = [answer for answer in answers if answer.is_whole]
    texts = [
        expected_text(f"Tell me of number {index}.", num_tokens=QUICK_TOKENS)
        for index in range(len(answers))
    ]
    frames = sum(len(answer.times_s) for answer in whole)
    span_s = max(answer.end_s or 0.0 for answer in whole) - answers[0].due_s
    return {
        "whole": len(whole),
        "wrong": sum(a.is_whole and a.text != b for a, b in zip(answers, texts, strict=True)),
        "errors": dict(Counter(answer.error for answer in answers if answer.error)),
        "ttft_ms": cuts(answer.ttft_s for answer in whole),
        "itl_ms": cuts(gap for answer in whole for gap in answer.gaps_s),
        "frames_per_s": round(frames / span_s),
    }


def slow_text(tokens: int) -> str:
    """Return a text in which nothing can be missing unseen; the engine says 5 characters a step."""
    return "".join(f"{number:04} " for number in range(tokens))


async def run_chats(site: Site, asked: argparse.Namespace) -> dict[str, object]:
    text = slow_text(2_000)
    messages = [{"role": "user", "content": SAY + text}]
    chat = {"model": asked.model, "max_tokens": 2_000, "messages": messages, "stream": True}
    request = site.request("POST", "/v1/chat/completions", json.dumps(chat).encode())
    number = asked.streams - num_slow(asked)
    before = tell_quick(await quick_chats(site, asked.model, number))
    memory = memory_mb(site.api_pid)
    never, straws = asyncio.Event(), [Straw() for _ in range(num_slow(asked))]
    slow = [asyncio.create_task(each.read(site.host, site.port, request, never)) for each in straws]
    await asyncio.sleep(asked.fill_s)
    client_s, parts_s = time.process_time(), cpu_by_part()
    beside = tell_quick(await quick_chats(site, asked.model, number))
    spent = {"client": time.process_time() - client_s}
    spent |= {part: used_s - parts_s[part] for part, used_s in cpu_by_part().items()}
    was_open = sum(not task.done() for task in slow)
    cut_off = await idle_again(site)
    never.set()  # whoever drinks up now finds out where the answer ended
    await asyncio.gather(*slow)
    said = [b"".join(_CONTENT.findall(each.received)).decode() for each in straws]
    return {
        "quick, alone": before,
        "quick, beside slow ones": beside,
        "cpu_ms_per_stream": per(number, spent),
        "slow": len(straws),
        "slow, open while the quick ones ran": was_open,
        "slow, wrong": sum(not text.startswith(each) for each in said),
        "slow, whole": sum(each == text for each in said),
        "slow, told why": sum(b"slow_consumer" in each.received for each in straws),
        "slow, all cut off or done after, s": cut_off,
        "api_mb": {"with quick ones": memory["now"], **memory_mb(site.api_pid)},
    }


async def idle_again(site: Site) -> float | None:
    """Wait until the server has rid itself of every stream; None if it does not."""
    began_s = time.perf_counter()
    async with httpx2.AsyncClient(base_url=site.stack.url, timeout=30) as http:
        while time.perf_counter() - began_s < CUT_WITHIN_S:
            if num_connections(site) <= 1:  # the one that asks
                return round(time.perf_counter() - began_s, 1)
            (await http.get("/healthz")).raise_for_status()
            await asyncio.sleep(1.0)
    return None


def num_connections(site: Site) -> int:
    """Count the TCP connections that the API has: those of clients, as Redis is on a socket."""
    mine = f":{site.port:04X}"
    table = Path(f"/proc/{site.api_pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in table]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(mine) and row[3] != "0A"}
    return sum(_is_open(path, inodes) for path in Path(f"/proc/{site.api_pid}/fd").iterdir())


def _is_open(path: Path, inodes: set[str]) -> bool:
    try:
        return str(path.readlink()) in inodes
    except OSError:  # closed meanwhile
        return False


@dataclass(slots=True)
class Follower:
    """Who follows a job as fast as it goes."""

    ids: list[tuple[int, int]] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    is_done: bool = False
    error: str | None = None

    async def read(self, site: Site, request: bytes) -> None:
        """Read to the end of the job."""
        try:
            reader, writer = await asyncio.open_connection(site.host, site.port)
            writer.write(request)
            rest = b""
            while data := await reader.read(1 << 20):
                now_s = time.time()
                whole, _, rest = (rest + data).rpartition(b"\n\n")
                self._take(whole, now_s)
            writer.close()
        except OSError as error:
            self.error = repr(error)

    def _take(self, events: bytes, now_s: float) -> None:
        for time_ms, number in _EVENT_ID.findall(events):
            self.ids.append((int(time_ms), int(number)))
            self.late_s.append(now_s - int(time_ms) / 1000)
        self.is_done = self.is_done or _DONE in events


def ids_of(received: bytes | bytearray) -> list[tuple[int, int]]:
    return [(int(time_ms), int(number)) for time_ms, number in _EVENT_ID.findall(received)]


async def come_back(site: Site, path: str, straw: Straw) -> tuple[list[tuple[int, int]], int]:
    """Open a slow stream again and again, from its last event on; returns all, and how often."""
    ids, num_times, received = ids_of(straw.received), 0, bytes(straw.received)
    while _DONE not in received and num_times < 20:
        last = "-".join(map(str, ids[-1])) if ids else ""
        headers = f"Last-Event-ID: {last}\r\n" if ids else ""
        again, now = Straw(), asyncio.Event()
        now.set()
        await again.read(site.host, site.port, site.request("GET", path, headers=headers), now)
        received = bytes(again.received)
        ids += ids_of(received)
        num_times += 1
    return ids, num_times


async def run_events(site: Site, asked: argparse.Namespace) -> dict[str, object]:
    job = await asyncio.to_thread(
        Client(site.stack.url).jobs.submit,
        ({"n": number} for number in range(asked.rows)),
        model=asked.model,
        prompt="Tell a story about the number {{ row.n }}.",
    )
    path = f"/v1/jobs/{job.id}/events"
    request = site.request("GET", path)
    until, straws = asyncio.Event(), [Straw() for _ in range(num_slow(asked))]
    slow = [asyncio.create_task(each.read(site.host, site.port, request, until)) for each in straws]
    followers = [Follower() for _ in range(asked.streams - len(straws))]
    client_s, parts_s = time.process_time(), cpu_by_part()
    began_s = time.perf_counter()
    await asyncio.gather(*(each.read(site, request) for each in followers))
    took_s = time.perf_counter() - began_s
    spent = {"client": time.process_time() - client_s}
    spent |= {part: used_s - parts_s[part] for part, used_s in cpu_by_part().items()}
    until.set()
    await asyncio.gather(*slow)
    returns = [await come_back(site, path, each) for each in straws]
    whole = Straw()
    beginning = site.request("GET", path, headers="Last-Event-ID: 0-0\r\n")
    await whole.read(site.host, site.port, beginning, until)
    everything = ids_of(whole.received)
    lists = [each.ids for each in followers] + [ids for ids, _ in returns]
    num_frames = sum(len(each.ids) for each in followers)
    return {
        "events": len(everything),
        "took_s": round(took_s, 1),
        "followers": len(followers),
        "done": sum(each.is_done for each in followers),
        "errors": dict(Counter(each.error for each in followers if each.error)),
        "late_ms": cuts(late for each in followers for late in each.late_s),
        "frames_per_s": round(num_frames / took_s),
        "lost or doubled": sum(ids != everything[len(everything) - len(ids) :] for ids in lists),
        "cpu_us_per_frame": {
            name: round(used_s * 1e6 / num_frames, 1) for name, used_s in spent.items()
        },
        "slow": len(straws),
        "slow, told why": sum(b"slow_consumer" in each.received for each in straws),
        "slow, came back": statistics.mean(number for _, number in returns) if returns else 0,
        "api_mb": memory_mb(site.api_pid),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    profiles = parser.add_subparsers(required=True)
    chats = profiles.add_parser("chats")
    chats.add_argument("--fill-s", type=float, default=40.0, help="until the windows are full")
    chats.set_defaults(run=run_chats, model=CHATS_MODEL)
    events = profiles.add_parser("events")
    events.add_argument("--rows", type=int, default=10_000)
    events.set_defaults(run=run_events, model=EVENTS_MODEL)
    for profile in (chats, events):
        profile.add_argument("--streams", type=int, default=1000)
        profile.add_argument("--slow", type=float, default=0.05)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ps") as folder,
        running_stack(Path(folder) / "data", "--no-flower", "--model", asked.model) as stack,
    ):
        print(json.dumps(asyncio.run(asked.run(Site.of(stack), asked)), indent=1))


if __name__ == "__main__":
    main()
