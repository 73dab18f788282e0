"""A prompt over the rows of a group, and how a group that is too large for one is merged.

    rows      a b c   d e f   g h          the same prompt over each chunk
    round 0     A       B      C           each answer stands for the rows that it was made of
    round 1     A   B   C
    answer          x

An answer goes into the next round in the column from which the prompt took what it merges: the last
that a model has written among those that the prompt reads and the rows do not have in common. With
two rows in a chunk at least, every round has half as many as the one before, at most.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from ..computing.evaluation import template
from ..computing.grouping import MAX_LISTED_ROWS
from ..computing.ledger import RowFailed, scope
from ..meta import META, Effort
from ..plan import INPUT, ROWS, Plan, PlannedStep
from ..row import Row
from ..spec import Reduce
from ..tools import Tools
from .prompts import Prompts
from .tries import Asker, Made, Reply, Talk

_Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Folding:
    """One question about each group, after as many rounds as it needs."""

    def __init__(
        self, plan: Plan, step: PlannedStep, spec: Reduce, asker: Asker, tools: Tools
    ) -> None:
        self._plan = plan
        self._step = step
        self._spec = spec
        self._asker = asker
        self._tools = tools
        self._prompts = Prompts(plan, step, spec)
        self.columns = self._prompts.columns
        self._merged = _merged_column(plan, step, spec) if spec.fold is not None else ""

    def bare(self, row: Row) -> Row:
        """Return the row without those of its group."""
        values = {name: value for name, value in row.values.items() if name != ROWS}
        return Row(row.row_id, values, row.parents)

    def talk(self, row: Row) -> Talk[list[Made]]:
        """Merge chunks until one prompt holds what is left, and ask that."""
        bare = self.bare(row)
        rows: _Rows | None = row.values.get(ROWS)
        if rows is None:
            raise RowFailed.because(
                "group_too_large", f"a prompt can be made of {MAX_LISTED_ROWS} rows at most"
            )
        efforts: list[Effort] = []
        number = 0
        while len(chunks := list(self._chunks(bare, rows))) > 1:
            questions = [
                self._prompts.question(f"{row.row_id}:{number}.{index}", self._scope(bare, chunk))
                for index, chunk in enumerate(chunks)
                if len(chunk) > 1
            ]
            replies = yield from self._asker.ask(questions)
            efforts += [reply.effort for reply in replies]
            error = next((reply.error for reply in replies if reply.error is not None), None)
            if error is not None:
                return [Made(bare, Reply(error=error, effort=_joined(efforts)))]
            answered = iter(replies)
            rows = [
                {**chunk[0], self._merged: next(answered).value} if len(chunk) > 1 else chunk[0]
                for chunk in chunks
            ]
            number += 1
        question = self._prompts.question(row.row_id, self._scope(bare, rows))
        replies = yield from self._asker.ask([question])
        efforts.append(replies[0].effort)
        reply = Reply(replies[0].value, replies[0].error, _joined(efforts))
        return [Made(bare, reply)]

    def _scope(self, bare: Row, rows: _Rows) -> Mapping[str, Any]:
        return {**scope(self._plan, bare), "rows": list(rows)}

    def _chunks(self, bare: Row, rows: _Rows) -> Iterator[_Rows]:
        """Cut rows into chunks, each as large as a prompt may hold; of two rows at least."""
        fold = self._spec.fold
        if fold is None or len(rows) < 2:
            yield rows
            return
        max_rows = fold.max_rows or len(rows)
        max_tokens = fold.max_tokens or 0
        base, sizes = self._num_tokens(bare, rows) if max_tokens else (0, [0] * len(rows))
        first, num_tokens = 0, base
        for index, size in enumerate(sizes):
            num_rows = index - first
            if num_rows >= max_rows or (num_rows >= 2 and num_tokens + size > max_tokens):
                yield rows[first:index]
                first, num_tokens = index, base
            num_tokens += size
        yield rows[first:]

    def _num_tokens(self, bare: Row, rows: _Rows) -> tuple[int, list[int]]:
        """Count the tokens of a prompt over no rows, and how many each row adds."""
        count = self._tools.token_ends(self._plan)

        def size(some: _Rows) -> int:
            said = self._prompts.question(bare.row_id, self._scope(bare, some)).said
            texts = [message["content"] for message in said.get("messages", ())]
            return sum(len(count(text)) for text in (*texts, said.get("prompt", "")))

        try:
            base = size([])
        except RowFailed:
            base = 0  # it is a prompt for some rows only: each one's share is in its own size
        return base, [max(0, size([row]) - base) for row in rows]


def merged_column(
    texts: Iterable[str], columns: Collection[str], kept: Collection[str]
) -> str | None:
    """Name the column of a group's rows in which merged answers go on; None: there is none.

    `texts` are the templates, `columns` those of the rows, `kept` those that all of a group share.
    """
    read = {path[2] for text in texts for path in template(text).paths if _is_of_row(path)}
    own = [name for name in columns if name in read and name not in kept]
    written = [name for name in own if name + META in columns]
    return next(reversed(written or own), None)


def texts_of(spec: Reduce) -> list[str]:
    """Return the templates of a prompt."""
    return [spec.prompt or "", *(message.content for message in spec.messages or ())]


def _merged_column(plan: Plan, step: PlannedStep, spec: Reduce) -> str:
    source = plan.step(step.sources[0]).sources[0]
    is_input = source.startswith(INPUT)
    columns = plan.inputs[source.removeprefix(INPUT)] if is_input else plan.step(source).columns
    found = merged_column(texts_of(spec), columns, step.columns)
    if found is None:
        raise ValueError(f"{step.id}: its prompt reads nothing of its rows that could be merged")
    return found


def _is_of_row(path: Sequence[str | None]) -> bool:
    """Whether a template reads a column of one of `rows` there."""
    return len(path) > 2 and path[:2] == ("rows", None)


def _joined(efforts: Sequence[Effort]) -> Effort:
    answers = [answer for effort in efforts for answer in effort.answers]
    return Effort(efforts[-1].model, answers)
