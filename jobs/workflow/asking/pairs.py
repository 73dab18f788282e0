"""Which of two is better: asked in both orders, since models like the first, or the last."""

import json
from typing import Any

from ..answers import document, one_of
from ..computing.evaluation import evaluate, expression
from ..computing.ledger import RowFailed, scope
from ..meta import Effort
from ..plan import Plan, PlannedStep
from ..row import Row
from ..spec import Judge
from .prompts import Prompts
from .tries import Asker, Made, Reply, Talk

_VERDICTS = ("first", "second", "tie")
_TURNED = {"first": "second", "second": "first"}
_POSTSCRIPT = """

First:
{}

Second:
{}

Which is better: first, second, or is it a tie?"""


class Pairs:
    """Two questions about each row; where their verdicts differ, it is a tie."""

    def __init__(self, plan: Plan, step: PlannedStep, spec: Judge, seed: int) -> None:
        self._plan = plan
        self._candidates = spec.candidates or ("", "")
        self._is_document = step.schema is not None
        form = one_of(_VERDICTS) if step.schema is None else document(step.schema, spec.column)
        self._asker = Asker(step, form, seed)
        self._prompts = Prompts(plan, step, spec)
        read = {path[0] for text in self._candidates for path in expression(text).columns if path}
        self.columns = self._prompts.columns | read

    def bare(self, row: Row) -> Row:
        """Return the row itself."""
        return row

    def talk(self, row: Row) -> Talk[list[Made]]:
        """Ask twice, and hold the verdicts against each other."""
        known = scope(self._plan, row)
        first, second = (_in_words(text, evaluate(text, known)) for text in self._candidates)
        questions = [
            self._prompts.question(f"{row.row_id}:{order}", known, _POSTSCRIPT.format(*pair))
            for order, pair in (("ab", (first, second)), ("ba", (second, first)))
        ]
        straight, turned = yield from self._asker.ask(questions)
        answers = (*straight.effort.answers, *turned.effort.answers)
        effort = Effort(questions[0].model, answers)
        error = straight.error or turned.error
        if error is not None:
            return [Made(row, Reply(error=error, effort=effort))]
        return [Made(row, Reply(self._verdict(straight.value, turned.value), effort=effort))]

    def _verdict(self, straight: Any, turned: Any) -> dict[str, Any]:
        value = straight if self._is_document else {"winner": straight}
        other = turned.get("winner") if self._is_document else turned
        agree = value.get("winner") == _TURNED.get(other)
        return {**value, "winner": value["winner"] if agree else "tie"}


def _in_words(text: str, value: Any) -> str:
    if value is None:
        raise RowFailed.because("template_error", f"the candidate {text[:200]!r} is null")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
