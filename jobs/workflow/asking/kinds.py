"""The kinds of steps that ask: what each says about a row, and which rows it makes of it."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..answers import Form, a_reward, a_vector, any_text, document, matching, one_of
from ..computing.evaluation import count_of, holds
from ..computing.ledger import RowFailed, scope
from ..plan import Plan, PlannedStep
from ..row import Row
from ..spec import Embed, Generate, Judge, Reduce
from ..tools import Tools
from .fold import Folding
from .pairs import Pairs
from .prompts import Prompts
from .tries import Asker, Made, Question, Reply, Talk

_SCORE: Mapping[str, Any] = {
    "type": "object",
    "properties": {"score": {"type": "integer"}, "reason": {"type": "string"}},
    "required": ["score", "reason"],
}


class Kind(Protocol):
    """A kind of step at work."""

    @property
    def columns(self) -> Iterable[str]:
        """Name the columns without which nothing can be asked."""
        ...

    def bare(self, row: Row) -> Row:
        """Return the row that goes on where nothing could be asked, as yet without a value."""
        ...

    def talk(self, row: Row) -> Talk[list[Made]]:
        """Talk about a row.

        Raises:
            RowFailed: it cannot be put in words.
        """
        ...


def kind_of(plan: Plan, step: PlannedStep, seed: int, tools: Tools) -> Kind:
    """Return what a step does."""
    spec = step.spec
    match spec:
        case Judge(mode="pairwise"):
            return Pairs(plan, step, spec, seed)
        case Judge(mode="reward"):
            return Single(plan, step, spec, Asker(step, a_reward(), seed))
        case Judge():
            form = document(step.schema or _SCORE, spec.column)
            return Single(plan, step, spec, Asker(step, form, seed))
        case Embed():
            return Single(plan, step, spec, Asker(step, a_vector(), seed))
        case Reduce():
            return Folding(plan, step, spec, Asker(step, _form(step, spec), seed), tools)
        case Generate():
            asker = Asker(step, _form(step, spec), seed)
            num_samples = count_of(spec.n, {"params": plan.params})
            if num_samples == 1:
                return Single(plan, step, spec, asker)
            return Samples(plan, step, spec, asker, num_samples)
        case _:
            raise ValueError(f"{step.id} does not ask anything")


class Single:
    """One question about each row, whose answer the row keeps."""

    def __init__(
        self, plan: Plan, step: PlannedStep, spec: Generate | Judge | Embed, asker: Asker
    ) -> None:
        self._plan = plan
        self._asker = asker
        self._prompts = Prompts(plan, step, spec)
        self.columns = self._prompts.columns

    def bare(self, row: Row) -> Row:
        """Return the row itself."""
        return row

    def talk(self, row: Row) -> Talk[list[Made]]:
        """Ask."""
        question = self._prompts.question(row.row_id, scope(self._plan, row))
        replies = yield from self._asker.ask([question])
        return [Made(row, replies[0])]


class Samples:
    """Several answers to one question, each in a child of the row; until one of them decides."""

    def __init__(
        self, plan: Plan, step: PlannedStep, spec: Generate, asker: Asker, num_samples: int
    ) -> None:
        self._plan = plan
        self._step_id = step.id
        self._spec = spec
        self._asker = asker
        self._prompts = Prompts(plan, step, spec)
        self._num_samples = num_samples
        self.columns = self._prompts.columns

    def bare(self, row: Row) -> Row:
        """Return the only child."""
        return row.child(self._step_id, 0, {})

    def talk(self, row: Row) -> Talk[list[Made]]:
        """Ask wave by wave."""
        question = self._prompts.question(row.row_id, scope(self._plan, row))
        made: list[Made] = []
        wave = self._spec.wave if self._spec.until is not None else self._num_samples
        for first in range(0, self._num_samples, wave):
            indices = range(first, min(first + wave, self._num_samples))
            children = [row.child(self._step_id, index, {}) for index in indices]
            questions = [
                Question(child.row_id, question.model, question.said) for child in children
            ]
            replies = yield from self._asker.ask(questions)
            made += map(Made, children, replies)
            if any(map(self._decides, children, replies)):
                break
        return made

    def _decides(self, child: Row, reply: Reply) -> bool:
        """Whether no more samples are wanted beside this one."""
        if self._spec.until is None or reply.error is not None:
            return False
        try:
            answered = child.with_values({self._spec.column: reply.value})
            return holds(self._spec.until, scope(self._plan, answered))
        except RowFailed:
            return False  # what cannot be said of a sample does not hold for it


def _form(step: PlannedStep, spec: Generate | Reduce) -> Form:
    if step.schema is not None:
        return document(step.schema, spec.column)
    if isinstance(spec, Generate) and spec.choices is not None:
        return one_of(spec.choices)
    if isinstance(spec, Generate) and spec.regex is not None:
        return matching(spec.regex)
    return any_text()
