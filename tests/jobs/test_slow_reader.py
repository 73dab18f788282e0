"""A reader who does not keep up with an answer: little is kept for it, and nothing lost."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from penstock.jobs import interactive
from penstock.jobs.frames import InteractiveRequest
from penstock.jobs.interactive import InteractiveLane
from penstock.jobs.model import new_job_id

from .live import MODEL, Live, live_queue, wait_for

TEXT = "".join(f"{number:04} " for number in range(200))  # the made-up engine says 5 at a time
KEPT = 2


def test_little_is_kept_for_who_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interactive, "_MAX_BACKLOG", KEPT)
    with live_queue(tmp_path) as live:
        live.start_worker()
        said, num_kept = asyncio.run(_read_late(live))
    assert num_kept == KEPT
    assert said == TEXT


async def _read_late(live: Live) -> tuple[str, int]:
    """Read the first words of an answer, and the rest when all of it is there."""
    asked = InteractiveRequest(
        new_job_id("chat"), MODEL, prompt=f"[[say]]{TEXT}", sampling={"max_tokens": 1_000}
    )
    tail = live.keys.tail(asked.request_id)
    lane = InteractiveLane(live.settings)
    await lane.open()
    try:
        async with aclosing(lane.generate(asked)) as deltas:
            said = (await anext(deltas)).text

            kept = lane._streams[asked.request_id]

            def is_all_there() -> bool:
                newest = live.redis.xrevrange(tail, count=1)
                is_last = any('"is_last":true' in fields["reply"] for _, fields in newest)
                return is_last and kept.full()

            await asyncio.to_thread(wait_for, is_all_there, "the whole answer")
            num_kept = kept.qsize()
            async for delta in deltas:
                said += delta.text
        return said, num_kept
    finally:
        await lane.close()
