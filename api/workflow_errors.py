"""How it is told over HTTP that a workflow cannot run: every problem at once. Knows no check."""

from collections.abc import Sequence
from typing import Any

from .errors import InvalidRequest, NotFound, shown

_SHOWN = 1_000


class WorkflowRefused(InvalidRequest):
    """A specification, or what was given with it, has problems: `errors` lists all of them."""

    code = "invalid_workflow"

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        where, message = problems[0]
        more = f" (and {len(problems) - 1} more, see errors)" if len(problems) > 1 else ""
        super().__init__(f"{where}: {message}{more}", param=where)
        self.problems = problems

    def envelope(self) -> dict[str, object]:
        """Return the body; `errors` stands beside what every error has."""
        envelope: dict[str, Any] = super().envelope()
        errors = [{"param": where, "message": text} for where, text in self.problems[:_SHOWN]]
        return {"error": {**envelope["error"], "errors": errors, "num_errors": len(self.problems)}}


class RunNotFound(NotFound):
    """There is no such run, or it is another tenant's."""

    code = "run_not_found"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {shown(run_id)}", param="run_id")
