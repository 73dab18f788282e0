"""When a call is worth another try, and after how long. Knows no transport and no clock.

Every call carries an `Idempotency-Key` where repeating it could do harm, so a lost answer may
always be asked for again.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RETRYABLE_STATUS = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with full jitter; the server's own wishes come first."""

    max_retries: int = 4
    base_s: float = 0.25
    longest_s: float = 8.0
    longest_retry_after_s: float = 60.0  # a server that asks for more is taken as a "no"

    def __post_init__(self) -> None:
        """Refuse what is no number of tries.

        Raises:
            ValueError: it is below 0.
        """
        if self.max_retries < 0:
            raise ValueError(f"max_retries must be at least 0, got {self.max_retries}")

    def after_status(
        self, num_failures: int, status_code: int, headers: Mapping[str, str]
    ) -> float | None:
        """Say how long to wait before trying again, or None when that would be useless."""
        wish = headers.get("x-should-retry", "").lower()
        retryable = wish == "true" or (wish != "false" and status_code in _RETRYABLE_STATUS)
        if not retryable or num_failures > self.max_retries:
            return None
        asked_s = retry_after_s(headers)
        if asked_s is None:
            return self._back_off_s(num_failures)
        return asked_s if asked_s <= self.longest_retry_after_s else None

    def after_silence(self, num_failures: int) -> float | None:
        """Say how long to wait after no answer came at all, or None to give up."""
        return None if num_failures > self.max_retries else self._back_off_s(num_failures)

    def _back_off_s(self, num_failures: int) -> float:
        return random.uniform(0, min(self.longest_s, self.base_s * 2**num_failures))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `retry-after-ms`, or `retry-after` as seconds or as a date."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        text = headers.get("retry-after")
        if text is None:
            return None
        if text.strip().replace(".", "", 1).isdigit():
            return float(text)
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
