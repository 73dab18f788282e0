"""How fast things went lately: tokens per second of each job and worker, look by look.

Knows names and numbers; what is not there any more is forgotten.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_MOST_LOOKS = 600  # of all together: more than a terminal is wide
_LOOKS_EACH = 20


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates of the last looks, the newest last; `total` is the sum of all workers'."""

    total: tuple[float, ...] = ()
    of: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))


class RateHistory:
    """Collects rates, look by look."""

    def __init__(self) -> None:
        self._total: deque[float] = deque(maxlen=_MOST_LOOKS)
        self._of: dict[str, tuple[float, ...]] = {}

    def add(self, total: float, rates: Mapping[str, float]) -> Rates:
        """Note one look, and give the last ones as they will stay."""
        self._total.append(total)
        self._of = {
            name: (*self._of.get(name, ())[1 - _LOOKS_EACH :], rate) for name, rate in rates.items()
        }
        return Rates(tuple(self._total), MappingProxyType(self._of))
