"""Penstock: a task queue for high-volume LLM generation, with its own engine inside.

This is the public face. Each name is loaded when it is first asked for, so
`import penstock` costs nothing and the client side never loads torch or Redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.async_client import AsyncClient
    from .api.async_job import AsyncJob
    from .api.client import Client, Job
    from .api.client_errors import (
        ApiError,
        BadRequest,
        Conflict,
        Forbidden,
        InvalidInput,
        JobFailed,
        JobPaused,
        MissingPackage,
        NotFound,
        PayloadTooLarge,
        PenstockError,
        RowFailed,
        ServerError,
        ServerUnreachable,
        StackFailed,
        StreamFailed,
        TooManyRequests,
        Unauthorized,
        Unavailable,
        UnexpectedAnswer,
        WaitTimedOut,
    )
    from .api.records import Row
    from .api.run_row import RunRow
    from .api.workflow import Workflow
    from .engine.llm import LLM
    from .engine.sampling_params import SamplingParams

__version__ = "0.1.0"
__all__ = [
    "LLM",
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "BadRequest",
    "Client",
    "Conflict",
    "Forbidden",
    "InvalidInput",
    "Job",
    "JobFailed",
    "JobPaused",
    "MissingPackage",
    "NotFound",
    "PayloadTooLarge",
    "PenstockError",
    "Row",
    "RowFailed",
    "RunRow",
    "SamplingParams",
    "ServerError",
    "ServerUnreachable",
    "StackFailed",
    "StreamFailed",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "WaitTimedOut",
    "Workflow",
]

_HOME_OF = {
    "LLM": ".engine.llm",
    "ApiError": ".api.client_errors",
    "AsyncClient": ".api.async_client",
    "AsyncJob": ".api.async_job",
    "BadRequest": ".api.client_errors",
    "Client": ".api.client",
    "Conflict": ".api.client_errors",
    "Forbidden": ".api.client_errors",
    "InvalidInput": ".api.client_errors",
    "Job": ".api.client",
    "JobFailed": ".api.client_errors",
    "JobPaused": ".api.client_errors",
    "MissingPackage": ".api.client_errors",
    "NotFound": ".api.client_errors",
    "PayloadTooLarge": ".api.client_errors",
    "PenstockError": ".api.client_errors",
    "Row": ".api.records",
    "RowFailed": ".api.client_errors",
    "RunRow": ".api.run_row",
    "SamplingParams": ".engine.sampling_params",
    "ServerError": ".api.client_errors",
    "ServerUnreachable": ".api.client_errors",
    "StackFailed": ".api.client_errors",
    "StreamFailed": ".api.client_errors",
    "TooManyRequests": ".api.client_errors",
    "Unauthorized": ".api.client_errors",
    "Unavailable": ".api.client_errors",
    "UnexpectedAnswer": ".api.client_errors",
    "WaitTimedOut": ".api.client_errors",
    "Workflow": ".api.workflow",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
