"""What is sent arrives as it was when it was sent, however late the device copies it."""

import pytest
import torch

from penstock.engine.device_stream import Fence, HostStream, Outbox, Reading

CPU = torch.device("cpu")


class LateStream(HostStream):
    """Copies when somebody waits for it, as a busy device does; until then nothing has arrived."""

    def __init__(self) -> None:
        self.waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.num_waits = 0

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        self.waiting.append((target, source))

    def fence(self) -> Fence:
        return LateFence(self, [*self.waiting])

    def work(self) -> None:
        """Catch up."""
        for target, source in self.waiting:
            target.copy_(source)
        self.waiting.clear()


class LateFence:
    def __init__(self, stream: LateStream, before: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self.stream = stream
        self.before = before

    def wait(self) -> None:
        if any(mine is each for mine in self.before for each in self.stream.waiting):
            self.stream.num_waits += 1
            self.stream.work()


def test_a_buffer_is_not_written_to_before_its_copy_has_ended() -> None:
    stream = LateStream()
    outbox = Outbox(stream, CPU)
    first, second = (outbox.send([torch.tensor([number] * 4)])[0] for number in (1, 2))
    assert stream.num_waits == 0, "two copies may be under way"
    third = outbox.send([torch.tensor([3] * 4)])[0]
    assert stream.num_waits == 1, "the third waits for the first, whose buffer it takes"
    assert first.tolist() == [1] * 4, "which had arrived before it was overwritten"
    assert second.tolist() == [2] * 4
    stream.work()
    assert third.tolist() == [3] * 4


def test_what_is_sent_together_keeps_types_and_shapes() -> None:
    sent = [
        torch.tensor([1, -1]),
        torch.tensor([[0.5], [2.0], [7.25]]),
        torch.zeros(0, dtype=torch.int32),
        torch.tensor([7], dtype=torch.int32),
        torch.tensor([True, False, True]),
    ]
    arrived = Outbox(HostStream(), CPU).send(sent)
    for found, expected in zip(arrived, sent, strict=True):
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype
        assert found.data_ptr() % 16 == 0 or not found.numel()


@pytest.mark.parametrize("size", [3, 100_000])
def test_buffers_grow(size: int) -> None:
    outbox = Outbox(HostStream(), CPU)
    for number in range(5):
        (found,) = outbox.send([torch.full((size,), number)])
        assert torch.equal(found, torch.full((size,), number))


def test_a_reading_is_waited_for() -> None:
    stream = LateStream()
    source = torch.tensor([[1.5, 2.5]])
    reading = Reading(stream, source)
    assert stream.waiting, "nothing was waited for yet"
    assert reading.wait().tolist() == [[1.5, 2.5]]
    assert stream.num_waits == 1
