"""Steps computed beside the scheduler, on the GPU that the model is on."""

from dataclasses import replace

import pytest
import torch

from penstock.engine.step import Step, StepResult
from penstock.engine.step_executor import InlineExecutor, ThreadExecutor
from penstock.engine.step_launcher import DoneStep

STEP = Step(parts=[])


@pytest.mark.parametrize(("name", "index"), [("cuda", 3), ("cuda:1", 1)])
def test_the_thread_uses_the_gpu_of_its_maker(
    name: str, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    executor = ThreadExecutor(lambda step: DoneStep([StepResult()]), torch.device(name))
    assert executor.launch(STEP).result() == [StepResult()]
    assert chosen == [torch.device("cuda", index)]


def test_steps_are_computed_in_the_order_of_their_launch() -> None:
    computed: list[int] = []

    def begin(step: Step) -> DoneStep:
        computed.append(step.num_repeats)
        return DoneStep([])

    executor = ThreadExecutor(begin, torch.device("cpu"))
    handles = [executor.launch(replace(STEP, num_repeats=number)) for number in range(1, 9)]
    assert [handle.result() for handle in handles] == [[]] * 8
    assert computed == [*range(1, 9)]


def test_whoever_computes_steps_inline_uses_the_models_gpu_and_gets_its_own_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used: list[object] = [0]

    class Using:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def __enter__(self) -> None:
            used.append(self.device.index)

        def __exit__(self, *raised: object) -> None:
            used.append(0)

    def begin(step: Step) -> DoneStep:
        assert used[-1] == 1
        return DoneStep([StepResult()])

    monkeypatch.setattr(torch.cuda, "device", Using)
    executor = InlineExecutor(begin, torch.device("cuda:1"))
    assert executor.launch(STEP).result() == [StepResult()]
    assert used == [0, 1, 0]
