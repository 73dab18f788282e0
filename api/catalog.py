"""Which models are served: those the server is set up for, and those that live workers bring."""

from collections.abc import Iterable

from ..jobs.workers import AsyncWorkerRegister, WorkerInfo
from .errors import InvalidRequest, ModelNotFound


class Catalog:
    """The models of this installation."""

    def __init__(self, configured: tuple[str, ...], register: AsyncWorkerRegister) -> None:
        self._configured = configured
        self._register = register

    async def workers(self) -> list[WorkerInfo]:
        """Return the live workers."""
        return await self._register.list()

    async def served(self) -> dict[str, list[WorkerInfo]]:
        """Return every model with its live workers; a configured model may have none just now."""
        served: dict[str, list[WorkerInfo]] = {model: [] for model in self._configured}
        for worker in await self._register.list():
            served.setdefault(worker.model, []).append(worker)
        return served

    async def contexts(self) -> dict[str, int | None]:
        """Return every model with the longest context that some worker of it takes, if any says."""
        return {model: longest_context(workers) for model, workers in (await self.served()).items()}

    async def require(self, model: str) -> list[WorkerInfo]:
        """Return the live workers of a model.

        Raises:
            ModelNotFound: nobody serves it, and nobody is set up to.
        """
        served = await self.served()
        if model not in served:
            raise ModelNotFound(model, list(served))
        return served[model]

    async def only(self) -> str:
        """Return the model that is meant when a job names none.

        Raises:
            InvalidRequest: there are several.
        """
        served = list(await self.served())
        if len(served) != 1:
            raise InvalidRequest(
                f"name a model; this server has {', '.join(served) or 'none'}",
                param="model",
                code="missing_required_parameter",
            )
        return served[0]

    async def max_model_len(self, model: str) -> int | None:
        """Return the longest context that some worker of the model takes, if any says."""
        return longest_context(await self.require(model))


def longest_context(workers: Iterable[WorkerInfo]) -> int | None:
    """Return the longest context that some worker takes, if any says."""
    lengths = (worker.max_model_len for worker in workers)
    return max((length for length in lengths if length is not None), default=None)
