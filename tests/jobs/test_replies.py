import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis

from penstock.jobs.frames import Delta, InteractiveRequest
from penstock.jobs.interactive import InteractiveLane
from penstock.jobs.keys import Keys
from penstock.jobs.replies import Reply, ReplyPublisher
from penstock.jobs.settings import Settings

from .live import wait_for

TEXT = Delta("chat-1", text="a")
LAST = Delta("chat-1", text="b", finish_reason="stop", is_last=True)


class Stumbling:
    """A client whose pipelines fail a few times, before or after they have done their work."""

    def __init__(self, client: redis.Redis, num_failures: int, *, is_late: bool) -> None:
        self.client: Any = client
        self.num_failures = num_failures
        self.is_late = is_late

    def pipeline(self, **options: Any) -> Any:
        pipeline = self.client.pipeline(**options)
        execute = pipeline.execute

        def stumble(**options: Any) -> Any:
            answer = None
            if self.is_late or self.num_failures <= 0:
                answer = execute(**options)
            if self.num_failures > 0:
                self.num_failures -= 1
                raise redis.ConnectionError("cut")
            return answer

        pipeline.execute = stumble
        return pipeline


@pytest.fixture
def publish(keys: Keys) -> Iterator[Callable[[Any], ReplyPublisher]]:
    started: list[ReplyPublisher] = []

    def start(client: Any) -> ReplyPublisher:
        publisher = ReplyPublisher(client, keys, "w1", on_over=lambda delta: None)
        publisher.start()
        started.append(publisher)
        return publisher

    yield start
    for publisher in started:
        publisher.stop()


def tail(client: redis.Redis, keys: Keys) -> list[Reply]:
    entries: Any = client.xrange(keys.tail("chat-1"))
    return [msgspec.json.decode(fields["reply"], type=Reply) for _, fields in entries]


@pytest.mark.parametrize("is_late", [False, True])
def test_replies_that_cannot_be_sent_are_sent_again(
    redis_client: redis.Redis, keys: Keys, publish: Any, is_late: bool
) -> None:
    publisher = publish(Stumbling(redis_client, 3, is_late=is_late))
    publisher.open("chat-1", "api")
    for delta in (TEXT, LAST):
        publisher.send((delta,))
    wait_for(lambda: [r for r in tail(redis_client, keys) if r.deltas[-1].is_last], "the end")
    replies = tail(redis_client, keys)
    assert [delta for reply in replies for delta in reply.deltas] == [TEXT, LAST]
    wait_for(lambda: not publisher._streams, "the request to be forgotten")


def test_no_error_ends_the_publisher(
    redis_client: redis.Redis,
    keys: Keys,
    publish: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = Stumbling(redis_client, 0, is_late=False)
    publisher = publish(client)
    publisher.open("chat-1", "api")
    with monkeypatch.context() as patch:
        patch.setattr(client, "pipeline", None)  # a bug, say
        publisher.send((TEXT,))
        wait_for(lambda: publisher._streams["chat-1"].num_sent, "the text to be given up")
    publisher.send((LAST,))
    (reply,) = wait_for(lambda: tail(redis_client, keys), "the next text")
    assert (reply.first, reply.deltas) == (1, (LAST,))  # a reader sees the gap
    assert "cannot publish" in caplog.text


def test_a_waiting_request_is_kept_alive(
    redis_client: redis.Redis, keys: Keys, publish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.jobs.replies.KEEPALIVE_S", 0.1)
    with redis_client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(keys.reply("api"))
        publisher = publish(redis_client)
        publisher.open("chat-1", "api")

        def heard() -> Any:
            message: Any = subscription.get_message(timeout=1.0)
            return message and msgspec.json.decode(message["data"], type=Reply)

        for _ in range(3):
            assert wait_for(heard, "a sign of life") == Reply("chat-1", "w1", 0)


def test_a_reader_does_not_wait_for_ever(
    settings: Settings, keys: Keys, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives, but has forgotten the request."""
    monkeypatch.setattr("penstock.jobs.interactive.QUIET_LIMIT_S", 0.5)
    monkeypatch.setattr("penstock.jobs.interactive._LOOK_S", 0.1)

    async def run() -> Delta:
        lane = InteractiveLane(settings)
        monkeypatch.setattr(lane, "_is_alive", _yes)
        stream: asyncio.Queue[Reply | None] = asyncio.Queue()
        stream.put_nowait(Reply("chat-1", "w1", 0))
        request = InteractiveRequest("chat-1", "m", prompt="hello")
        await lane.open()
        try:
            return await asyncio.wait_for(anext(aiter(lane._follow(request, stream))), 30.0)
        finally:
            await lane.close()

    last = asyncio.run(run())
    assert last.is_last and last.error is not None and last.error.retryable
    assert "nothing was heard" in last.error.message


async def _yes(worker: str) -> bool:
    return True
