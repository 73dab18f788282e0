"""How many tokens go through the model at once when memory is short. Knows numbers and errors."""

import torch

_RECOVERY_PASSES = 64  # without an error, before twice as many tokens are tried


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice: Python's, a device's or PyTorch's own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


class PassSize:
    """A limit that halves with every error, doubles in quiet times, and is none at first.

    Attributes:
        limit: tokens of one pass; None for as many as there are.
        num_errors: how often memory did not suffice.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.num_errors = 0
        self._largest = 0  # tokens that did not fit, of all times
        self._num_good_passes = 0

    def halve(self, num_tokens: int) -> None:
        """Note that so many tokens did not fit."""
        self.num_errors += 1
        self._num_good_passes = 0
        self._largest = max(self._largest, num_tokens)
        self.limit = max(1, num_tokens // 2)

    def recover(self) -> None:
        """Note that a pass did fit."""
        if self.limit is None:
            return
        self._num_good_passes += 1
        if self._num_good_passes >= _RECOVERY_PASSES:
            self._num_good_passes = 0
            self.limit = None if self.limit * 2 > self._largest else self.limit * 2
