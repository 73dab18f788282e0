"""The server's own measurements, for Prometheus. Knows the numbers, not where they come from.

Names follow vLLM's (`..._time_to_first_token_seconds`), so that its dashboards need little change.
One registry per application: two applications in one process do not add up. Labels come from short
lists only: routes, methods, states, and names of which no more than `MAX_NAMES` are told apart.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

MAX_NAMES = 100
OTHER = "other"  # stands for every name beyond those

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FIRST_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5, 10, 30)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5, 10)
_REASONS = frozenset({"stop", "length", "tool_calls"})


class FewNames:
    """Names for a label, the first so many as they are: Prometheus keeps a series for each."""

    def __init__(self, limit: int = MAX_NAMES) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the name, or `OTHER` when there are enough."""
        if name not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add(name)
        return name


class Meters:
    """Counters and histograms of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self._models = FewNames()
        self._http_requests = self._counter(
            "http_requests_total",
            "Requests answered, by route and status.",
            "method",
            "route",
            "status",
        )
        self._http_in_progress = Gauge(
            "penstock_http_requests_in_progress",
            "Requests that are being answered.",
            registry=self.registry,
        )
        self._http_seconds = self._histogram(
            "http_request_duration_seconds",
            "Time until an answer was sent in full.",
            _LATENCY_S,
            "method",
            "route",
        )
        self._first_token_seconds = self._histogram(
            "time_to_first_token_seconds",
            "Time from a request's arrival to its first token.",
            _FIRST_TOKEN_S,
            "model",
        )
        self._inter_token_seconds = self._histogram(
            "inter_token_latency_seconds",
            "Time from one piece of an answer to the next.",
            _TOKEN_S,
            "model",
        )
        self._request_seconds = self._histogram(
            "e2e_request_latency_seconds",
            "Time from a request's arrival to the end of its last answer.",
            _LATENCY_S,
            "model",
        )
        self._ended = self._counter(
            "request_success_total",
            "Answers that came to their end, by why they did.",
            "model",
            "finished_reason",
        )
        self._prompt_tokens = self._counter(
            "prompt_tokens_total", "Prompt tokens of requests that somebody waited for.", "model"
        )
        self._cached_tokens = self._counter(
            "cached_prompt_tokens_total",
            "Those of them that were found in the prefix cache.",
            "model",
        )
        self._generation_tokens = self._counter(
            "generation_tokens_total", "Tokens generated for them.", "model"
        )
        self._jobs = self._counter("jobs_submitted_total", "Jobs accepted.", "model")

    def begin_request(self) -> None:
        """Note that a request has come; `count_request` is its end."""
        self._http_in_progress.inc()

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request; `route` is the pattern, never the path a client made up."""
        self._http_in_progress.dec()
        self._http_requests.labels(method, route, str(status)).inc()
        self._http_seconds.labels(method, route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        """Note how long a client waited for its first token."""
        self._first_token_seconds.labels(self._models.label(model)).observe(seconds)

    def next_token(self, model: str, seconds: float) -> None:
        """Note how long one piece of an answer came after another."""
        self._inter_token_seconds.labels(self._models.label(model)).observe(seconds)

    def request_ended(self, model: str, seconds: float) -> None:
        """Note how long all that a request asked for took together."""
        self._request_seconds.labels(self._models.label(model)).observe(seconds)

    def answer_ended(self, model: str, reason: str) -> None:
        """Note why one answer ended."""
        known = reason if reason in _REASONS else OTHER
        self._ended.labels(self._models.label(model), known).inc()

    def count_tokens(self, model: str, prompt: int, generated: int, cached: int = 0) -> None:
        """Note the tokens of one request."""
        label = self._models.label(model)
        self._prompt_tokens.labels(label).inc(prompt)
        self._cached_tokens.labels(label).inc(cached)
        self._generation_tokens.labels(label).inc(generated)

    def count_job(self, model: str) -> None:
        """Note one accepted job."""
        self._jobs.labels(self._models.label(model)).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"penstock_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(f"penstock_{name}", text, labels, buckets=buckets, registry=self.registry)
