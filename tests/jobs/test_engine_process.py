import os
import queue
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.engine.outputs import Priority, Request
from penstock.jobs.engine_process import EngineProcess
from penstock.jobs.fake_engine import FakeEngine, FakeModel, expected_text
from penstock.jobs.frame_link import FrameLink
from penstock.jobs.frames import (
    LARGEST_FRAME,
    AbortRequest,
    BrokenFrame,
    Deltas,
    FrameDecoder,
    Progress,
    Ready,
    RunShard,
    ShardFailed,
    ToEngine,
    ToWorker,
    Trouble,
    encode,
)
from penstock.jobs.model import SamplingParams
from tests.waiting import PATIENCE_S

from .engines import generate

FRAME = RunShard("job_1", index=3, attempt=7)


@pytest.mark.parametrize("size", [1, 3, 1_000])
def test_frames_survive_any_cut(size: int) -> None:
    frames = [FRAME, AbortRequest("r"), generate("hello")]
    data = b"".join(map(encode, frames))
    decoder = FrameDecoder(ToEngine)
    heard = [f for at in range(0, len(data), size) for f in decoder.feed(data[at : at + size])]
    assert heard == frames


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        (LARGEST_FRAME + 1).to_bytes(4, "big"),
        b"\0\0\0\x01\xc1",
        encode(Ready(1, 1, True, None)),  # of the other direction
        b"\0\0\x20\0" + b"\x91" * 8192,  # nested too deeply
    ],
)
def test_garbage_is_no_frame(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        FrameDecoder(ToEngine).feed(data)


def test_a_link_carries_much_both_ways_and_ends_on_garbage() -> None:
    ours, theirs = socket.socketpair()
    left, right = FrameLink(ours, ToEngine), FrameLink(theirs, ToEngine)
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()
    reasons: queue.SimpleQueue[str] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=lambda: reasons.put(left.run(heard.put))),
        threading.Thread(target=lambda: reasons.put(right.run(right.send))),  # an echo
    ]
    for thread in threads:
        thread.start()
    sent = [generate(str(number) * 50_000) for number in range(100)]
    for frame in sent:
        left.send(frame)
    assert [heard.get(timeout=PATIENCE_S) for _ in sent] == sent
    os.write(ours.fileno(), b"\xff" * 16)
    for thread in threads:
        thread.join(10)
    assert "garbage on the socket" in reasons.get() + reasons.get()
    left.send(FRAME)  # into the void, as the wire would


def test_it_loads_serves_and_stops(engines: Any) -> None:
    engine, heard = engines()
    ready = heard.next(Ready)
    assert (ready.slots, ready.has_chat_template, engine.ready) == (64, True, ready)
    assert ready.revision == "made-up"
    assert engine.send(generate("hello"))
    assert heard.text_of("hello") == expected_text("hello", num_tokens=6)
    progress = heard.next(Progress, lambda frame: frame.running_rows == 0 and frame.steps >= 6)
    assert progress.proved_at_ms > (time.time() - 30) * 1000
    pid = engine.pid
    engine.stop()
    assert not engine.send(generate("hello"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert heard.losses.empty()


def test_kill_9_brings_a_new_one(engines: Any) -> None:
    engine, heard = engines()
    first = heard.next(Ready)
    engine.send(generate("[[long]]"))
    heard.next(Deltas)
    os.kill(first.pid, signal.SIGKILL)
    assert heard.losses.get(timeout=PATIENCE_S).reason == "signal 9"
    second = heard.next(Ready)
    assert second.pid != first.pid
    assert engine.num_losses == 1
    engine.send(generate("hello"))
    assert heard.text_of("hello") == expected_text("hello", num_tokens=6)


def test_a_new_one_tells_the_revision_of_what_it_has_loaded(engines: Any, tmp_path: Path) -> None:
    (tmp_path / "revision").write_text("old")
    _, heard = engines(f"fake:revision={tmp_path / 'revision'}")
    first = heard.next(Ready)
    (tmp_path / "revision").write_text("new")
    os.kill(first.pid, signal.SIGKILL)
    assert (first.revision, heard.next(Ready).revision) == ("old", "new")


def test_a_hung_engine_shows_where_it_stands_and_is_replaced(
    engines: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("penstock.jobs.engine_process.FIRST_STEPS_LIMIT_S", 0.0)
    monkeypatch.setattr("penstock.jobs.crash_report._STACKS_WAIT_S", 60.0)
    engine, heard = engines(hang_limit_s=2.5)
    heard.next(Ready)
    engine.send(generate("[[hang]]"))
    loss = heard.losses.get(timeout=PATIENCE_S)
    assert loss.has_hung and str(loss).startswith("no progress for 2.5 s at fake_engine.py:")
    assert loss.report is not None and loss.report.parent == tmp_path / "crashes"
    stacks = loss.report.read_text()
    assert "_advance" in stacks and "_serve_link" in stacks  # of every thread
    heard.next(Ready)


def test_a_slow_engine_is_given_time(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.jobs.engine_process.FIRST_STEPS_LIMIT_S", 0.0)
    monkeypatch.setattr("penstock.jobs.engine_process._HANG_FACTOR", 60)
    engine, heard = engines("fake:step_ms=50,tokens=6", hang_limit_s=2.0)
    heard.next(Ready)
    for _ in range(4):
        engine.send(generate("hello"))
        heard.text_of("hello")
    heard.next(Progress, lambda frame: frame.steps > 20)
    started_s = time.monotonic()
    engine.send(generate("[[hang]]"))
    assert heard.losses.get(timeout=PATIENCE_S).has_hung
    assert time.monotonic() - started_s > 2.5  # 60 steps of 50 ms


@pytest.mark.parametrize("step", ["_spawn", "_configure"])
def test_a_process_that_cannot_be_started_is_started_later(
    engines: Any, monkeypatch: pytest.MonkeyPatch, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    works = getattr(EngineProcess, step)
    failures = [BlockingIOError("Resource temporarily unavailable"), BrokenPipeError("gone")]

    def fail(self: EngineProcess, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return works(self, *arguments)

    monkeypatch.setattr(EngineProcess, step, fail)
    engine, heard = engines()
    assert "gone" in heard.losses.get(timeout=PATIENCE_S).reason
    assert "gone" in engine.trouble  # which the worker tells who asks for it
    assert "unavailable" in heard.losses.get(timeout=PATIENCE_S).reason
    assert heard.next(Ready)
    assert engine.trouble is None


def test_garbage_on_the_socket_ends_that_engine_only(engines: Any) -> None:
    engine, heard = engines()
    first = heard.next(Ready)
    os.write(engine._link._connection.fileno(), b"\xff\xff\xff\xff garbage")
    assert heard.losses.get(timeout=PATIENCE_S)
    assert heard.next(Ready).pid != first.pid


def test_an_unusable_model_is_told_once(engines: Any) -> None:
    _, heard = engines("fake:colour=3")
    assert "unknown key 'colour'" in heard.unusable.get(timeout=PATIENCE_S).message
    time.sleep(0.5)
    assert heard.losses.empty() and heard.unusable.empty()


def test_an_abort_never_overtakes_its_request(engines: Any) -> None:
    engine, heard = engines()
    heard.next(Ready)
    for number in range(50):
        engine.send(generate(f"[[long]] {number}"))
        engine.send(AbortRequest(f"[[long]] {number}"))
    engine.send(generate("hello"))
    assert heard.text_of("hello")
    heard.next(Progress)
    heard.next(Progress, lambda frame: frame.running_rows + frame.waiting_rows == 0)


def test_a_shard_of_no_job_fails_as_a_whole(engines: Any) -> None:
    engine, heard = engines()
    heard.next(Ready)
    engine.send(RunShard("job_nowhere", 0, attempt=5))
    failed = heard.next(ShardFailed)
    assert (failed.job_id, failed.attempt, failed.trouble) == ("job_nowhere", 5, Trouble.LASTING)
    assert "job_nowhere" in failed.message


def test_the_fake_engine_keeps_its_slots_and_lets_the_urgent_pass() -> None:
    engine = FakeEngine(FakeModel(step_ms=0, tokens=2), slots=2)
    params = SamplingParams(max_tokens=5)
    for number in range(3):
        assert engine.add(Request(f"bulk {number}", (65,), params)) is None
    assert {output.request_id for output in engine.step()} == {"bulk 0", "bulk 1"}
    assert engine.add(Request("urgent", (66,), params, Priority.INTERACTIVE)) is None
    assert {output.request_id for output in engine.step()} == {"urgent", "bulk 0", "bulk 1"}
    assert (engine.num_running, engine.num_waiting) == (1, 1)
    engine.abort("bulk 2")
    assert (engine.num_running, engine.num_waiting) == (1, 0)
    while engine.has_work:
        engine.step()
    refusal = engine.add(Request("empty", (), params))
    assert refusal is not None and refusal.error is not None
    with pytest.raises(ValueError, match="unknown key"):
        FakeModel.from_name("fake:nothing=1")


def test_every_frame_has_one_direction() -> None:
    for frame in (FRAME, generate("x")):
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(frame), type=ToWorker)
