"""Any workflow, in any shards, in any order: what comes of it is what it means."""

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from penstock.jobs.workflow.asking import asking
from penstock.jobs.workflow.asks import Answer
from penstock.jobs.workflow.checks.check import check, read_workflow
from penstock.jobs.workflow.computing import gather, local
from penstock.jobs.workflow.plan import GROUPS, INPUT, Plan, PlannedStep
from penstock.jobs.workflow.row import Applied, Fault, Row

from .fake_model import answer
from .interpreter import Interpreter
from .meaning import R
from .random_graphs import INPUT_COLUMNS, workflows

Faults = Counter[tuple[str, str, str]]
Rows = dict[str, dict[str, Any]]

KINDS: Mapping[str, type | tuple[type, ...]] = {  # what a column of that kind may hold
    "bool": bool,
    "int64": int,
    "float64": (int, float),
    "string": str,
    "json": object,
    "vector": (list, bytes),
}
VALUES = st.fixed_dictionaries(
    {
        "n": st.sampled_from([0, 1, 2, 3, -1, None]),
        "j": st.sampled_from([0, 1, 2, 1.0, 1.5, True, "1", "red", [1], None]),
        "w": st.sampled_from(["red", "blue", "green red", "", "a b c", None]),
        "l": st.sampled_from([[1, 2], [3, 1, 2], [], None]),
    }
)
ROWS = st.lists(VALUES, max_size=3) | st.lists(VALUES, min_size=5, max_size=8)


class Production:
    """Runs a plan as the real thing does, shard by shard, as fate has it."""

    def __init__(self, plan: Plan, fate: random.Random, scratch: Path) -> None:
        self.plan = plan
        self.faults: Faults = Counter()
        self._fate = fate
        self._scratch = scratch
        self._shards: dict[str, dict[int, list[Row]]] = {}
        self._num_shards: dict[str, int] = {}  # by step, once that is known

    def run(self, inputs: Mapping[str, Sequence[Row]]) -> dict[str, Rows]:
        """Make the rows of all steps."""
        for name, rows in inputs.items():
            self._land(INPUT + name, rows)
        while todo := list(self._ready()):
            step, shard = self._fate.choice(todo)
            self._make(step, shard)
        return {step.id: self._rows_of(step.id) for step in self.plan.steps}

    def _rows_of(self, step_id: str) -> Rows:
        shards = self._shards[step_id]
        assert len(shards) == self._num_shards[step_id]
        found = [row for _, rows in sorted(shards.items()) for row in rows]
        assert len({row.row_id for row in found}) == len(found)
        return {row.row_id: dict(row.values) for row in found}

    def _ready(self) -> Any:
        """Name what can be made: a gather when all is there, else any shard whose sources are."""
        for step in self.plan.steps:
            made = self._shards.setdefault(step.id, {})
            sources = [self._shards.get(name, {}) for name in step.sources]
            totals = [self._num_shards.get(name) for name in step.sources]
            if step.kind == "gather":
                is_all_there = all(
                    len(there) == total for there, total in zip(sources, totals, strict=True)
                )
                if is_all_there and step.id not in self._num_shards:
                    yield step, None
                continue
            if totals[0] is not None:
                self._num_shards[step.id] = totals[0]
            for shard in set.intersection(*(set(there) for there in sources)) - set(made):
                yield step, shard

    def _make(self, step: PlannedStep, shard: int | None) -> None:
        if shard is None:
            self._gather(step)
            return
        sources = [self._shards[name][shard] for name in step.sources]
        if step.kind == "local":
            applied = local.apply(self.plan, step, sources)
        else:
            applied = self._ask(step, sources[0])
        self._note(step, applied.faults)
        self._shards[step.id][shard] = [_stored(row, step) for row in applied.rows]

    def _ask(self, step: PlannedStep, rows: list[Row]) -> Applied:
        answers: dict[str, Answer] = {}
        while isinstance(found := asking.proceed(self.plan, step, rows, answers), list):
            some = self._fate.sample(found, self._fate.randint(1, len(found)))
            answers |= {ask.key: answer(ask) for ask in some}
        return found

    def _gather(self, step: PlannedStep) -> None:
        sources = [
            [row for _, rows in sorted(self._shards[name].items()) for row in rows]
            for name in step.sources
        ]
        made = gather.gather(self.plan, step, sources, self._scratch)
        self._land(step.id, [_stored(row, step) for row in made])
        self._note(step, made.faults)

    def _land(self, name: str, rows: Sequence[Row]) -> None:
        size = self._fate.choice([1, 2, 5, 100])
        shards = [list(rows[first : first + size]) for first in range(0, len(rows), size)]
        self._shards[name] = dict(enumerate(shards))
        self._num_shards[name] = len(shards)

    def _note(self, step: PlannedStep, faults: Sequence[Fault]) -> None:
        name = step.id.removesuffix(GROUPS)
        self.faults.update((name, fault.row_id, fault.error.code) for fault in faults)


def _stored(row: Row, step: PlannedStep) -> Row:
    """Return a row as it is when it has been on the disk."""
    assert row.values.keys() <= step.columns.keys()
    for name, value in row.values.items():
        assert value is None or isinstance(value, KINDS[step.columns[name]]), (step.id, name)
    values = {name: row.values.get(name) for name in step.columns}
    return Row(row.row_id, json.loads(json.dumps(values)), row.parents)


def _plain(value: Any) -> Any:
    """Return a value without what an interpreter knows nothing of; to lack a column is null."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    found = {}
    for name, each in value.items():
        if each is not None and name.endswith("__meta"):
            found[name] = {key: each[key] for key in ("status", "error_code")}
        elif each is not None:
            found[name] = _plain(each)
    return found


def check_one(
    document: dict[str, Any], values: Sequence[list[dict[str, Any]]], seed: int, scratch: Path
) -> None:
    workflow = read_workflow(document)
    inputs = dict(zip(workflow.inputs, values, strict=False))
    plan = check(workflow, {}, dict.fromkeys(inputs, INPUT_COLUMNS))
    production = Production(plan, random.Random(seed), scratch)
    made = production.run({name: _named(Row, name, rows) for name, rows in inputs.items()})
    interpreter = Interpreter(
        workflow, {}, {name: _named(R, name, rows) for name, rows in inputs.items()}
    )
    expected = interpreter.run()
    for step in workflow.steps:
        assert {row_id: _plain(values) for row_id, values in made[step.id].items()} == {
            row.id: _plain(row.values) for row in expected[step.id]
        }, step.id
    assert production.faults == Counter(interpreter.faults)


def _named(kind: Any, name: str, rows: list[dict[str, Any]]) -> list[Any]:
    return [kind(f"{name}:{index}", each) for index, each in enumerate(rows)]


GRAPHS = given(
    document=workflows(),
    values=st.tuples(ROWS, ROWS),
    seed=st.integers(0, 2**32),
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=QUIET)
@GRAPHS
def test_whatever_the_shards_and_the_order(
    tmp_path: Path, document: dict[str, Any], values: Any, seed: int
) -> None:
    check_one(document, values, seed, tmp_path)


@pytest.mark.soak
@settings(max_examples=20_000, deadline=None, suppress_health_check=QUIET)
@GRAPHS
def test_whatever_the_shards_and_the_order_many_times(
    tmp_path: Path, document: dict[str, Any], values: Any, seed: int
) -> None:
    check_one(document, values, seed, tmp_path)
