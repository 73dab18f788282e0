"""Messages that no Penstock has sent: what is pickled is never read, and the worker goes on."""

import os
import pickle
from pathlib import Path

import pytest
from kombu.connection import Connection
from kombu.messaging import Producer

from penstock.api.client import Client
from penstock.jobs.app import create_app
from penstock.jobs.redis_client import connect

from ..jobs.live import wait_for
from .conftest import MODEL, Stack


class Bomb:
    """Leaves a mark wherever it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("lane", ["bulk", "interactive", "control"])
def test_what_is_pickled_is_refused(stack: Stack, tmp_path: Path, lane: str) -> None:
    app = create_app(stack.settings)
    queue = app.control_lane if lane == "control" else app.lane(lane, MODEL)
    mark = tmp_path / "mark"
    body = pickle.dumps(((), {"bomb": Bomb(mark)}, {}))
    headers = {"task": "penstock.generate", "id": "strange", "lang": "py"}
    with Connection(app.conf.broker_url) as connection, connection.channel() as channel:
        Producer(channel).publish(
            body,
            exchange=queue.exchange,
            routing_key=queue.routing_key,
            declare=[queue],
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers=headers,
        )
    with connect(stack.settings) as redis, Client(stack.url) as client:
        wait_for(lambda: not redis.llen(queue.name), "the message to be taken")
        job = client.jobs.submit([{"a": 1}], prompt="{{ row.a }}", model=MODEL)
        assert job.wait(timeout_s=60).counts.succeeded == 1
        assert client.chat("hello", model=MODEL).text
    assert not mark.exists()
    app.close()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "it would have left a mark"
