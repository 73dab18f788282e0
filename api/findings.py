"""What `doctor` finds: one thing that was looked at, and what to do about it. Knows no check."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What is to be thought of it."""

    INFO = "info"  # nothing to judge
    OK = "ok"
    WARNING = "warning"  # works, and may not for long, or not for everybody
    FAILURE = "failure"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        advice: what to do about a warning or a failure.
        source: where the value comes from, if that is worth telling.
    """

    topic: str
    name: str
    value: str
    verdict: Verdict = Verdict.INFO
    advice: str = ""
    source: str = ""

    @property
    def is_trouble(self) -> bool:
        """Whether somebody should do something."""
        return self.verdict in (Verdict.WARNING, Verdict.FAILURE)

    def to_json(self) -> dict[str, Any]:
        """Give what a program reads; `ok` is None where there is nothing to judge."""
        judged = {Verdict.OK: True, Verdict.FAILURE: False}
        return {
            "topic": self.topic,
            "name": self.name,
            "value": self.value,
            "ok": judged.get(self.verdict),
            "verdict": self.verdict.value,
            "advice": self.advice,
            "source": self.source,
        }
