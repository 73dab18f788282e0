"""What GET /metrics tells, that its labels stay few, and the header that tells the overhead."""

import os
from collections import Counter
from itertools import pairwise
from typing import Any

import httpx2
import openai

from penstock.api.live_metrics import largest
from penstock.api.meters import MAX_NAMES, OTHER, FewNames, Meters
from penstock.jobs.keys import Keys
from penstock.jobs.redis_client import connect
from tests.waiting import wait_for

from .conftest import IDLE_MODEL, MODEL, Stack

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def scrape(http: httpx2.Client) -> dict[str, float]:
    lines = http.get("/metrics").text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_an_answer_is_timed_and_counted(client: openai.OpenAI, http: httpx2.Client) -> None:
    label = f'{{model="{MODEL}"}}'
    ended = f'penstock_request_success_total{{finished_reason="stop",model="{MODEL}"}}'
    watched = {
        f"penstock_time_to_first_token_seconds_count{label}": 1 * 2,
        f"penstock_inter_token_latency_seconds_count{label}": 2 * 7 * 2,
        f"penstock_e2e_request_latency_seconds_count{label}": 1 * 2,
        f"penstock_generation_tokens_total{label}": 2 * 8 * 2,
        f"penstock_prompt_tokens_total{label}": 2 * 2,
        ended: 2 * 2,
    }
    before = scrape(http)
    messages: Any = CHAT["messages"]
    client.chat.completions.create(model=MODEL, messages=messages, n=2)
    with client.chat.completions.create(model=MODEL, messages=messages, n=2, stream=True) as stream:
        assert len(list(stream)) == 2 * 8
    after = scrape(http)
    assert {name: after[name] - before.get(name, 0.0) for name in watched} == watched


def test_the_queue_is_told_by_lane_and_by_tenant(http: httpx2.Client) -> None:
    rows_of_all = 'penstock_queue_rows{tenant="default"}'
    waiting, running = (
        f'penstock_backlog_rows{{model="{model}"}}' for model in (IDLE_MODEL, MODEL)
    )
    in_progress = "penstock_http_requests_in_progress"

    def is_quiet() -> dict[str, float] | None:
        told = scrape(http)
        return told if (told[running], told[in_progress]) == (0, 1) else None

    before = wait_for(is_quiet, "the end of what other tests have begun")
    body = {"model": IDLE_MODEL, "input": {"rows": [{"a": 1}] * 3}, "prompt": "{{ row.a }}"}
    job_id = http.post("/v1/jobs", json=body).json()["id"]
    try:
        told = scrape(http)
        assert told[rows_of_all] - before.get(rows_of_all, 0) == 3
        assert told[waiting] - before[waiting] == 3
        assert told[running] == 0
        http.post(f"/v1/jobs/{job_id}/pause")
        assert scrape(http)[waiting] == before[waiting]
        assert told[f'penstock_queue_depth{{lane="interactive",model="{MODEL}"}}'] == 0
        assert told[in_progress] == 1  # this very one
    finally:
        http.post(f"/v1/jobs/{job_id}/cancel")


def await_heartbeats(stack: Stack) -> None:
    """Wait until the worker has told of all that it had counted before: by its second beat.

    While the first is written down, something may still be counted.
    """
    keys = Keys(stack.settings.namespace)
    with connect(stack.settings) as redis:
        [name] = wait_for(lambda: redis.smembers(keys.workers), "a worker")
        key = keys.worker(str(name))
        lifetimes_ms = [redis.pttl(key)]

        def beats() -> int:
            lifetimes_ms.append(redis.pttl(key))
            return sum(after > before for before, after in pairwise(lifetimes_ms))

        wait_for(lambda: beats() >= 2, "two heartbeats")


def test_the_landed_rows_of_workers_are_told_by_code(http: httpx2.Client, stack: Stack) -> None:
    def landed() -> Counter[str]:
        rows: Counter[str] = Counter()
        for name, value in scrape(http).items():
            if name.startswith("penstock_rows_landed_total{"):
                rows[name.partition('code="')[2].partition('"')[0]] += int(value)
        return rows

    await_heartbeats(stack)  # rows of other tests may have landed since the last
    before = landed()
    rows = [{"a": "fine"}, {"a": "[[fail]]"}, {"a": "fine, too"}]
    body = {"model": MODEL, "input": {"rows": rows}, "prompt": "{{ row.a }}"}
    job_id = http.post("/v1/jobs", json=body).json()["id"]
    wait_for(lambda: http.get(f"/v1/jobs/{job_id}?wait=20").json()["status"].startswith("compl"))
    wait_for(lambda: (landed() - before).total() == 3, "the worker's next heartbeat")
    assert landed() - before == {"": 2, "engine_error": 1}


def test_what_everything_stands_on_is_told(http: httpx2.Client, stack: Stack) -> None:
    told = scrape(http)
    assert told["penstock_keeper_up"] == told["penstock_redis_aof_ok"] == 1
    assert 0 < told["penstock_redis_ping_seconds"] < 60
    assert told["penstock_redis_used_memory_bytes"] > 0
    disk = os.statvfs(stack.settings.data_dir)
    assert told["penstock_data_size_bytes"] == disk.f_blocks * disk.f_frsize
    assert 0 < told["penstock_data_free_bytes"] <= told["penstock_data_size_bytes"]
    [ready] = [value for name, value in told.items() if name.startswith("penstock_worker_ready{")]
    assert ready == 1


def test_the_smallest_tenants_share_a_label() -> None:
    rows = Counter({f"tenant-{number}": number for number in range(MAX_NAMES + 3)})
    kept = largest(rows)
    assert len(kept) == MAX_NAMES + 1
    assert kept[OTHER] == 0 + 1 + 2
    assert kept.total() == rows.total()


def test_labels_are_few_whatever_is_named() -> None:
    names = FewNames(2)
    assert [names.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]
    meters = Meters()
    for number in range(MAX_NAMES + 50):
        meters.count_job(f"model-{number}")
        meters.answer_ended("m", f"reason-{number}")
    [jobs] = [family for family in meters.registry.collect() if "jobs" in family.name]
    labels = {sample.labels["model"] for sample in jobs.samples}
    assert OTHER in labels
    assert len(labels) <= MAX_NAMES + 1
    [ended] = [family for family in meters.registry.collect() if "success" in family.name]
    assert {sample.labels["finished_reason"] for sample in ended.samples} == {OTHER}


def test_the_overhead_leaves_out_what_was_waited_for(http: httpx2.Client) -> None:
    """Of the 192 ms that the engine takes at least, a tenth must have been noticed as waiting."""
    prompt = "[[say]]" + "water " * 80
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 100}
    answer = http.post("/v1/completions", json=body)
    took_ms = answer.elapsed.total_seconds() * 1000
    assert took_ms > 95 * 2
    assert 0 < float(answer.headers["x-overhead-ms"]) < took_ms - 20
    assert float(http.get("/healthz").headers["x-overhead-ms"]) > 0


def test_workers_tell_their_totals(http: httpx2.Client) -> None:
    def generated() -> float:
        name = "penstock_engine_generation_tokens_total{"
        return sum(value for label, value in scrape(http).items() if label.startswith(name))

    before = generated()
    http.post("/v1/chat/completions", json=CHAT)
    wait_for(lambda: generated() >= before + 8, "a heartbeat")
    told = http.get("/metrics").text
    for name in ("prefix_cache_queries_total{", "prefix_cache_hits_total{",
                 "num_preemptions_total{", "shard_retries_total{", "lease_expiries_total{",
                 "engine_generation_tokens_total{"):  # fmt: skip
        assert f"penstock_{name}" in told
    assert 'penstock_lease_expiries_total{model="",worker="api"} 0.0' in told
