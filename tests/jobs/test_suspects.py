"""Who is found guilty, after how many crashes, and that nobody else is."""

import math
import random
from pathlib import Path

import pytest

from penstock.jobs.model import ShardRef
from penstock.jobs.suspects import GUILTY_AFTER, NO_PROOF, PARTS, Suspects

REF = ShardRef("job_1", 3)


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    (tmp_path / REF.job_id).mkdir()
    return tmp_path


def run(jobs_dir: Path, rows: set[int], poison: set[int]) -> tuple[int, set[int]]:
    """Play a shard to its end; return how often the engine died, and the rows that failed."""
    left, failed, num_crashes = set(rows), set[int](), 0
    while left:
        suspects = Suspects(jobs_dir, REF)
        guilty = {row for row in left if suspects.verdict(row)}
        failed |= guilty
        left -= guilty
        suspects.begin(sorted(left))
        innocent = left - suspects.rows
        if innocent & poison:  # nobody is on trial yet
            num_crashes += 1
            Suspects(jobs_dir, REF).note_crash("signal 6")
            continue
        left -= innocent
        while suspects.group:
            group = set(suspects.group)
            suspects.begin_trial(is_alone=suspects.wants_alone)
            if group & poison:
                num_crashes += 1
                Suspects(jobs_dir, REF).note_crash("signal 6")
                break
            for row in group:
                suspects.clear(row)
            left -= group
    return num_crashes, failed


@pytest.mark.parametrize("num_rows", [1, 2, 7, 8, 9, 64, 200, 256])
def test_one_culprit_costs_few_crashes(jobs_dir: Path, num_rows: int) -> None:
    for culprit in {0, num_rows // 2, num_rows - 1}:
        num_crashes, failed = run(jobs_dir, set(range(num_rows)), {culprit})
        assert failed == {culprit}
        assert num_crashes <= 4 + math.ceil(math.log(num_rows, PARTS))  # 64 rows: 6
        Suspects(jobs_dir, REF).remove()


def test_any_culprits_are_found_and_nobody_else(jobs_dir: Path) -> None:
    random_ = random.Random(5)
    for _ in range(50):
        rows = set(random_.sample(range(1_000), random_.randint(1, 80)))
        poison = set(random_.sample(sorted(rows), random_.randint(0, min(5, len(rows)))))
        num_crashes, failed = run(jobs_dir, rows, poison)
        assert failed == poison
        assert num_crashes <= 7 * len(poison)  # the first of them are had together
        Suspects(jobs_dir, REF).remove()


def corner(jobs_dir: Path, row: int) -> None:
    suspects = Suspects(jobs_dir, REF)
    suspects.note_crash("signal 6")
    suspects.begin([row])
    suspects.begin_trial(is_alone=False)
    Suspects(jobs_dir, REF).note_crash("signal 6")


def crash_alone(jobs_dir: Path, *, is_proof: bool = True) -> None:
    suspects = Suspects(jobs_dir, REF)
    assert suspects.wants_alone
    suspects.begin_trial(is_alone=True)
    Suspects(jobs_dir, REF).note_crash("signal 11 at kernel.py:3 in run", is_proof=is_proof)


def test_a_row_is_guilty_when_it_crashed_alone_twice_and_the_verdict_says_how(
    jobs_dir: Path,
) -> None:
    corner(jobs_dir, 7)
    for _ in range(GUILTY_AFTER):
        assert Suspects(jobs_dir, REF).verdict(7) is None
        crash_alone(jobs_dir)
    suspects = Suspects(jobs_dir, REF)
    assert suspects.verdict(8) is None and not suspects.group
    message = "the engine died 2 times while it ran this row alone: signal 11 at kernel.py:3 in run"
    assert suspects.verdict(7) == message


def test_what_proves_nothing_counts_less(jobs_dir: Path) -> None:
    corner(jobs_dir, 7)
    for _ in range(GUILTY_AFTER * NO_PROOF):
        assert Suspects(jobs_dir, REF).verdict(7) is None
        crash_alone(jobs_dir, is_proof=False)
    assert Suspects(jobs_dir, REF).verdict(7)  # or it would keep the engine down for ever


def test_a_row_that_ended_is_cleared(jobs_dir: Path) -> None:
    corner(jobs_dir, 7)
    suspects = Suspects(jobs_dir, REF)
    suspects.begin_trial(is_alone=True)
    suspects.clear(7)
    assert not suspects.is_on_trial and not Suspects(jobs_dir, REF).group


def test_a_trial_that_was_broken_off_blames_nobody(jobs_dir: Path) -> None:
    suspects = Suspects(jobs_dir, REF)
    suspects.note_crash("signal 6")
    suspects.begin(range(16))
    suspects.begin_trial(is_alone=False)
    suspects.break_off()
    Suspects(jobs_dir, REF).note_crash("signal 6")  # of whoever was there
    suspects = Suspects(jobs_dir, REF)
    suspects.begin(range(16))
    assert len(suspects.group) == 16  # not split


def test_a_damaged_trace_is_none(jobs_dir: Path) -> None:
    corner(jobs_dir, 7)
    (jobs_dir / REF.job_id / "suspects" / "3.json").write_bytes(b'{"groups": 3}')
    assert not Suspects(jobs_dir, REF).group
