"""The API's containers are large enough for its dry runs, and for itself beside them."""

from pathlib import Path

import pytest

from penstock.api.validation_slots import MAX_DRY_RUNS
from penstock.jobs.child_bounds import memory_bound

from .manifests import WORKLOADS, container
from .test_compose import SERVICES

GIB = 1 << 30
NEEDED_BYTES = 1 * GIB  # by a dry run with the tokenizer of a large vocabulary, and torch
OWN_BYTES = 1 * GIB  # by the API itself, with uploads and results on their way


def gibibytes(text: str) -> int:
    return int(text.removesuffix("Gi").removesuffix("g")) * GIB


@pytest.mark.parametrize(
    "limit",
    [
        SERVICES["api"]["deploy"]["resources"]["limits"]["memory"],
        container(WORKLOADS["api"])["resources"]["limits"]["memory"],
    ],
    ids=["compose", "kubernetes"],
)
def test_dry_runs_have_room_and_leave_some(tmp_path: Path, limit: str) -> None:
    (tmp_path / "memory.max").write_text(str(gibibytes(limit)))
    bound = memory_bound(tmp_path)
    assert bound >= NEEDED_BYTES
    assert gibibytes(limit) - MAX_DRY_RUNS * bound >= OWN_BYTES
