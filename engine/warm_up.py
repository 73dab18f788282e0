"""What is done at load, so that the first to ask wait neither for a compiler nor for a capture.

Knows sizes of steps. Refuses to know what a step computes.

Kernels of decode are compiled for powers of two of rows, with and without prompts beside them, with
and without shared prefixes: at an estimated 2 s each for whoever comes first, if nothing is found
in Triton's cache on disk. Graphs of powers of two cover every step of the two commonest kinds, with
room for twice the rows at most, until a number of rows comes up often (`captured`). The largest
come first, for all share their memory.
"""

import logging
from itertools import product
from typing import Protocol

import torch

from .captured import StepKind
from .device_sampler import Needs

log = logging.getLogger(__name__)

_FEWEST_COMPILED = 16  # rows: for fewer, kernels are the same
_PROMPT_TOKENS = (64, 1024)  # of a prompt beside rows: attention has tiles for short and for long
_EVERYTHING = Needs.RULES | Needs.PENALTIES | Needs.FILTERS | Needs.LOGPROBS


class PaddedSteps(Protocol):
    """Steps that can be done without rows; see `DeviceSteps`."""

    @property
    def has_prefixes(self) -> bool:
        """Whether attention may be told of prefixes that rows share."""
        ...

    def narrowest(self, num_rows: int) -> StepKind:
        """Return the kind of greedy steps of short rows."""
        ...

    def capture_padding(self, kind: StepKind) -> None:
        """Capture a step of a kind, if there is none and such can be captured."""
        ...

    def launch_padding(self, kind: StepKind, num_prompt_tokens: int) -> None:
        """Launch a step of a kind, whose last row brings so many tokens more."""
        ...


def warm_up(steps: PaddedSteps, *, max_rows: int, max_tokens: int) -> None:
    """Do and capture steps of padding, of at most so many rows and tokens.

    One that fails is told of and left out: it may never be asked for, and is tried again if it is.

    Raises:
        torch.AcceleratorError: the device is lost.
    """
    sizes = [1 << power for power in reversed(range(max_rows.bit_length()))]
    for num_rows in sizes:
        kind = steps.narrowest(num_rows)
        for needs in (Needs.FILTERS, Needs.NOTHING):
            steps.capture_padding(kind.with_needs(needs))
    groups = (False, True) if steps.has_prefixes else (False,)
    for num_rows, has_groups in product(sizes, groups):
        if num_rows < _FEWEST_COMPILED and num_rows != sizes[0]:
            continue
        kind = steps.narrowest(num_rows).with_needs(_EVERYTHING, has_groups=has_groups)
        room = max_tokens - num_rows
        for num_prompt_tokens in sorted({0, *(min(each, room) for each in _PROMPT_TOKENS)}):
            _try(steps, kind, num_prompt_tokens)


def _try(steps: PaddedSteps, kind: StepKind, num_prompt_tokens: int) -> None:
    try:
        steps.launch_padding(kind, num_prompt_tokens)
    except torch.AcceleratorError:
        raise
    except Exception as error:
        log.warning("a step of padding failed at load, %s: %r", kind, error, exc_info=error)
