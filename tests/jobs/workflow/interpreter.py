"""Workflows over lists: what a specification means, written down as plainly as it goes.

No shards, no rounds, no files, no plan. Expressions and templates are those of the real thing; they
have tests of their own. What the real thing makes of a workflow must be what this makes of it.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from penstock.jobs.workflow.computing.local import chance
from penstock.jobs.workflow.expressions.aggregates import Aggregate
from penstock.jobs.workflow.expressions.expression import EvaluationError
from penstock.jobs.workflow.orders.ordering import identity, rank_of
from penstock.jobs.workflow.spec import (
    Concat,
    Dedupe,
    Expand,
    Filter,
    Generate,
    Join,
    Judge,
    Limit,
    Map,
    Reduce,
    Sample,
    Step,
    Workflow,
)

from .meaning import Bad, Meaning, R


class Interpreter(Meaning):
    """Runs one workflow."""

    def __init__(
        self, workflow: Workflow, params: Mapping[str, Any], inputs: Mapping[str, list[R]]
    ) -> None:
        super().__init__(workflow, params)
        self.rows = {f"inputs.{name}": rows for name, rows in inputs.items()}

    def run(self) -> Mapping[str, list[R]]:
        """Return the rows of every step."""
        previous = next(iter(self.rows))
        for step in self.workflow.steps:
            names = step.from_ or previous
            sources = [self.rows[name] for name in ([names] if isinstance(names, str) else names)]
            self.rows[step.id] = list(self.made(step, sources))
            previous = step.id
        return self.rows

    def made(self, step: Step, sources: Sequence[list[R]]) -> Iterable[R]:
        rows = sources[0]
        match step:
            case Map():
                return self.each(
                    step, rows, lambda r: [r.with_(**{step.column: self.map(step, r)})]
                )
            case Filter():
                return self.filter(step, rows)
            case Expand():
                return self.each(step, rows, lambda r: self.expand(step, r), f"/{step.id}#0")
            case Generate() | Judge():
                return self.ask(step, rows)
            case Reduce():
                return self.reduce(step, rows)
            case Join():
                return self.join(step, rows, sources[1])
            case Concat():
                return [r.child(step.id, k) for k, each in enumerate(sources) for r in each]
            case Dedupe():
                return self.dedupe(step, rows)
            case Limit():
                return rows[: step.size]
            case Sample(fraction=float() as fraction):
                return [r for r in rows if chance(step.seed, r.id) < int(fraction * 2**63)]
            case Sample():
                chosen = sorted(rows, key=lambda r: chance(step.seed, r.id))[: step.size]
                return [r for r in rows if r in chosen]
            case _:
                raise TypeError(f"random graphs have no such step: {step}")

    def each(
        self, step: Step, rows: list[R], make: Callable[[R], list[R]], suffix: str = ""
    ) -> Iterable[R]:
        columns = step.cross if isinstance(step, Expand) and step.cross else [step.column]
        for r in rows:
            try:
                yield from make(r)
            except Bad as bad:
                base = R(r.id + suffix, r.values, r if suffix else r.parent)
                yield from self.failed(
                    step,
                    r,
                    bad.code,
                    lambda v, base=base: base.with_(**dict.fromkeys(columns, v)),
                )

    # Steps that ask nobody.

    def map(self, step: Map, r: R) -> Any:
        return {name: self.eval(text, r) for name, text in step.set.items()}

    def filter(self, step: Filter, rows: list[R]) -> Iterable[R]:
        for r in rows:
            try:
                if self.truth(step.where, r):
                    yield r
            except Bad as bad:
                kept = self.failed(step, r, bad.code, lambda _, r=r: r)
                yield from kept if step.default is not False else []

    def expand(self, step: Expand, r: R) -> list[R]:
        column, added = step.column, []
        if step.n is not None:
            added = [{column: {"index": k}} for k in range(self.number(step.n, r))]
        elif step.explode is not None:
            items = self.items(self.eval(step.explode, r))
            added = [{column: {"value": item, "index": k}} for k, item in enumerate(items)]
        elif step.split is not None:
            text = self.eval(step.split.field, r)
            if not isinstance(text, str):
                raise Bad("expression_error")
            words = text.split()  # the only kind of split that is tried here: words, alone
            added = [
                {column: {"text": word, "index": k, "count": len(words)}}
                for k, word in enumerate(words)
            ]
        elif step.cross is not None:
            lists = [
                self.items(self.eval(each, r) if isinstance(each, str) else each)
                for each in step.cross.values()
            ]
            added = [
                dict(zip(step.cross, items, strict=True)) for items in itertools.product(*lists)
            ]
        if len(added) > step.max:
            raise Bad("too_many_children")
        return [r.child(step.id, k, **fields) for k, fields in enumerate(added)]

    def items(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Bad("expression_error")
        return value

    def dedupe(self, step: Dedupe, rows: list[R]) -> Iterable[R]:
        seen = set()
        for r in rows:
            try:
                key = None if self.needs_failed([step.key], r) else self.render(step.key, r)
            except Bad as bad:
                yield from self.failed(step, r, bad.code, lambda _, r=r: r)
                continue
            if key is None or key not in seen:
                yield r
            seen.add(key)

    def join(self, step: Join, left: list[R], right: list[R]) -> Iterable[R]:
        pairs = step.on
        if isinstance(pairs, str):
            pairs = {pairs: pairs}
        elif isinstance(pairs, tuple):
            pairs = {name: name for name in pairs}

        def key(r: R, names: Iterable[str]) -> Any:
            values = [r.id if name == "row_id" else r.values.get(name) for name in names]
            return None if None in values else identity(values)

        is_by_row = pairs == {"row_id": "row_id"}
        for r in left:
            mine = key(r, pairs)
            found = [
                dict(other.values)
                for other in right
                if mine is not None and key(other, pairs.values()) == mine
            ]
            if step.how in ("semi", "anti"):
                if bool(found) == (step.how == "semi"):
                    yield r
                continue

            def make(value: Any, k: int = 0, r: R = r) -> R:
                added = {step.column: value}
                return r.with_(**added) if is_by_row else r.child(step.id, k, **added)

            if len(found) > step.max:
                yield from self.failed(step, r, "too_many_children", make)
                continue
            if not found and step.how == "left":
                found = [None]
            yield from (make(value, k) for k, value in enumerate(found))

    # Groups.

    def or_null(self, step: Step, text: str, r: R) -> Any:
        try:
            return self.eval(text, r)
        except Bad as bad:
            self.faults.append((step.id, r.id, bad.code))
            return None

    def reduce(self, step: Reduce, rows: list[R]) -> Iterable[R]:
        groups: dict[str, list[R]] = {}
        for r in rows:
            if step.group_by == "parent":
                assert r.parent is not None
                key = r.parent.id
            else:
                key = identity([r.values.get(name) for name in step.group_by])
            groups.setdefault(key, []).append(r)
        for index, group in enumerate(groups.values()):
            if step.order_by is not None:
                ranks = {r.id: rank_of(self.or_null(step, step.order_by, r)) for r in group}
                group.sort(key=lambda r, ranks=ranks: ranks[r.id])
            first = group[0]
            if step.group_by == "parent":
                assert first.parent is not None
                base = first.parent
            else:
                kept = {name: first.values.get(name) for name in step.group_by}
                base = R(f"{step.id}#{index}", kept)
            if step.pick is not None:
                yield from self.pick(step, group)
            elif step.agg is not None:
                yield from self.aggregate(step, base, group)
            else:
                yield from self.ask_group(step, base, group)

    def pick(self, step: Reduce, group: list[R]) -> Iterable[R]:
        pick = step.pick
        assert pick is not None
        if pick.first is not None:
            for r in group:
                if self.or_null(step, pick.first, r) is True:
                    return [r]
            return []
        values = [(self.or_null(step, pick.max or pick.min or "", r), r) for r in group]
        ranked = [
            (rank_of(value), r) for value, r in values if isinstance(value, int | float | str)
        ]
        if not ranked:
            return self.failed(step, group[0], "nothing_to_pick", lambda _: group[0])
        best = (max if pick.max else min)(rank for rank, _ in ranked)
        return [next(r for rank, r in ranked if rank == best)]

    def aggregate(self, step: Reduce, base: R, group: list[R]) -> Iterable[R]:
        fields = {name: Aggregate.parse(text).new() for name, text in (step.agg or {}).items()}
        for r in group:
            is_bad = False
            for accumulator in fields.values():
                try:
                    accumulator.add({"row": r.values, "params": self.params})
                except EvaluationError:
                    is_bad = True
            if is_bad:
                self.faults.append((step.id, r.id, "expression_error"))
        try:
            value = {name: accumulator.result() for name, accumulator in fields.items()}
            return [base.with_(**{step.column: value})]
        except EvaluationError:
            return self.failed(
                step, base, "expression_error", lambda v: base.with_(**{step.column: v})
            )

    # Steps that ask.

    def ask(self, step: Generate | Judge, rows: list[R]) -> Iterable[R]:
        for r in rows:
            number = self.number(step.n, r) if isinstance(step, Generate) else 1
            base = r if number == 1 else r.child(step.id, 0)
            if self.needs_failed([step.prompt or "", *self.candidates(step)], r):
                yield self.answered(step, base, None, "skipped", "upstream_failed")
            elif number == 1 or not isinstance(step, Generate):
                yield from self.settled(step, r, self.value(step, r))
            else:
                try:
                    prompt = self.render(step.prompt or "", r)
                except Bad as bad:
                    yield from self.settled(step, base, bad)
                else:
                    yield from self.samples(step, r, number, prompt)

    def candidates(self, step: Generate | Judge) -> list[str]:
        """Return the candidates as templates, which read the same columns."""
        found = step.candidates if isinstance(step, Judge) and step.candidates else ()
        return [f"{{{{ {text} }}}}" for text in found]

    def samples(self, step: Generate, r: R, number: int, prompt: str) -> Iterable[R]:
        wave = step.wave if step.until is not None else number
        for first in range(0, number, wave):
            children = [r.child(step.id, k) for k in range(first, min(first + wave, number))]
            outcomes = [self.attempt(step, child.id, prompt) for child in children]
            for child, outcome in zip(children, outcomes, strict=True):
                yield from self.settled(step, child, outcome)
            if any(self.decides(step, *each) for each in zip(children, outcomes, strict=True)):
                return

    def decides(self, step: Generate, child: R, value: Any) -> bool:
        if step.until is None or isinstance(value, Bad):
            return False
        try:
            return self.truth(step.until, child.with_(**{step.column: value}))
        except Bad:
            return False

    def value(self, step: Generate | Judge, r: R) -> Any:
        """Return what one row is worth, or why it has failed."""
        try:
            prompt = self.render(step.prompt or "", r)
            if isinstance(step, Judge) and step.candidates is not None:
                return self.compared(step, r, prompt, [self.eval(c, r) for c in step.candidates])
        except Bad as bad:
            return bad
        return self.attempt(step, r.id, prompt)

    def compared(self, step: Judge, r: R, prompt: str, pair: list[Any]) -> Any:
        if None in pair:
            raise Bad("template_error")
        a, b = (each if isinstance(each, str) else json.dumps(each) for each in pair)
        verdicts = []
        for order, (first, second) in (("ab", (a, b)), ("ba", (b, a))):
            words = f"{prompt}\n\nFirst:\n{first}\n\nSecond:\n{second}\n\n"
            words += "Which is better: first, second, or is it a tie?"
            verdicts.append(self.attempt(step, f"{r.id}:{order}", words))
        for verdict in verdicts:
            if isinstance(verdict, Bad):
                return verdict
        is_same = verdicts in (["first", "second"], ["second", "first"])
        return {"winner": verdicts[0] if is_same else "tie"}

    def ask_group(self, step: Reduce, base: R, group: list[R]) -> Iterable[R]:
        if self.needs_failed([step.prompt or ""], base):
            yield self.answered(step, base, None, "skipped", "upstream_failed")
            return
        rows: list[Mapping[str, Any]] = [r.values for r in group]
        size = step.fold.max_rows if step.fold and step.fold.max_rows else len(rows)
        number = 0
        outcome: Any = None
        try:
            while len(rows) > size:
                rows = self.merge(step, base, rows, size, number)
                number += 1
            outcome = self.attempt(step, base.id, self.render(step.prompt or "", base, rows))
        except Bad as bad:
            outcome = bad
        yield from self.settled(step, base, outcome)

    def merge(
        self, step: Reduce, base: R, rows: list[Mapping[str, Any]], size: int, number: int
    ) -> list[Mapping[str, Any]]:
        chunks = [rows[k : k + size] for k in range(0, len(rows), size)]
        prompts = [
            self.render(step.prompt or "", base, chunk) if len(chunk) > 1 else None
            for chunk in chunks
        ]
        merged: list[Mapping[str, Any]] = []
        failure = None
        for k, (chunk, prompt) in enumerate(zip(chunks, prompts, strict=True)):
            if prompt is None:
                merged.append(chunk[0])
                continue
            outcome = self.attempt(step, f"{base.id}:{number}.{k}", prompt)
            if isinstance(outcome, Bad):
                failure = failure or outcome
            merged.append({**chunk[0], self.merged(step, chunk[0]): outcome})
        if failure is not None:
            raise failure
        return merged

    def merged(self, step: Reduce, row: Mapping[str, Any]) -> str:
        """Name the column that the prompt reads of rows: here there is but one."""
        (name,) = (name for name in row if f"{{{{ r.{name} " in (step.prompt or ""))
        return name
