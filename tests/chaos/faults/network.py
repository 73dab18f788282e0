"""Harm to the wire between workers and Redis: partitions, lost answers, connections cut."""

import time

from ..proxy import FaultProxy, Mood
from ..scene import Fault, Scene
from ..stack import StackOptions

PROXIED = StackOptions(is_proxied=True)


def part_for(away_s: float) -> Fault:
    """F18: no worker reaches Redis for a while, and nobody is told so by a closed connection."""

    def inject(scene: Scene) -> None:
        _under(scene, Mood.SILENT, away_s)

    title = f"workers cut off from Redis for {away_s:g} s"
    return Fault(number="F18", title=title, inject=inject, options=PROXIED)


def flap(scene: Scene) -> None:
    """F18: the partition comes and goes, and each time all connections are cut."""
    scene.until(0.2)
    scene.strike()
    proxy = redis_proxy(scene)
    for _ in range(5):
        proxy.mood = Mood.SILENT
        time.sleep(scene.random.uniform(0.2, 1.5))
        proxy.cut()
        proxy.mood = Mood.PASSING
        time.sleep(scene.random.uniform(0.2, 1.0))


def lose_answers(scene: Scene) -> None:
    """F20: Redis has done what it was asked, and every fifth answer never arrives."""
    lost_before = redis_proxy(scene).num_lost
    _under(scene, Mood.LOSING, 5.0)
    scene.notes["answers_lost"] = redis_proxy(scene).num_lost - lost_before


def redis_proxy(scene: Scene) -> FaultProxy:
    """Return what stands between the workers and Redis."""
    assert scene.stack.redis_proxy is not None
    return scene.stack.redis_proxy


def _under(scene: Scene, mood: Mood, for_s: float) -> None:
    scene.until(0.2)
    scene.strike()
    redis_proxy(scene).mood = mood
    try:
        time.sleep(for_s)
    finally:
        redis_proxy(scene).mood = Mood.PASSING


FAULTS = (
    part_for(5.0),
    part_for(20.0),
    Fault(number="F18", title="a partition that comes and goes", inject=flap, options=PROXIED),
    Fault(number="F20", title="answers of Redis lost", inject=lose_answers, options=PROXIED),
)
