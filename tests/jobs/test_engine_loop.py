"""The loop and the intake of the engine process, without the process."""

import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from penstock.engine.outputs import FinishReason, Priority, Request, RequestError, StepOutput
from penstock.jobs.engine_child import EngineChild
from penstock.jobs.engine_loop import EngineLoop, Interactive
from penstock.jobs.fake_engine import FakeEngine, FakeModel
from penstock.jobs.frame_link import FrameLink
from penstock.jobs.frames import Configuration, Deltas, InteractiveRequest, ToEngine
from penstock.jobs.model import SamplingParams
from penstock.jobs.settings import Settings


class Refusing(FakeEngine):
    """Refuses every request without saying why."""

    def add(self, request: Request) -> StepOutput | None:
        return StepOutput(request.request_id, 0, finish_reason=FinishReason.ERROR)


def test_a_refusal_without_a_reason_ends_its_request() -> None:
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    engine = Refusing(FakeModel(), slots=1)
    loop = EngineLoop(
        engine,
        engine.tokenizer,
        send=sent.put,
        on_shard_done=lambda run: None,
        num_unread_shards=lambda: 0,
    )
    request = Request("chat-1", (65,), SamplingParams(), Priority.INTERACTIVE)
    loop._take(Interactive("chat-1", request))
    deltas = sent.get_nowait()
    assert isinstance(deltas, Deltas)
    (delta,) = deltas.deltas
    assert delta.is_last and delta.error is not None and delta.error.code == "engine_error"


@contextmanager
def engine_child(tmp_path: Path) -> Iterator[EngineChild]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        link = FrameLink(ours, ToEngine)
        yield EngineChild(link, Configuration(Settings(data=str(tmp_path)), "fake:", "w1"))
        link.close()
        link.run(lambda frame: None)


def test_a_request_that_trips_the_intake_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def trip(request: InteractiveRequest) -> None:
        raise TypeError("nobody thought of this")

    with engine_child(tmp_path) as child:
        monkeypatch.setattr(child._encoder, "encode_request", trip)
        answer = child._prepare(InteractiveRequest("chat-1", "fake:", prompt="hello"))
    assert isinstance(answer, RequestError)
    assert "nobody thought of this" in answer.message


def test_requests_share_cached_prefixes_with_their_tenants_alone(tmp_path: Path) -> None:
    with engine_child(tmp_path) as child:
        asked = InteractiveRequest("chat-1", "fake:", prompt="hello", cache_salt="acme")
        prepared = child._prepare(asked)
    assert isinstance(prepared, Request) and prepared.cache_salt == "acme"
