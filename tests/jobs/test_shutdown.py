"""Workers that are told to stop, with streams and shards under way. All parts are real."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from penstock.jobs.frames import Delta, InteractiveRequest
from penstock.jobs.interactive import InteractiveLane
from penstock.jobs.model import new_job_id

from .live import PATIENCE_S, Live, live_queue, stop, wait_for

MODEL = "fake:step_ms=20,tokens=20"
SPOKEN = "Every word of this answer has to arrive, whatever happens to the worker. " * 2


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A queue with two workers."""
    with live_queue(tmp_path, lease_s=2.0, grace_s=30.0) as live:
        live.start_worker(MODEL, wait=False)
        live.start_worker(MODEL, wait=False)
        for worker in live.workers:
            live.wait_until_serving(worker)
        yield live


def request(prompt: str) -> InteractiveRequest:
    return InteractiveRequest(
        new_job_id("chat"), MODEL, prompt=prompt, sampling={"max_tokens": 10_000}
    )


class Speakers:
    """People who ask one thing after another, until they are told that it is enough."""

    def __init__(self, lane: InteractiveLane, num_people: int) -> None:
        self.answers: list[str] = []
        self.is_enough = False
        self._lane = lane
        self._tasks = [asyncio.create_task(self._ask()) for _ in range(num_people)]

    async def stop(self) -> None:
        self.is_enough = True
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        while not self.is_enough:
            text = ""
            async for delta in self._lane.generate(request(f"[[say]]{SPOKEN}")):
                assert delta.error is None, delta.error
                text += delta.text
            self.answers.append(text)


def test_a_rolling_restart_cuts_no_stream_and_loses_no_row(live: Live) -> None:
    prompts = [f"prompt {number}" for number in range(320)]

    async def run() -> list[str]:
        lane = InteractiveLane(live.settings)
        await lane.open()
        speakers = Speakers(lane, 4)
        for worker in list(live.workers):
            num_answers = len(speakers.answers)
            while len(speakers.answers) < num_answers + 4:
                await asyncio.sleep(0.05)
            assert await asyncio.to_thread(stop, worker) == 0
            await asyncio.to_thread(live.start_worker, MODEL)
        await speakers.stop()
        await lane.close()
        return speakers.answers

    spec = live.submit(prompts, model=MODEL, shard_rows=16)
    answers = asyncio.run(run())
    assert len(answers) >= 8 and set(answers) == {SPOKEN}
    assert live.wait_until_done(spec).counts.succeeded == 320
    live.check_rows(spec, prompts)
    # Each of the two may hand a shard back that it has not begun when it stops.
    assert {row["attempts"] for row in live.rows(spec)} <= {1, 2, 3}


def test_a_stream_is_cut_with_an_error_when_the_grace_is_over(tmp_path: Path) -> None:
    async def run(live: Live) -> list[Delta]:
        lane = InteractiveLane(live.settings)
        await lane.open()
        deltas: list[Delta] = []
        async with aclosing(lane.generate(request("[[long]]"))) as stream:
            async for delta in stream:
                if not deltas:
                    live.workers[0].send_signal(signal.SIGTERM)
                deltas.append(delta)
        await lane.close()
        return deltas

    with live_queue(tmp_path, lease_s=2.0, grace_s=0.5) as live:
        live.start_worker(MODEL)
        last = asyncio.run(run(live))[-1]
        assert last.is_last and last.error is not None
        assert (last.error.code, last.error.retryable) == ("worker_lost", True)
        assert live.workers[0].wait(PATIENCE_S) == 0


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait(live: Live, signum: signal.Signals) -> None:
    spec = live.submit(["[[long]]"] * 64, model=MODEL, shard_rows=4)

    def are_all(what: str) -> bool:
        infos = live.register.list()
        return len(infos) == 2 and all(getattr(info, what) for info in infos)

    wait_for(lambda: are_all("running_rows"), "rows to run")
    for worker in live.workers:
        worker.send_signal(signum)
    wait_for(lambda: are_all("is_draining"), "them to drain")
    assert all(worker.poll() is None for worker in live.workers)
    for worker in live.workers:
        assert stop(worker, signum) == 0
    counts = live.snapshot(spec).counts
    assert (counts.running, counts.pending) == (0, 64)
    assert live.redis.hlen("live.unacked") == 0


def test_rows_that_have_ended_are_not_computed_again_after_the_grace(tmp_path: Path) -> None:
    with live_queue(tmp_path, lease_s=2.0, grace_s=0.1) as live:
        first = live.start_worker(MODEL)
        spec = live.submit(["[[say]]a", "[[say]]b", "[[long]]"], model=MODEL)
        unlanded = live.settings.jobs_dir / spec.job_id / "unlanded"
        wait_for(lambda: [p for p in unlanded.glob("*") if p.stat().st_size > 200], "rows to end")
        assert stop(first) == 0
        second = live.info(live.start_worker(MODEL))
        assert second is not None

        def progress() -> dict[str, object] | None:
            told = live.events(spec, "job.progress")
            return next((event for event in told if event["worker"] == second.name), None)

        news = wait_for(progress, "the shard to run again")
        assert news["rows_in_flight"] == 2  # from the beginning
