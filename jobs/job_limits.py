"""Within which limits a job runs: a deadline, and a rate of errors. Knows how people write them."""

import math
import re
import time
from datetime import UTC, datetime

from .errors import InvalidJob

_WINDOW = re.compile(r"(\d{1,9})(s|m|h|d)")
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_S = 10 * 366 * 86_400


def read_deadline(said: float | str, now_ms: int) -> int:
    """Read a deadline: seconds or `2h` from now, or a moment as ISO 8601 writes it, as unix ms.

    Raises:
        InvalidJob: it is none of them.
    """
    if not isinstance(said, str):
        if not (math.isfinite(said) and 0 < said <= _LONGEST_S):
            raise InvalidJob(
                "deadline",
                f"deadline must be more than 0 and at most {_LONGEST_S} seconds from now, or a "
                f"moment such as 2027-01-31T18:00:00Z, got {said:.15g}",
            )
        return now_ms + int(said * 1000)
    window_s = _window_s(said)
    if window_s is not None:
        return now_ms + window_s * 1000
    try:
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise InvalidJob(
            "deadline",
            f"deadline must be seconds from now, a time such as 90s, 30m, 2h or 7d, or a moment "
            f"such as 2027-01-31T18:00:00Z, got {said[:60]!r}",
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    deadline_ms = int(moment.timestamp() * 1000)
    if deadline_ms > now_ms + _LONGEST_S * 1000:
        raise InvalidJob(
            "deadline", f"deadline must be at most ten years from now, got {said[:60]!r}"
        )
    return deadline_ms


def read_window(said: str, now_ms: int) -> int:
    """Read how long a job may take, as in `24h`. Returns unix ms.

    Raises:
        InvalidJob: it is no such time.
    """
    window_s = _window_s(said)
    if window_s is None:
        raise InvalidJob(
            "completion_window",
            f"completion_window must be a time such as 90s, 30m, 24h or 7d, got {said[:60]!r}",
        )
    return now_ms + window_s * 1000


def _window_s(said: str) -> int | None:
    match = _WINDOW.fullmatch(said)
    window_s = int(match[1]) * _UNIT_S[match[2]] if match else 0
    return window_s if 0 < window_s <= _LONGEST_S else None


def check_deadline(deadline_ms: int | None) -> None:
    """Refuse a deadline that has passed already: nothing would run.

    Raises:
        InvalidJob: it has.
    """
    if deadline_ms is not None and deadline_ms <= time.time() * 1000:
        moment = datetime.fromtimestamp(deadline_ms / 1000, UTC).isoformat(timespec="seconds")
        raise InvalidJob("deadline", f"the deadline {moment} has passed already")


def check_error_rate(max_error_rate: float | None) -> None:
    """Refuse what is no share of rows.

    Raises:
        InvalidJob: it is not between 0 and 1.
    """
    if max_error_rate is not None and not 0 <= max_error_rate <= 1:
        raise InvalidJob(
            "max_error_rate", f"max_error_rate must be between 0 and 1, got {max_error_rate!r}"
        )
