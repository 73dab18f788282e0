"""Token ids in, tokens out: a continuous-batching engine that knows no Redis, HTTP or Celery."""
