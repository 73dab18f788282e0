"""What the queue costs at its size: ten million rows in one job, and ten thousand jobs.

    python benchmarks/scale.py                     # both; some minutes, and 1 GB below --home
    python benchmarks/scale.py --rows 1000000 --jobs 1000

Redis, the API process, its keeper, submission and every script of the job table are the real ones.
Made up: workers and rows. Shards are claimed and committed here, one after another, by the job
table's own calls, with counts that nobody computed, and no part is written; the last shard of the
large job is left alone, so that nobody looks for the parts of a job that is complete. A worker is
announced that takes nothing, so that the keeper has somebody to feed.

Bytes per row are what Redis has in use above what it had before the job, at most, seen after every
thousandth shard. Redis' slow log tells what took it more than 10 ms, by command: what comes back in
a second run is slow, what does not was the machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import redis
from redis.commands.core import Script

from penstock import Client
from penstock.jobs.job_table import JobTable
from penstock.jobs.keeper import TICK_S, Keeper
from penstock.jobs.keys import Keys
from penstock.jobs.model import ShardRef, TaskSpec, new_job_id
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.redis_client import connect
from penstock.jobs.redis_server import RedisServer
from penstock.jobs.settings import Settings
from penstock.jobs.submission import RowsSource, SubmitRequest, submit
from penstock.jobs.workers import WorkerInfo, WorkerRegister

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.process_cpu import memory_mb
from tests.chaos.stack import Part
from tests.e2e.stack import PENSTOCK, Stack
from tests.ports import reserved_port

MODEL = "nobody"
JOB_ROWS = 100
NUM_LEASED = 64  # shards that are held at any time
LEASE_MS = 60_000
SLOW_US = 10_000
NUM_CALLS = 300  # of each kind of request
NUM_TICKS = 100


@dataclass
class Report:
    """What was found, in the order in which it was."""

    found: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: object) -> None:
        self.found[name] = value
        print(f"{name}: {value}", file=sys.stderr, flush=True)

    def add_times(self, name: str, times_s: list[float]) -> None:
        """Add what half and 99 of 100 calls stay below, and the longest, in milliseconds."""
        cuts = statistics.quantiles((each * 1000 for each in times_s), n=100, method="inclusive")
        longest = max(times_s) * 1000
        self.add(
            name, {"p50": round(cuts[49], 2), "p99": round(cuts[98], 2), "max": round(longest, 2)}
        )

    def show(self) -> None:
        if not sys.stdout.isatty():
            print(json.dumps(self.found))
            return
        width = max(map(len, self.found))
        for name, value in self.found.items():
            shown = value
            if isinstance(value, dict):
                shown = "  ".join(f"{key} {each}" for key, each in value.items()) or "nothing"
            print(f"{name:{width}}  {shown}")


@dataclass(frozen=True, slots=True)
class Site:
    """What is measured."""

    settings: Settings
    redis: Any
    table: JobTable
    report: Report

    def used_bytes(self) -> int:
        return int(self.redis.info("memory")["used_memory"])


def timed(calls: list[float], call: Callable[..., Any], *arguments: object) -> Any:
    began_s = time.perf_counter()
    answer = call(*arguments)
    calls.append(time.perf_counter() - began_s)
    return answer


@contextmanager
def announced_worker(site: Site) -> Iterator[None]:
    """Let the keeper believe in a worker."""
    info = WorkerInfo(
        name="nobody-1",
        model=MODEL,
        host="here",
        pid=1,
        slots=256,
        running_rows=0,
        waiting_rows=0,
        tokens_per_s=0.0,
        kv_used_fraction=0.0,
        started_at_ms=0,
        proved_at_ms=0,
        has_chat_template=True,
        max_model_len=None,
    )
    register = WorkerRegister(connect(site.settings), site.table.keys)
    done = threading.Event()

    def beat() -> None:
        register.announce(info)
        while not done.wait(1.0):
            register.announce(info)

    beating = threading.Thread(target=beat, name="heartbeat")
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()


@contextmanager
def running_api(site: Site, home: Path) -> Iterator[Part]:
    """Run the API, and its keeper, in a process of its own."""
    stack = Stack(site.settings.url, home, home / "api.log")
    environ = {
        **stack.environ(),
        "PENSTOCK_REDIS_URL": str(site.settings.redis_url),
        "PENSTOCK_DATA": site.settings.data,
        "PENSTOCK_NAMESPACE": site.settings.namespace,
        "PENSTOCK_MODELS": MODEL,
    }
    port = site.settings.url.rpartition(":")[2]
    api = Part("api", [str(PENSTOCK), "api", "--port", port], environ, stack.log)
    api.start()
    try:
        deadline_s = time.monotonic() + 60
        while not _answers(f"{site.settings.url}/healthz"):
            if time.monotonic() > deadline_s:
                sys.exit(f"the API does not come up:\n{stack.log.read_text()[-4000:]}")
            time.sleep(0.1)
        yield api
    finally:
        api.close()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def make_many_jobs(site: Site, num_jobs: int) -> list[str]:
    """Submit small jobs, as an API would; the first table calls of all of them are in here."""
    rows = RowsSource([{"n": number} for number in range(JOB_ROWS)])
    before = site.used_bytes()
    times_s: list[float] = []
    job_ids: list[str] = []
    for _ in range(num_jobs):
        request = SubmitRequest(
            TaskSpec(model=MODEL, prompt="{{ row.n }}"), idempotency_key=new_job_id()
        )
        made = timed(times_s, submit, site.settings, site.table, rows, request)
        job_ids.append(made.spec.job_id)
    site.report.add_times("create a job of 100 rows, ms", times_s)
    bytes_per_job = (site.used_bytes() - before) / num_jobs
    site.report.add("Redis, bytes per job", round(bytes_per_job))
    return job_ids


def tick(site: Site) -> None:
    """Keep the queue from here for a while; the first tick makes the table agree with the disk."""
    keeper = Keeper(site.settings, "scale")
    restoring: list[float] = []
    ticks: list[float] = []
    timed(restoring, keeper.step)
    for _ in range(NUM_TICKS):
        timed(ticks, keeper.step)
        time.sleep(TICK_S)
    keeper.start()
    keeper.stop()  # it gives the lead up
    site.report.add("first tick, restoring, s", round(restoring[0], 2))
    site.report.add_times("keeper tick, ms", ticks)


def ask(site: Site, job_ids: list[str], which: str) -> None:
    """Ask the API for a page of jobs, and for one of them."""
    pages: list[float] = []
    ones: list[float] = []
    with httpx2.Client(base_url=site.settings.url, timeout=60) as client:
        for number in range(NUM_CALLS):
            job_id = job_ids[number * 7919 % len(job_ids)]
            for calls, path in ((pages, "/v1/jobs?limit=20"), (ones, f"/v1/jobs/{job_id}")):
                timed(calls, client.get, path).raise_for_status()
    site.report.add_times(f"GET /v1/jobs, {which}, ms", pages)
    site.report.add_times(f"GET /v1/jobs/ID, {which}, ms", ones)


def make_large_job(site: Site, home: Path, num_rows: int) -> tuple[str, int]:
    """Submit one large job through the API; returns it and how many shards it has."""
    path = home / "rows.jsonl"
    with path.open("w") as file:
        file.writelines(f'{{"n": {number}}}\n' for number in range(num_rows))
    began_s = time.perf_counter()
    job = Client(site.settings.url, timeout_s=3600).jobs.submit(
        path, model=MODEL, prompt="{{ row.n }}"
    )
    seconds = time.perf_counter() - began_s
    path.unlink()
    site.report.add("rows per s from upload to 202", round(num_rows / seconds))
    return job.id, -(-num_rows // _shard_rows(site, job.id))


def _shard_rows(site: Site, job_id: str) -> int:
    return int(site.redis.hget(site.table.keys.job(job_id), "shard_rows"))


def drain(site: Site, job_id: str, num_shards: int) -> None:
    """Claim and commit every shard but the last, with some always held."""
    rows = _shard_rows(site, job_id)
    counts = PartCounts(rows, failed=0, prompt_tokens=rows, completion_tokens=rows, cached_tokens=0)
    claims: list[float] = []
    commits: list[float] = []
    held: deque[tuple[ShardRef, int]] = deque()
    before = most = site.used_bytes()
    began_s = time.perf_counter()
    for index in range(num_shards - 1):
        ref = ShardRef(job_id, index)
        claim = timed(claims, site.table.claim, ref, "nobody-1", LEASE_MS)
        if claim.status != "granted":
            sys.exit(f"{ref} was {claim.status}")
        held.append((ref, claim.attempt))
        if len(held) > NUM_LEASED:
            timed(commits, site.table.commit, *held.popleft(), counts)
        if index % 1000 == 0:
            most = max(most, site.used_bytes())
    most = max(most, site.used_bytes())
    seconds = time.perf_counter() - began_s
    for ref, attempt in held:
        site.table.commit(ref, attempt, counts)
    tenth = max(num_shards // 10, 2)
    site.report.add_times("claim, first tenth, ms", claims[:tenth])
    site.report.add_times("claim, last tenth, ms", claims[-tenth:])
    site.report.add_times("claim, all, ms", claims)
    site.report.add_times("commit, all, ms", commits)
    site.report.add("shards per s, one after another", round(num_shards / seconds))
    site.report.add("Redis, bytes per row, at most", round((most - before) / num_shards / rows, 3))


def slow_commands(site: Site) -> dict[str, str]:
    """Read what took Redis long: how often, and the longest."""
    scripts = {name: each for name, each in vars(site.table).items() if isinstance(each, Script)}
    names = {str(each.sha): name.strip("_") for name, each in scripts.items()}
    times: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    for entry in site.redis.slowlog_get(10_000):
        words = entry["command"].decode(errors="replace").split()
        name = words[0]
        if name == "EVALSHA":
            name = names.get(words[1], "EVALSHA")
        times[name] += 1
        longest[name] = max(longest[name], entry["duration"])
    return {
        name: f"{count} x, at most {longest[name] / 1000:.1f} ms" for name, count in times.items()
    }


def measure(site: Site, home: Path, num_rows: int, num_jobs: int) -> None:
    site.redis.config_set("slowlog-log-slower-than", SLOW_US)
    site.redis.config_set("slowlog-max-len", 10_000)
    job_ids = make_many_jobs(site, num_jobs) if num_jobs else []
    with announced_worker(site):
        tick(site)
        with running_api(site, home) as api:
            if job_ids:
                ask(site, job_ids, f"{num_jobs} jobs")
                site.report.add("API, MB", memory_mb(api.pid))
            if num_rows:
                empty = site.used_bytes()
                job_id, num_shards = make_large_job(site, home, num_rows)
                site.report.add("API after the upload, MB", memory_mb(api.pid))
                drain(site, job_id, num_shards)
                bytes_per_row = (site.used_bytes() - empty) / num_rows
                site.report.add("Redis in the end, bytes per row", round(bytes_per_row, 3))
                ask(site, [job_id], f"{num_rows} rows")
                site.report.add("API in the end, MB", memory_mb(api.pid))
    site.report.add("slower than 10 ms in Redis", slow_commands(site))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the large job; 0: none")
    parser.add_argument("--jobs", type=int, default=10_000, help="of 100 rows; 0: none")
    parser.add_argument("--home", type=Path, help="a directory with room; default: a temporary one")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ps", dir=asked.home) as folder,
        RedisServer(Path(folder) / "redis") as server,
        reserved_port() as port,
    ):
        home = Path(folder)
        settings = Settings(
            url=f"http://127.0.0.1:{port}",
            redis_url=server.url,
            data=str(home / "data"),
            models=(MODEL,),
            namespace="scale",
        )
        table = JobTable(connect(settings), Keys(settings.namespace))
        site = Site(settings, redis.Redis.from_url(server.url), table, Report())
        measure(site, home, asked.rows, asked.jobs)
    site.report.show()


if __name__ == "__main__":
    main()
