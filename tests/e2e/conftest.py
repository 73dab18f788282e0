"""One stack for the tests that do no harm to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .stack import Stack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    data: Path = tmp_path_factory.mktemp("stack")
    with running_stack(data, "--no-flower") as running:
        yield running
