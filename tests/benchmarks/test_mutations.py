"""The tests can fail: without the safeguards that matter most, others of them turn red.

`make mutations` does this for all safeguards; here are those on which "no row is lost" stands.
"""

from pathlib import Path

import pytest

from benchmarks.mutations.__main__ import ALL
from benchmarks.mutations.broken_copy import BrokenCopy
from benchmarks.mutations.queue_safeguards import QUEUE_SAFEGUARDS
from benchmarks.mutations.safeguard import Safeguard

MOST_IMPORTANT = (
    "a stale attempt is fenced at its commit",
    "commits pass when Redis is full",
    "leases are prolonged",
    "lost messages are issued again",
    "bytes are synced before they get a name",
    "the first part stands",
)
BY_NAME = {safeguard.name: safeguard for safeguard in QUEUE_SAFEGUARDS}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> BrokenCopy:
    return BrokenCopy(tmp_path_factory.mktemp("mutations"))


@pytest.mark.parametrize("name", MOST_IMPORTANT)
def test_tests_turn_red_without(copy: BrokenCopy, name: str) -> None:
    assert copy.notices(BY_NAME[name])


def test_a_copy_that_is_whole_stays_green(copy: BrokenCopy) -> None:
    assert copy.is_green(BY_NAME["leases are prolonged"].tests)


@pytest.mark.parametrize(
    "safeguard",
    ALL,
    ids=lambda safeguard: safeguard.name,
)
def test_every_safeguard_stands_once_in_its_file(safeguard: Safeguard) -> None:
    assert (ROOT / safeguard.file).read_text().count(safeguard.line) == 1
