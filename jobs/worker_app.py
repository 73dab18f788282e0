"""The application as Celery's own command line and Flower look for it:

    celery -A penstock.jobs.worker_app flower

Made from the environment when it is asked for, not when this module is imported.
"""

from typing import Any

from .app import create_app
from .settings import Settings


def __getattr__(name: str) -> Any:
    """Make `app` on first use."""
    if name not in ("app", "celery"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = create_app(Settings.load())
    return app
