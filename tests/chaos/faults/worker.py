"""Harm to workers: killed with all they started, paused past their lease, asked to stop."""

import signal
import time

from ..scene import Fault, Scene


def kill(scene: Scene) -> None:
    """F07: kill a worker and its engine at once; another one is started a moment later."""
    scene.until(0.3)
    worker = scene.random.choice(scene.stack.workers)
    scene.strike()
    worker.kill()
    time.sleep(1.0)
    worker.start()


def kill_all(scene: Scene) -> None:
    """F07: kill every worker; the queue is empty-handed until they are back."""
    scene.until(0.3)
    scene.strike()
    for worker in scene.stack.workers:
        worker.kill()
    time.sleep(1.0)
    for worker in scene.stack.workers:
        worker.start()


def sleep_for(leases: float) -> Fault:
    """F08: stop a worker and its engine until its shards are somebody else's, then wake it."""

    def inject(scene: Scene) -> None:
        _stop_for(leases, scene, with_children=True)

    title = f"worker and engine asleep for {leases:g} leases"
    return Fault(number="F08", title=title, inject=inject)


def doze_for(leases: float) -> Fault:
    """F08: stop the worker alone; its engine lands rows, which it reports when others have them."""

    def inject(scene: Scene) -> None:
        _stop_for(leases, scene, with_children=False)

    title = f"worker asleep for {leases:g} leases, engine awake"
    return Fault(number="F08", title=title, inject=inject)


def _stop_for(leases: float, scene: Scene, *, with_children: bool) -> None:
    scene.until(0.1)
    worker = scene.random.choice(scene.stack.workers)
    scene.strike()
    worker.send(signal.SIGSTOP, with_children=with_children)
    time.sleep(leases * scene.stack.options.lease_s)
    worker.send(signal.SIGCONT, with_children=with_children)
    scene.notes["woke_at"] = scene.main.done


def rolling_restart(scene: Scene) -> None:
    """F09: ask the workers to stop, one after the other; each must go with status 0."""
    scene.until(0.2)
    scene.strike()
    for worker in scene.stack.workers:
        started_s = time.monotonic()
        worker.send(signal.SIGTERM)
        status = worker.wait()
        if status != 0:
            scene.blame(f"F09 {worker.name} ended with status {status}")
        scene.notes[f"{worker.name}_stop_s"] = round(time.monotonic() - started_s, 1)
        worker.start()
        scene.stack.wait_until_serving(worker)


FAULTS = (
    Fault(number="F07", title="worker killed", inject=kill),
    Fault(number="F07", title="all workers killed", inject=kill_all),
    sleep_for(3.0),
    doze_for(3.0),
    Fault(number="F09", title="workers asked to stop, in turn", inject=rolling_restart),
)
