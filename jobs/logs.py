"""How the processes of the queue write their logs: one line each, to stderr."""

import logging
import sys

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname).1s {part} %(message)s"
_QUIET = (
    "asyncio",
    "celery.app.trace",  # the pool says in one line what Celery says in two
    "celery.worker.strategy",
    "kombu",
)


def configure_logging(part: str, level: int = logging.INFO) -> None:
    """Send the log of this process to stderr, every line marked with its part."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_FORMAT.format(part=part), datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
