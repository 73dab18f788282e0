"""Harm to the wire between workers and Redis: partitions, lost answers, connections cut."""

import time
from collections.abc import Sequence

import httpx2

from ..proxy import FaultProxy, Mood
from ..scene import Fault, Scene
from ..stack import StackOptions

_API_AWAY_S = 8.0
PROXIED = StackOptions(is_proxied=True)


def part_for(away_s: float) -> Fault:
    """F18: no worker reaches Redis for a while, and nobody is told so by a closed connection."""

    def inject(scene: Scene) -> None:
        _under(scene, _of_workers(scene), Mood.SILENT, away_s)

    title = f"workers cut off from Redis for {away_s:g} s"
    return Fault(number="F18", title=title, inject=inject, options=PROXIED)


def part_one(scene: Scene) -> None:
    """F18: one worker is cut off for longer than its lease; its shards become the other's."""
    _under(scene, [scene.random.choice(_of_workers(scene))], Mood.SILENT, 8.0)


def flap(scene: Scene) -> None:
    """F18: the partition comes and goes, and each time all connections are cut."""
    scene.until(0.2)
    scene.strike()
    for _ in range(5):
        for proxy in _of_workers(scene):
            proxy.mood = Mood.SILENT
        time.sleep(scene.random.uniform(0.2, 1.5))
        for proxy in _of_workers(scene):
            proxy.cut()
            proxy.mood = Mood.PASSING
        time.sleep(scene.random.uniform(0.2, 1.0))
    _check_alive(scene)


def lose_answers(scene: Scene) -> None:
    """F20: Redis has done what it was asked, and every fifth answer never arrives."""
    proxies = _of_workers(scene)
    lost_before = sum(proxy.num_lost for proxy in proxies)
    _under(scene, proxies, Mood.LOSING, 5.0)
    scene.notes["answers_lost"] = sum(proxy.num_lost for proxy in proxies) - lost_before


def part_api(scene: Scene) -> None:
    """F19: the API does not reach Redis; it says so soon, and the workers go on."""
    scene.until(0.1)
    before = scene.main.done
    scene.strike()
    scene.stack.redis_proxies[-1].mood = Mood.SILENT
    slowest_s = 0.0
    ends_at_s = time.monotonic() + _API_AWAY_S
    try:
        while time.monotonic() < ends_at_s:
            started_s = time.monotonic()
            answer = httpx2.get(f"{scene.stack.url}/v1/jobs/{scene.main.job_id}", timeout=60)
            slowest_s = max(slowest_s, time.monotonic() - started_s)
            if answer.status_code != 503:
                scene.blame(f"F19 without Redis the API answers {answer.status_code}")
            time.sleep(0.2)
    finally:
        scene.stack.redis_proxies[-1].mood = Mood.PASSING
    scene.notes["slowest_answer_s"] = round(slowest_s, 1)
    scene.wait_for(lambda: scene.main.done > before, "the job to be seen again")
    scene.notes["rows_meanwhile"] = scene.main.done - before


def _of_workers(scene: Scene) -> list[FaultProxy]:
    return scene.stack.redis_proxies[:-1]


def _under(scene: Scene, proxies: Sequence[FaultProxy], mood: Mood, for_s: float) -> None:
    scene.until(0.2)
    scene.strike()
    for proxy in proxies:
        proxy.mood = mood
    try:
        time.sleep(for_s)
    finally:
        for proxy in proxies:
            proxy.mood = Mood.PASSING
    _check_alive(scene)


def _check_alive(scene: Scene) -> None:
    """A worker bears whatever the wire does to it."""
    for worker in scene.stack.workers:
        if worker.process is not None and worker.process.poll() is not None:
            scene.blame(f"{scene.fault.number} {worker.name} ended, status {worker.wait()}")


FAULTS = (
    part_for(5.0),
    part_for(20.0),
    Fault(number="F18", title="one worker cut off for 8 s", inject=part_one, options=PROXIED),
    Fault(number="F18", title="a partition that comes and goes", inject=flap, options=PROXIED),
    Fault(number="F19", title="API cut off from Redis", inject=part_api, options=PROXIED),
    Fault(number="F20", title="answers of Redis lost", inject=lose_answers, options=PROXIED),
)
