"""Harm to the queue's own work: messages delivered many times, nobody or two who keep it."""

import signal
import time

from penstock.jobs.app import create_app
from penstock.jobs.job_dir import JobDir
from penstock.jobs.keeper import Keeper
from penstock.jobs.messages import send_shards

from ..scene import Fault, Scene

_TIMES = 10


def deliver_again(scene: Scene) -> None:
    """F21: every shard's message arrives ten times more."""
    settings = scene.stack.settings
    app = create_app(settings)
    spec = JobDir(settings.jobs_dir, scene.main.job_id).read_spec()
    scene.until(0.1)
    scene.strike()
    for _ in range(_TIMES):
        send_shards(app, spec, range(spec.num_shards))
    scene.notes["messages"] = _TIMES * spec.num_shards
    app.close()


def two_keepers(scene: Scene) -> None:
    """F37: two more keepers run that never ask whether they lead."""
    keepers = [_Usurper(scene.stack.settings, f"usurper-{number}") for number in range(2)]
    scene.until(0.1)
    scene.strike()
    for keeper in keepers:
        keeper.start()
    scene.until(0.9)
    for keeper in keepers:
        keeper.stop()


def no_keeper(scene: Scene) -> None:
    """F37: the API, which may lead, is frozen, and a worker dies; another keeper must step in."""
    scene.until(0.2)
    scene.strike()
    scene.stack.api.send(signal.SIGSTOP)
    worker = scene.random.choice(scene.stack.workers)
    worker.kill()
    time.sleep(10.0)
    scene.stack.api.send(signal.SIGCONT)


class _Usurper(Keeper):
    """A keeper that takes itself for the leader."""

    def _elect(self) -> None:
        self.is_leading = True


FAULTS = (
    Fault(number="F21", title="every message ten times more", inject=deliver_again),
    Fault(number="F37", title="two keepers too many", inject=two_keepers),
    Fault(number="F37", title="API frozen and a worker killed", inject=no_keeper),
)
