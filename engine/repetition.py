"""The end of an output that goes round in circles. Knows tokens only.

... the cat sat the cat sat the cat sat       pattern of 3 tokens, 3 times: it ends here
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from .sampling_checks import MAX_INTEGER, InvalidSampling, check_integer, shown

STOP_REASON = "repetition_detected"  # what a row that ends so tells, under vLLM's name
MAX_PATTERN_SIZE = 1024
_PARAM = "repetition_detection"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepetitionDetection:
    """End an output once its last tokens are one pattern, over and over.

    The names are those of vLLM's `RepetitionDetectionParams`. The output ends with the reason
    `stop`, which every client knows, and `STOP_REASON` says more.

    Attributes:
        max_pattern_size: tokens of the longest pattern looked for; 0 looks for none.
        min_pattern_size: tokens of the shortest; 0 is taken for 1.
        min_count: how often a pattern must stand there in a row, at least 2.

    Raises:
        InvalidSampling: a value is out of range, or at odds with another.
    """

    max_pattern_size: int = 0
    min_pattern_size: int = 0
    min_count: int = 0

    def __post_init__(self) -> None:
        """Check every value."""
        check_integer(
            _field("max_pattern_size"), self.max_pattern_size, low=0, high=MAX_PATTERN_SIZE
        )
        check_integer(_field("min_pattern_size"), self.min_pattern_size, low=0)
        if self.min_pattern_size > self.max_pattern_size:
            raise InvalidSampling(
                _PARAM,
                f"must have a min_pattern_size of at most max_pattern_size="
                f"{self.max_pattern_size}, got {shown(self.min_pattern_size)}",
            )
        least = 2 if self.max_pattern_size else 0
        check_integer(_field("min_count"), self.min_count, low=least, high=MAX_INTEGER)

    @classmethod
    def from_mapping(cls, values: object) -> Self:
        """Build from plain data, as it arrives in JSON.

        Raises:
            InvalidSampling: it is no object, a value is wrong, or a name is unknown.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict):
            raise InvalidSampling(_PARAM, f"must be an object, got {shown(values)}")
        for name in values:
            if name not in known:
                raise InvalidSampling(
                    _PARAM, f"has no field {shown(name)}; known: {', '.join(known)}"
                )
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data that `from_mapping` reads back to an equal instance."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def is_met_by(self, token_ids: Sequence[int], num_generated: int) -> bool:
        """Whether the output, the last `num_generated` tokens, ends in a pattern that repeats."""
        for size in range(max(1, self.min_pattern_size), self.max_pattern_size + 1):
            span = size * self.min_count
            if span > num_generated:
                return False
            # Equal to itself moved by one pattern: then it is the pattern, all along.
            if token_ids[-1] != token_ids[-1 - size]:
                continue
            if token_ids[-span:-size] == token_ids[-span + size :]:
                return True
        return False


def _field(name: str) -> str:
    return f"{_PARAM}.{name}"
