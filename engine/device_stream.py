"""What a device does in order: copies that nobody waits for, and fences behind them.

Knows host memory, pinned where a GPU reads it. Refuses to know what the numbers mean.

    host    write A -> start copy A -> write B -> start copy B -> wait for fence A -> write C
    buffer        1                          2                                            1

A copy reads its buffer when its turn comes, not when it is started: until its fence has been
passed, the buffer must stay as it is (vllm#25279).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

_FIRST_ROOM = 1 << 14  # bytes; doubled as need be
_NUM_BUFFERS = 2
_ALIGNMENT = 16  # bytes, so that any type may begin there


class Fence(Protocol):
    """A place in the device's work."""

    def wait(self) -> None:
        """Return once everything before it is done."""
        ...


class DeviceStream(Protocol):
    """The work of one device, in the order of the calls."""

    def host_room(self, num_bytes: int) -> torch.Tensor:
        """Return uint8 host memory that the device can copy from and to, uninitialized."""
        ...

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """Start a copy between host and device."""
        ...

    def fence(self) -> Fence:
        """Mark the end of what has been started so far."""
        ...


class HostStream:
    """A CPU's: whatever is started is done."""

    def host_room(self, num_bytes: int) -> torch.Tensor:
        """See `DeviceStream`."""
        return torch.empty(num_bytes, dtype=torch.uint8)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `DeviceStream`."""
        target.copy_(source)

    def fence(self) -> Fence:
        """See `DeviceStream`."""
        return _Passed()


class CudaStream:
    """A GPU's, as the calling thread has it."""

    def host_room(self, num_bytes: int) -> torch.Tensor:
        """See `DeviceStream`."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def copy(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """See `DeviceStream`."""
        target.copy_(source, non_blocking=True)

    def fence(self) -> Fence:
        """See `DeviceStream`."""
        event = torch.cuda.Event(blocking=True)  # who waits sleeps, and leaves Python to others
        event.record()
        return _Recorded(event)


def stream_of(device: torch.device) -> DeviceStream:
    """Return the stream of a device."""
    return CudaStream() if device.type == "cuda" else HostStream()


def using(device: torch.device) -> AbstractContextManager[object]:
    """Make the calling thread use a GPU for a while: Triton starts kernels on the one it uses.

    That is the first one, wherever the tensors are, until the thread is told otherwise.
    """
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class _Passed:
    def wait(self) -> None:
        """See `Fence`."""


class _Recorded:
    def __init__(self, event: torch.cuda.Event) -> None:
        self._event = event

    def wait(self) -> None:
        """See `Fence`."""
        self._event.synchronize()


class _Buffer:
    """Host memory with its counterpart on the device, and the end of the last copy."""

    def __init__(self, stream: DeviceStream, device: torch.device, room: int) -> None:
        self.on_host = stream.host_room(room)
        self.on_device = torch.empty(room, dtype=torch.uint8, device=device)
        self.fence: Fence = _Passed()


class Outbox:
    """Sends tensors to the device, all of a step in one copy, through buffers that take turns."""

    def __init__(self, stream: DeviceStream, device: torch.device) -> None:
        self._stream = stream
        self._device = device
        self._buffers = [_Buffer(stream, device, _FIRST_ROOM) for _ in range(_NUM_BUFFERS)]
        self._next = 0

    def send(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return contiguous host tensors on the device; the second next call overwrites them.

        The device, which works in order, has used them by then.
        """
        starts = [0]
        for tensor in tensors:
            starts.append(starts[-1] + -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT)
        buffer = self._take_turn(starts[-1])
        arrived: list[torch.Tensor] = []
        for start, tensor in zip(starts[:-1], tensors, strict=True):
            here = slice(start, start + tensor.nbytes)
            buffer.on_host[here].view(tensor.dtype).copy_(tensor.flatten())
            arrived.append(buffer.on_device[here].view(tensor.dtype).view(tensor.shape))
        self._stream.copy(buffer.on_device[: starts[-1]], buffer.on_host[: starts[-1]])
        buffer.fence = self._stream.fence()
        return arrived

    def _take_turn(self, num_bytes: int) -> _Buffer:
        """Return the next buffer, once its last copy has ended; a larger one if need be."""
        place, self._next = self._next, (self._next + 1) % _NUM_BUFFERS
        buffer = self._buffers[place]
        buffer.fence.wait()
        if num_bytes > len(buffer.on_host):
            room = 1 << (num_bytes - 1).bit_length()
            buffer = self._buffers[place] = _Buffer(self._stream, self._device, room)
        return buffer


class Reading:
    """A tensor on its way from the device to the host."""

    def __init__(self, stream: DeviceStream, source: torch.Tensor) -> None:
        room = stream.host_room(source.nbytes)
        self._copy = room.view(source.dtype).view(source.shape)
        stream.copy(self._copy, source)
        self._fence = stream.fence()

    def wait(self) -> torch.Tensor:
        """Return it once it is there."""
        self._fence.wait()
        return self._copy
