"""The server's own measurements, for Prometheus. Knows the numbers, not where they come from.

Names follow vLLM's (`..._time_to_first_token_seconds`), so that its dashboards need little change.
One registry per application: two applications in one process do not add up.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FIRST_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 30)


class Meters:
    """Counters and histograms of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http_requests = Counter(
            "penstock_http_requests_total",
            "Requests answered, by route and status.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._http_seconds = Histogram(
            "penstock_http_request_duration_seconds",
            "Time until an answer was sent in full.",
            ["method", "route"],
            buckets=_LATENCY_S,
            registry=self.registry,
        )
        self._first_token_seconds = Histogram(
            "penstock_time_to_first_token_seconds",
            "Time from a chat's or completion's arrival to its first token.",
            ["model"],
            buckets=_FIRST_TOKEN_S,
            registry=self.registry,
        )
        self._prompt_tokens = Counter(
            "penstock_prompt_tokens_total",
            "Prompt tokens of chats and completions.",
            ["model"],
            registry=self.registry,
        )
        self._generation_tokens = Counter(
            "penstock_generation_tokens_total",
            "Tokens generated for chats and completions.",
            ["model"],
            registry=self.registry,
        )
        self._jobs = Counter(
            "penstock_jobs_submitted_total", "Jobs accepted.", ["model"], registry=self.registry
        )

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request; `route` is the pattern, never the path a client made up."""
        self._http_requests.labels(method, route, str(status)).inc()
        self._http_seconds.labels(method, route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        """Note how long a client waited for its first token."""
        self._first_token_seconds.labels(model).observe(seconds)

    def count_tokens(self, model: str, prompt: int, generated: int) -> None:
        """Note the tokens of one chat or completion."""
        self._prompt_tokens.labels(model).inc(prompt)
        self._generation_tokens.labels(model).inc(generated)

    def count_job(self, model: str) -> None:
        """Note one accepted job."""
        self._jobs.labels(model).inc()
