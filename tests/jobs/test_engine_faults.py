"""What the engine process makes of faults of the real engine: whose they are, and who goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from penstock.engine.outputs import Priority, Request
from penstock.jobs.engine_child import load_engine
from penstock.jobs.engine_loop import EngineLoop, Interactive
from penstock.jobs.frames import Delta, Deltas
from penstock.jobs.model import SamplingParams
from penstock.jobs.settings import DEMO_MODEL, Settings

PROMPTS = ("one", "two, a longer one", "three")


class Served:
    """The loop of the engine process around the demo model, whose passes a test may spoil."""

    def __init__(self) -> None:
        settings = Settings(max_num_seqs=4, kv_cache_gb=0.02, num_threads=1, device="cpu")
        self.engine = load_engine(settings, DEMO_MODEL)
        self.deltas: list[Delta] = []
        self.loop = EngineLoop(
            self.engine,
            self.engine.tokenizer,
            send=self._take,
            on_shard_done=lambda run: None,
            num_unread_shards=lambda: 0,
        )

    def run(self) -> dict[str, Delta]:
        """Run all prompts; return how each ended."""
        self.deltas.clear()
        params = SamplingParams(max_tokens=4, temperature=0.0)
        for text in PROMPTS:
            token_ids = tuple(self.engine.tokenizer.encode(text))
            request = Request(text, token_ids, params, Priority.INTERACTIVE)
            self.loop.inbox.put(Interactive(text, request))
        while sum(delta.is_last for delta in self.deltas) < len(PROMPTS):
            self.loop.turn()
        return {delta.request_id: delta for delta in self.deltas if delta.is_last}

    def spoil(self, monkeypatch: pytest.MonkeyPatch, spoiled: Callable[[Any, Any], Any]) -> None:
        execute = self.engine.runner.execute
        monkeypatch.setattr(self.engine.runner, "execute", lambda batch: spoiled(execute, batch))

    def _take(self, frame: Any) -> None:
        if isinstance(frame, Deltas):
            self.deltas += frame.deltas


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    yield Served()


def test_a_lost_device_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(execute: Any, batch: Any) -> Any:
        raise torch.AcceleratorError

    served = Served()  # never used again
    served.spoil(monkeypatch, lost)
    with pytest.raises(torch.AcceleratorError):
        served.run()


def test_too_little_memory_makes_passes_smaller_and_fails_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = {name: delta.text for name, delta in served.run().items()}
    num_failures = 3

    def tight(execute: Any, batch: Any) -> Any:
        nonlocal num_failures
        if num_failures:
            num_failures -= 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return execute(batch)

    served.spoil(monkeypatch, tight)
    ended = served.run()
    assert {name: delta.text for name, delta in ended.items()} == calm
    assert all(delta.error is None for delta in ended.values())
    assert served.engine.stats().memory_errors > 0


def test_a_row_whose_numbers_are_none_fails_alone(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = {name: delta.text for name, delta in served.run().items()}

    num_faults = 1

    def spoiled(execute: Any, batch: Any) -> Any:
        nonlocal num_faults
        logits = execute(batch).clone()
        if num_faults and len(logits):
            num_faults -= 1
            logits[0] = float("nan")
        return logits

    served.spoil(monkeypatch, spoiled)
    ended = served.run()
    errors = {name: delta.error for name, delta in ended.items() if delta.error is not None}
    failed = [*errors]
    assert [error.code for error in errors.values()] == ["engine_error"]
    others = {name: delta.text for name, delta in ended.items() if name not in failed}
    assert others == {name: text for name, text in calm.items() if name not in failed}
