"""Which revision of each model is served, so that answers of another one are not taken for its own.

Knows what live workers say of themselves. Refuses to guess: where they disagree, or nobody has ever
said anything, the revision is unknown (empty), and nothing that was answered is used again.
"""

from collections.abc import Callable, Iterable, Sequence

from ..workers import WorkerInfo


class ModelRevisions:
    """What was last seen. A model that nobody serves just now is as it was."""

    def __init__(self, list_workers: Callable[[], Sequence[WorkerInfo]]) -> None:
        self._list_workers = list_workers
        self._known: dict[str, str] = {}

    def look(self) -> None:
        """Look which workers live, and what they serve; whatever that raises is raised."""
        seen: dict[str, set[str]] = {}
        for worker in self._list_workers():
            if worker.not_ready is None:
                seen.setdefault(worker.model, set()).add(worker.revision)
        for model, revisions in seen.items():
            self._known[model] = revisions.pop() if len(revisions) == 1 else ""

    def of(self, models: Iterable[str]) -> dict[str, str]:
        """Return the revisions of some models; those that are unknown are left out."""
        return {model: found for model in models if (found := self._known.get(model, ""))}
