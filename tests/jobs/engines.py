"""Engine processes for tests, and what they made their worker hear."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.jobs.engine_process import EngineProcess, Loss
from penstock.jobs.frames import Deltas, Generate, InteractiveRequest, Unusable
from penstock.jobs.settings import Settings
from tests.waiting import PATIENCE_S

MODEL = "fake:step_ms=1,tokens=6"


class Heard:
    """What an engine process made its worker hear."""

    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.losses: queue.SimpleQueue[Loss] = queue.SimpleQueue()
        self.unusable: queue.SimpleQueue[Unusable] = queue.SimpleQueue()

    def next(self, kind: type[Any], where: Callable[[Any], bool] = lambda frame: True) -> Any:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            frame = self.frames.get(timeout=PATIENCE_S)
            if isinstance(frame, kind) and where(frame):
                return frame
        raise AssertionError(f"no {kind.__name__} came")

    def text_of(self, request_id: str) -> str:
        text = ""
        while True:
            for delta in self.next(Deltas).deltas:
                if delta.request_id == request_id:
                    text += delta.text
                    if delta.is_last:
                        return text


@contextmanager
def engine_processes(tmp_path: Path) -> Iterator[Callable[..., tuple[EngineProcess, Heard]]]:
    started: list[EngineProcess] = []

    def start(model: str = MODEL, **settings: Any) -> tuple[EngineProcess, Heard]:
        heard = Heard()
        engine = EngineProcess(
            Settings(data=str(tmp_path), **settings),
            model,
            "worker-1",
            on_frame=heard.frames.put,
            on_lost=heard.losses.put,
            on_unusable=heard.unusable.put,
        )
        started.append(engine)
        engine.start()
        return engine, heard

    try:
        yield start
    finally:
        for engine in started:
            engine.stop()


def generate(prompt: str, **sampling: Any) -> Generate:
    sampling.setdefault("max_tokens", 1_000)
    return Generate(InteractiveRequest(prompt[:20], MODEL, prompt=prompt, sampling=sampling))
