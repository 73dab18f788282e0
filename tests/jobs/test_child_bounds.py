"""A process that people's inputs may exhaust leaves room in its container, and goes first."""

from pathlib import Path

import pytest

from penstock.jobs.child_bounds import die_first, memory_bound

GIB = 1 << 30


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    ("limit", "bound"),
    [(str(2 * GIB), GIB // 2), (str(64 * GIB), 4 * GIB), ("max", 4 * GIB), (None, 4 * GIB)],
)
def test_it_may_have_a_quarter_of_the_container(
    tmp_path: Path, name: str, limit: str | None, bound: int
) -> None:
    if limit is not None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"{limit}\n")
    assert memory_bound(tmp_path) == bound


def test_where_no_kernel_can_be_asked_nothing_is(tmp_path: Path) -> None:
    die_first(tmp_path / "nowhere")
    assert not any(tmp_path.iterdir())
