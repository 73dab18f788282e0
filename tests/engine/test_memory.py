from pathlib import Path

import pytest

from penstock.engine.memory import available_bytes

GIB = 1024**3
V2 = ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
V1 = (
    "sys/fs/cgroup/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Eight GiB of sixteen are to be had, though only one is free."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(
        "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n"
    )
    return tmp_path


def contain(machine: Path, names: tuple[str, ...], limit: str, used: int, inactive: int) -> None:
    directory, limit_name, usage_name, reclaimable = names
    (machine / directory).mkdir(parents=True)
    (machine / directory / limit_name).write_text(f"{limit}\n")
    (machine / directory / usage_name).write_text(f"{used}\n")
    (machine / directory / "memory.stat").write_text(f"anon 5\n{reclaimable} {inactive}\n")


def test_caches_that_give_way_count_as_free(machine: Path) -> None:
    assert available_bytes(machine) == 8 * GIB


@pytest.mark.parametrize("names", [V2, V1])
def test_a_container_has_what_its_limit_leaves(machine: Path, names: tuple[str, ...]) -> None:
    contain(machine, names, str(4 * GIB), used=3 * GIB, inactive=2 * GIB)
    assert available_bytes(machine) == 3 * GIB


def test_a_container_that_is_full_has_nothing(machine: Path) -> None:
    contain(machine, V2, str(2 * GIB), used=3 * GIB, inactive=0)
    assert available_bytes(machine) == 0


@pytest.mark.parametrize(("names", "limit"), [(V2, "max"), (V1, str(2**63 - 4096))])
def test_no_limit_is_no_limit(machine: Path, names: tuple[str, ...], limit: str) -> None:
    contain(machine, names, limit, used=3 * GIB, inactive=0)
    assert available_bytes(machine) == 8 * GIB


def test_an_unknown_machine_has_what_is_built_in(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) > 0
