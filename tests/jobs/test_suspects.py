from pathlib import Path

import pytest

from penstock.jobs.model import ShardRef
from penstock.jobs.suspects import GUILTY_AFTER, NO_PROOF, Suspects

REF = ShardRef("job_1", 3)


@pytest.fixture
def jobs_dir(tmp_path: Path) -> Path:
    (tmp_path / REF.job_id).mkdir()
    return tmp_path


def crash(jobs_dir: Path, *, is_proof: bool = True) -> None:
    Suspects(jobs_dir, REF).note_crash(is_proof=is_proof)


def test_a_row_is_guilty_when_it_crashed_alone_twice(jobs_dir: Path) -> None:
    for number in range(GUILTY_AFTER):
        assert not Suspects(jobs_dir, REF).is_guilty(7), number
        Suspects(jobs_dir, REF).note_row(7)
        crash(jobs_dir)
    suspects = Suspects(jobs_dir, REF)
    assert suspects.is_guilty(7) and not suspects.is_guilty(8)


def test_a_row_that_ended_is_not_blamed(jobs_dir: Path) -> None:
    suspects = Suspects(jobs_dir, REF)
    suspects.note_row(7)
    suspects.note_row_ended()
    assert not Suspects(jobs_dir, REF).has_row_alone
    crash(jobs_dir)
    assert Suspects(jobs_dir, REF).num_crashes(7) == 0


def test_what_proves_nothing_counts_less(jobs_dir: Path) -> None:
    for _ in range(GUILTY_AFTER * NO_PROOF):
        assert not Suspects(jobs_dir, REF).is_guilty(7)
        Suspects(jobs_dir, REF).note_row(7)
        crash(jobs_dir, is_proof=False)
    assert Suspects(jobs_dir, REF).is_guilty(7)  # or it would keep the engine down for ever
