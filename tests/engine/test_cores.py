import os
from pathlib import Path

import pytest

from penstock.engine.cores import usable_cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six logical CPUs on three cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    for cpu in range(6):
        topology = tmp_path / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 3},{cpu % 3 + 3}\n")
    (tmp_path / "fs/cgroup").mkdir(parents=True)
    return tmp_path


def test_hyperthreads_count_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(machine) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3})
    assert usable_cores(machine) == 1


@pytest.mark.parametrize(("limit", "cores"), [("150000 100000", 2), ("10000 100000", 1)])
def test_a_container_has_its_quota(machine: Path, limit: str, cores: int) -> None:
    (machine / "fs/cgroup/cpu.max").write_text(f"{limit}\n")
    assert usable_cores(machine) == cores


def test_no_quota_is_no_limit(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    (machine / "fs/cgroup/cpu.max").write_text("max 100000\n")
    assert usable_cores(machine) == 3


def test_the_user_has_the_last_word(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert usable_cores(machine) == 5


def test_an_unknown_machine_has_a_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert usable_cores(tmp_path) >= 1
