"""What is wrong with a workflow: all of it, each with its place. Knows no rule."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MAX_PROBLEMS = 200  # more than these nobody reads
MAX_MESSAGE_CHARS = 600
_NUM_TOLD = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is such as `steps.judge.prompt`, or `params.n`."""

    where: str
    message: str


class InvalidWorkflow(ValueError):
    """A workflow cannot run; `problems` holds everything that was found, in its order."""

    def __init__(self, problems: list[Problem]) -> None:
        told = "; ".join(f"{each.where}: {each.message}" for each in problems[:_NUM_TOLD])
        rest = len(problems) - _NUM_TOLD
        super().__init__(f"{told}; and {rest} more" if rest > 0 else told)
        self.problems = problems


class Problems:
    """Collects what is found."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    @property
    def is_full(self) -> bool:
        """Whether there are so many that no more are looked for."""
        return len(self._found) >= MAX_PROBLEMS

    def add(self, where: str, message: str) -> None:
        """Note one, unless it has been noted."""
        shortened = message if len(message) <= MAX_MESSAGE_CHARS else f"{message[:600]}…"
        problem = Problem(where, shortened)
        if not self.is_full and problem not in self._found:
            self._found.append(problem)

    @property
    def found(self) -> tuple[Problem, ...]:
        """All that was noted, in its order."""
        return tuple(self._found)

    @contextmanager
    def at(self, where: str, *errors: type[Exception]) -> Iterator[None]:
        """Note an error that is raised within, and go on."""
        try:
            yield
        except errors as error:
            self.add(where, str(error))

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            InvalidWorkflow: something was.
        """
        if self._found:
            raise InvalidWorkflow(list(self._found))
