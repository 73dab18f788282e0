"""Penstock: a task queue for high-volume LLM generation, with its own engine inside.

This is the public face. Each name is loaded when it is first asked for, so
`import penstock` costs nothing and the client side never loads torch or Redis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.async_client import AsyncClient
    from .api.client import Client, Job
    from .api.workflow import Workflow
    from .engine.llm import LLM
    from .engine.sampling_params import SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "AsyncClient", "Client", "Job", "SamplingParams", "Workflow"]

_HOME_OF = {
    "AsyncClient": ".api.async_client",
    "Client": ".api.client",
    "Job": ".api.client",
    "LLM": ".engine.llm",
    "SamplingParams": ".engine.sampling_params",
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
