from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .checkpoints import TINY_MODELS


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep tests off each other's cores."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the directory of a tiny checkpoint by name, made when it is first asked for."""
    made: dict[str, Path] = {}

    def checkpoint(name: str) -> Path:
        if name not in made:
            made[name] = TINY_MODELS[name].save(tmp_path_factory.mktemp(name))
        return made[name]

    return checkpoint
