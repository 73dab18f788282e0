"""How it went to ask models about a row: a column beside the one that holds what they answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..model import RequestError
from .asks import Answer
from .row import Row

META = "__meta"  # behind the name of the column that a model has written
ERROR = "__error"  # behind that of a step, in its own Parquet: why it could not be made

UPSTREAM_FAILED = "upstream_failed"


@dataclass(frozen=True, slots=True)
class Effort:
    """What was asked for one value, and what that took."""

    model: str | None = None
    answers: Sequence[Answer] = ()

    def meta(
        self, status: Literal["succeeded", "failed", "skipped"], error: RequestError | None = None
    ) -> dict[str, Any]:
        """Describe how it went."""
        answers = self.answers
        return {
            "status": status,
            "finish_reason": answers[-1].finish_reason if answers else None,
            "model": self.model,
            "prompt_tokens": sum(answer.prompt_tokens for answer in answers),
            "completion_tokens": sum(answer.completion_tokens for answer in answers),
            "cached_tokens": sum(answer.cached_tokens for answer in answers),
            "attempts": sum(max(1, answer.attempts) for answer in answers),
            "error_code": error.code if error is not None else None,
        }


def skipped_meta() -> Mapping[str, Any]:
    """Describe that nothing was asked, because an earlier step had failed for the row."""
    error = RequestError(UPSTREAM_FAILED, "a column that it needs was not made", stage="render")
    return Effort().meta("skipped", error)


def reads_failed(row: Row, columns: Iterable[str]) -> bool:
    """Whether one of some columns is empty because a model did not answer."""
    return any(_has_failed(row, column) for column in columns)


def _has_failed(row: Row, column: str) -> bool:
    if column not in row.values or row.values[column] is not None:
        return False
    meta = row.values.get(column + META)
    return isinstance(meta, dict) and meta.get("status") in ("failed", "skipped")
