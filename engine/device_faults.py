"""What has gone wrong on the device, and for how long it is left alone then.

Knows errors and steps, counted. Refuses to know what a step is: the host computes it either way, so
an error here costs time, never tokens. That is why it must be told, or it shows as slowness only.

    failed in a row     1 .. 7   8    9   10  ...  17   18
    steps left alone      0      1    2    4  ...  512  1024, and no more than that from here on

Steps that the device begins make good for failures, four for each: so where prompts succeed and
the tokens after them fail, it is left alone all the same.
"""

import logging
from collections import Counter
from traceback import extract_tb

log = logging.getLogger(__name__)

_PATIENCE = 8  # failures in a row, which may be those of rows that end by them
_WEIGHT = 4  # steps that make good for one
_MAX_REST_STEPS = 1024

_Place = tuple[type[BaseException], str, int | None]


class DeviceFaults:
    """Tells of each kind of error once, counts all, and says whether to try again.

    Attributes:
        num_faults: steps that the device could not begin, for an error of any kind.
    """

    def __init__(self) -> None:
        self.num_faults = 0
        self._debt_steps = 0
        self._rest_steps = 0
        self._was_left_alone = False
        self._told = Counter[_Place]()

    def may_try(self) -> bool:
        """Whether the device should be given the next step; asked once for each."""
        if self._rest_steps == 0:
            return True
        self._rest_steps -= 1
        return False

    def forgive(self) -> None:
        """Note that the device has begun a step."""
        self._debt_steps = max(0, self._debt_steps - 1)

    def note(self, error: Exception) -> None:
        """Count an error, and leave the device alone for longer the more there are."""
        self.num_faults += 1
        self._debt_steps += _WEIGHT
        place = _place_of(error)
        self._told[place] += 1
        if self._told[place] == 1:
            log.error(
                "a step failed on the device, the host takes it: %r (told once of its kind; "
                "EngineStats.device_errors counts them)",
                error,
                exc_info=error,
            )
        excess = self._debt_steps // _WEIGHT - _PATIENCE
        if excess >= 0:
            self._rest_steps = min(1 << min(excess, 30), _MAX_REST_STEPS)
            if not self._was_left_alone:
                log.error("the device fails too many steps and is left alone for some, ever more")
            self._was_left_alone = True


def _place_of(error: Exception) -> _Place:
    """Return the kind of an error: its type, and where it was raised."""
    frames = extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return type(error), last.filename if last else "", last.lineno if last else None
