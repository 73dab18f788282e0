"""What a step asks models about the rows of a shard, round by round, and what it makes of answers.

Both follow from the rows and the answers alone, so they may be found again at any time, by anybody.
"""

from collections.abc import Mapping
from typing import Any

from ..asks import Answers, Ask
from ..computing.ledger import Ledger, RowFailed
from ..meta import META, reads_failed, skipped_meta
from ..plan import Plan, PlannedStep
from ..row import Applied, Row
from ..tools import NO_TOOLS, Tools
from .kinds import Kind, kind_of
from .tries import Made, Reply, Talk, advance


def proceed(
    plan: Plan,
    step: PlannedStep,
    rows: list[Row],
    answers: Answers,
    *,
    seed: int = 0,
    tools: Tools = NO_TOOLS,
) -> list[Ask] | Applied:
    """Find what is to be asked next, given what was answered so far; or make the shard.

    `seed` decides all chances of the run.
    """
    kind = kind_of(plan, step, seed, tools)
    asks: list[Ask] = []
    ledger = Ledger(step)
    for row in rows:
        missing, made = advance(_talk(kind, row), answers)
        asks += missing
        for each in made or ():
            _enter(step, each, ledger)
    return asks or ledger.applied()


def _talk(kind: Kind, row: Row) -> Talk[list[Made]]:
    """Talk about a row, unless what it needs was not made, or it cannot be put in words."""
    if reads_failed(row, kind.columns):
        return [Made(kind.bare(row), None)]
    try:
        return (yield from kind.talk(row))
    except RowFailed as failure:
        return [Made(kind.bare(row), Reply(error=failure.error))]


def _enter(step: PlannedStep, made: Made, ledger: Ledger) -> None:
    """Let a row go on with what came of its question."""
    row, reply, column = made.row, made.reply, step.spec.column

    def valued(value: Any, meta: Mapping[str, Any]) -> Row:
        return row.with_values({column: value, column + META: meta})

    if reply is None:
        ledger.rows.append(valued(None, skipped_meta()))
    elif reply.error is None:
        ledger.rows.append(valued(reply.value, reply.effort.meta("succeeded")))
    else:
        meta = reply.effort.meta("failed", reply.error)
        ledger.fail(row, reply.error, lambda value: valued(value, meta))
