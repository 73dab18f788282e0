"""Who is found guilty, after how many crashes, and that nobody else is."""

import math
import random
from pathlib import Path

import pytest

from penstock.jobs.accusation import accuse
from penstock.jobs.engine_process import Loss
from penstock.jobs.model import ShardRef
from penstock.jobs.suspects import GUILTY_AFTER, NO_PROOF, PARTS, Suspects

REF = ShardRef("job_1", 0)


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    (tmp_path / REF.job_id / "unlanded").mkdir(parents=True)
    return tmp_path


class Shards:
    """Shards in one engine after another, which dies whenever it has a poisoned row.

    It is as hard as can be: everything that may be in the engine together is in it when it dies.
    """

    def __init__(self, jobs_dir: Path, sizes: list[int], poison: set[int]) -> None:
        self.jobs_dir = jobs_dir
        self.poison = poison
        self.failed: set[int] = set()
        self.num_crashes = 0
        rows = iter(range(sum(sizes)))
        self.left = {
            ShardRef(REF.job_id, index): {next(rows) for _ in range(size)}
            for index, size in enumerate(sizes)
        }

    def run(self) -> None:
        while any(self.left.values()):
            self._run_engine()

    def _run_engine(self) -> None:
        """One engine's life: it dies, or nothing is left to do."""
        traces = {ref: Suspects(self.jobs_dir, ref) for ref in self._open_shards()}
        for ref, suspects in traces.items():
            guilty = {row for row in self.left[ref] if suspects.verdict(row)}
            self.failed |= guilty
            self.left[ref] -= guilty
            suspects.begin(sorted(self.left[ref]))
            attempt_of(self.jobs_dir, ref).touch()
        for ref, suspects in traces.items():
            while suspects.has_fresh or suspects.wants_alone:
                if self._try(suspects, ref, beside=set()):
                    return
        fed = {row for ref in traces for row in self.left[ref] - traces[ref].rows}
        narrow = next((ref for ref in traces if traces[ref].num_narrow), None)
        if narrow is not None:
            if self._try(traces[narrow], narrow, beside=fed):
                return
        elif fed & self.poison:
            self._die()
            return
        for ref in traces:
            self.left[ref] -= fed

    def _open_shards(self) -> list[ShardRef]:
        """Two shards, and those whose rows are suspects: they count nothing."""
        left = [ref for ref, rows in self.left.items() if rows]
        suspected = [ref for ref in left if attempt_of(self.jobs_dir, ref).exists()]
        fresh = [ref for ref in left if ref not in suspected]
        return suspected + fresh[:2]

    def _try(self, suspects: Suspects, ref: ShardRef, *, beside: set[int]) -> bool:
        """Try a group; return whether the engine died."""
        group = set(suspects.begin_trial())
        assert not (suspects.is_alone and beside)
        if (group | beside) & self.poison:
            self._die()
            return True
        for row in group:
            suspects.clear(row)
        self.left[ref] -= group
        return False

    def _die(self) -> None:
        self.num_crashes += 1
        accuse(self.jobs_dir, dict.fromkeys(self.left, 1), Loss("signal 6", 7), is_proof=True)


def attempt_of(jobs_dir: Path, ref: ShardRef) -> Path:
    return jobs_dir / ref.job_id / "unlanded" / f"{ref.index}.1.7.rows"


@pytest.mark.parametrize("num_rows", [1, 2, 7, 8, 9, 64, 200, 256])
def test_one_culprit_costs_few_crashes(jobs_dir: Path, num_rows: int) -> None:
    for culprit in {0, num_rows // 2, num_rows - 1}:
        shards = Shards(jobs_dir, [num_rows], {culprit})
        shards.run()
        assert shards.failed == {culprit}
        assert shards.num_crashes <= 4 + math.ceil(math.log(num_rows, PARTS))  # 64 rows: 6
        Suspects(jobs_dir, REF).remove()


def test_many_culprits_are_found_and_nobody_else(jobs_dir: Path) -> None:
    random_ = random.Random(5)
    for _ in range(20):
        sizes = [random_.randint(1, 70) for _ in range(random_.randint(1, 6))]
        poison = set(random_.sample(range(sum(sizes)), min(sum(sizes), random_.randint(0, 6))))
        shards = Shards(jobs_dir, sizes, poison)
        shards.run()
        assert shards.failed == poison
        assert shards.num_crashes <= 7 * len(poison)
        for ref in shards.left:
            Suspects(jobs_dir, ref).remove()


def accuse_only(jobs_dir: Path, row: int) -> Suspects:
    suspects = Suspects(jobs_dir, REF)
    suspects.note_crash("signal 6")
    suspects.begin([row])
    return suspects


def crash_alone(jobs_dir: Path, *, is_proof: bool = True) -> None:
    suspects = Suspects(jobs_dir, REF)
    assert suspects.has_fresh or suspects.wants_alone
    suspects.begin_trial()
    assert suspects.is_alone
    Suspects(jobs_dir, REF).note_crash("signal 11 at kernel.py:3 in run", is_proof=is_proof)


def test_a_row_is_guilty_when_it_crashed_alone_twice_and_the_verdict_says_how(
    jobs_dir: Path,
) -> None:
    accuse_only(jobs_dir, 7)
    for _ in range(GUILTY_AFTER):
        assert Suspects(jobs_dir, REF).verdict(7) is None
        crash_alone(jobs_dir)
    suspects = Suspects(jobs_dir, REF)
    assert suspects.verdict(8) is None and not suspects.rows
    message = "the engine died 2 times while it ran this row alone: signal 11 at kernel.py:3 in run"
    assert suspects.verdict(7) == message


def test_what_proves_nothing_counts_less(jobs_dir: Path) -> None:
    accuse_only(jobs_dir, 7)
    for _ in range(GUILTY_AFTER * NO_PROOF):
        assert Suspects(jobs_dir, REF).verdict(7) is None
        crash_alone(jobs_dir, is_proof=False)
    assert Suspects(jobs_dir, REF).verdict(7)  # or it would keep the engine down for ever


def test_a_row_that_ended_is_cleared(jobs_dir: Path) -> None:
    suspects = accuse_only(jobs_dir, 7)
    suspects.begin_trial()
    suspects.clear(7)
    assert not (suspects.is_on_trial or suspects.is_alone or Suspects(jobs_dir, REF).rows)


def test_a_trial_that_was_broken_off_blames_nobody(jobs_dir: Path) -> None:
    suspects = Suspects(jobs_dir, REF)
    suspects.note_crash("signal 6")
    suspects.begin(range(16))
    suspects.begin_trial()
    suspects.break_off()
    Suspects(jobs_dir, REF).note_crash("signal 6")  # of whoever was there
    suspects = Suspects(jobs_dir, REF)
    suspects.begin(range(16))
    assert len(suspects.begin_trial()) == 16 and suspects.num_narrow == 0  # not split


@pytest.mark.parametrize("data", [b'{"fresh": 3}', b'{"reasons": {"7": "\xff"}}'])
def test_a_damaged_trace_is_none(jobs_dir: Path, data: bytes) -> None:
    accuse_only(jobs_dir, 7)
    (jobs_dir / REF.job_id / "suspects" / "0.json").write_bytes(data)
    assert not Suspects(jobs_dir, REF).rows
