"""Harm to the API: killed while jobs arrive, while events are read, or unheard by its client."""

import json
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import httpx2

from ..ledger import Order
from ..proxy import Mood
from ..scene import Fault, Scene, post_job
from ..stack import PATIENCE_S, TOKENS, NeverHappened
from .network import PROXIED

_NUM_KILLS = 5
_EVENTS_LIMIT_S = 30.0


def kill_while_jobs_arrive(scene: Scene) -> None:
    """F10: the API dies somewhere in an upload; the client tries again under the same key."""
    stack = scene.stack
    url, model = stack.url, stack.model
    scene.until(0.1)
    started_s = time.monotonic()
    order = Order(500, scene.seed, TOKENS)
    post_job(url, model, order, name="calm")
    took_s = time.monotonic() - started_s
    scene.strike()
    for number in range(_NUM_KILLS):
        key = f"{scene.seed}-{started_s}-{number}"
        order = replace(order, seed=1000 * scene.seed + number)
        moment_s = scene.random.uniform(0.0, 1.2 * took_s)
        killer = threading.Timer(moment_s, stack.api.send, (signal.SIGKILL,))
        killer.start()
        with suppress(httpx2.HTTPError):  # no answer: whether there is a job is not known
            post_job(url, model, order, key=key, name=key)
        killer.join()
        stack.api.wait()
        stack.api.start()
        _submit_again(scene, order, key)
        _check_made_once(scene, key)


def kill_while_events_are_read(scene: Scene) -> None:
    """F11: the API dies under a reader of events, who goes on from the last one it saw."""
    reader = _EventReader(scene)
    reader.start()
    scene.until(0.3)
    scene.strike()
    scene.stack.api.kill()
    scene.stack.api.start()
    reader.join()
    times = Counter(reader.shards)
    num_shards = len(scene.main.parts())
    scene.notes["events"] = len(reader.shards)
    doubled = [shard for shard, count in times.items() if count > 1]
    if doubled:
        scene.blame(f"F11 shards told twice: {doubled[:5]}")
    missed = set(range(num_shards)) - set(times)
    if missed:
        scene.blame(f"F11 {len(missed)} of {num_shards} shards were never told")


def answer_unheard(scene: Scene) -> None:
    """F43: three creates under one key are done and not heard; the fourth gets the one job."""
    proxy = scene.stack.api_proxy
    assert proxy is not None
    order = Order(100, scene.seed + 7, TOKENS)
    key = f"unheard-{scene.seed}-{time.monotonic()}"
    scene.until(0.1)
    scene.strike()
    proxy.mood = Mood.DEAF
    for _ in range(3):
        try:
            post_job(proxy.address, scene.stack.model, order, key=key, name=key, timeout_s=0.7)
            scene.blame("F43 an answer came through that should have been held")
        except httpx2.HTTPError:
            pass  # as it is meant: the client gives up and tries again
    proxy.cut()
    proxy.mood = Mood.PASSING
    scene.submit(order, key=key, name=key)
    _check_made_once(scene, key)


class _EventReader(threading.Thread):
    """Reads the main job's events to the end, connecting again as a browser does."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(daemon=True)
        self.shards: list[int] = []
        self._scene = scene
        self._last_id = ""
        self._is_over = False

    def run(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not self._is_over and time.monotonic() < deadline_s:
            try:
                self._read()
            except httpx2.HTTPError:
                time.sleep(0.2)

    def _read(self) -> None:
        path = f"{self._scene.stack.url}/v1/jobs/{self._scene.main.job_id}/events"
        headers = {"last-event-id": self._last_id} if self._last_id else {}
        with httpx2.stream("GET", path, headers=headers, timeout=_EVENTS_LIMIT_S) as answer:
            answer.raise_for_status()
            kind = ""
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    self._last_id = value
                elif name == "event":
                    kind = value
                elif name == "data" and kind == "shard.landed":
                    self.shards.append(json.loads(value)["index"])
                elif name == "data" and kind == "done":
                    self._is_over = True
                    return


def _submit_again(scene: Scene, order: Order, key: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            scene.submit(order, key=key, name=key)
            return
        except httpx2.TransportError:  # the API is not up yet
            time.sleep(0.1)
    raise NeverHappened(f"{scene.fault.number}: the API does not answer again")


def _check_made_once(scene: Scene, name: str) -> None:
    jobs = httpx2.get(f"{scene.stack.url}/v1/jobs", params={"limit": 100}, timeout=10).json()
    num_made = sum(job["name"] == name for job in jobs["data"])
    if num_made != 1:
        scene.blame(f"{scene.fault.number} one key made {num_made} jobs")


FAULTS = (
    Fault(number="F10", title="API killed while jobs arrive", inject=kill_while_jobs_arrive),
    Fault(number="F11", title="API killed under a reader", inject=kill_while_events_are_read),
    Fault(
        number="F43",
        title="create done but not heard, tried again",
        inject=answer_unheard,
        options=PROXIED,
    ),
)
