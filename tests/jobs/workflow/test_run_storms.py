"""Many things befall runs, drawn at random: what comes out is what comes out undisturbed."""

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from penstock.jobs.durable import StorageFull
from penstock.jobs.job_table import JobTable
from penstock.jobs.model import JobState
from penstock.jobs.reconciler import rebuild_all
from penstock.jobs.settings import Settings
from penstock.jobs.workflow.workshop.workbench import Workbench

from ..conftest import flipped
from .small_runs import SmallRuns, in_small_shards

ROWS = [{"topic": f"topic {n % 3}", "number": n} for n in range(9)]
SCORED = {
    "type": "object",
    "properties": {"score": {"type": "integer"}},
    "required": ["score"],
}
WORKFLOW: dict[str, Any] = {
    "name": "stormy",
    "inputs": {"rows": {}},
    "defaults": {"model": "fake", "sampling": {"max_tokens": 8}},
    "steps": [
        {"id": "idea", "type": "generate", "n": 2, "prompt": "{{ row.topic }}"},
        {
            "id": "verdict",
            "type": "judge",
            "prompt": "score {{ row.number }}",
            "schema": SCORED,
            "retries": {"invalid_output": 1},
        },
        {"id": "good", "type": "filter", "where": "row.verdict.score != 1"},
        {"id": "once", "type": "dedupe", "key": "{{ row.number }} {{ row.idea }}"},
        {"id": "praise", "type": "generate", "prompt": "praise {{ row.idea }}"},
        {"id": "kept", "type": "reduce", "agg": {"ideas": "count()"}},
    ],
}
MAX_TURNS = 600


def says(body: dict[str, Any]) -> str:
    word, _, number = body["prompt"].partition(" ")
    if word != "score":
        return f"<{body['prompt']} {body['seed'] % 2}>"
    is_free = "response_format" not in body
    return "well" if is_free and int(number) % 2 == 0 else f'{{"score": {number}}}'


@pytest.fixture
def runs(settings: Settings, table: JobTable) -> Iterator[SmallRuns]:
    with in_small_shards():
        yield SmallRuns(settings, table, says)


def submitted(runs: SmallRuns) -> str:
    return runs.submit(WORKFLOW, {"rows": ROWS}).run_id


@pytest.fixture
def undisturbed(runs: SmallRuns) -> list[dict[str, Any]]:
    run_id = submitted(runs)
    assert runs.finish(run_id).state is JobState.COMPLETED
    return runs.output(run_id)


class Storm:
    """Does something bad to a run now and then. The same seed does the same."""

    def __init__(self, runs: SmallRuns, run_id: str, seed: int) -> None:
        self.runs = runs
        self.run_id = run_id
        self.chance = random.Random(seed)
        self.did: list[str] = []

    def blow(self) -> bool:
        """Perhaps do something; returns whether the advancer dies of it."""
        dice = self.chance.random()
        if dice < 0.05:
            self._wipe()
        elif dice < 0.13:
            self._rot()
        elif dice < 0.18:
            self.did.append("another leader")
            return True
        return False

    def _wipe(self) -> None:
        self.did.append("Redis wiped")
        self.runs.table.redis.flushall()
        self.runs.table.reap(1)
        if self.chance.random() < 0.5:
            rebuild_all(self.runs.settings, self.runs.table)

    def _rot(self) -> None:
        """Flip a byte of something that can be made again. What rots later, readers are told."""
        if self.runs.read(self.run_id).state.is_final:
            return
        found = sorted(self.runs.results(self.run_id).path.rglob("rows/part-*.parquet"))
        found += self.runs.results(self.run_id).path.rglob("gathered.json")
        if not found:
            return
        path = self.chance.choice(found)
        data = path.read_bytes()
        path.write_bytes(flipped(data, self.chance.randrange(len(data)), 1 << 4))
        self.did.append(f"{path.relative_to(self.runs.settings.data_dir)} rotted")


@pytest.mark.parametrize(
    "seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 200))]
)
def test_nothing_that_can_be_made_again_is_missed(
    runs: SmallRuns, undisturbed: list[dict[str, Any]], seed: int
) -> None:
    run_id = submitted(runs)
    storm = Storm(runs, run_id, seed)
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(MAX_TURNS):
        runs.keep()
        runs.serve(run_id)
        if runs.advance(run, bench):
            break
        if storm.blow():
            run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    now = runs.read(run_id)
    assert now.state is JobState.COMPLETED, (now, storm.did)
    assert runs.output(run_id) == undisturbed, storm.did
    assert runs.results(run_id).output.success.exists()


@contextmanager
def full_disk(below: Path, turn: "Turns") -> Iterator[None]:
    """Have a device without room for files below a directory, one time of all that are counted."""
    real = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(below)) and turn.is_full():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, flags, *arguments, **options)

    with mock.patch.object(os, "open", refuse):
        yield


class Turns:
    """Counts files that are about to be made; there is no room for some of them in a row."""

    def __init__(self, first: int, num: int) -> None:
        self.num_made = 0
        self._full = range(first, first + num)

    def is_full(self) -> bool:
        self.num_made += 1
        return self.num_made - 1 in self._full


def led_with_little_room(runs: SmallRuns, run_id: str, turns: Turns) -> None:
    """Lead a run as the advancer does, who takes a full disk for something that passes."""
    run, bench = runs.opened(run_id), Workbench(runs.settings.data_dir)
    for _ in range(MAX_TURNS):
        runs.keep()
        runs.serve(run_id)
        with full_disk(runs.settings.data_dir, turns):
            try:
                if runs.advance(run, bench):
                    return
            except (OSError, StorageFull):
                run = runs.opened(run_id)
    raise AssertionError(f"it hangs: {runs.read(run_id)}")


def test_a_full_disk_holds_a_run_up_and_no_more(
    runs: SmallRuns, undisturbed: list[dict[str, Any]]
) -> None:
    everything = Turns(0, 0)
    led_with_little_room(runs, submitted(runs), everything)
    assert everything.num_made > 40
    for first in range(0, everything.num_made, 9):
        run_id = submitted(runs)
        led_with_little_room(runs, run_id, Turns(first, 3))
        assert runs.read(run_id).state is JobState.COMPLETED
        assert runs.output(run_id) == undisturbed
