"""What doctor says of the data directory and its file system."""

import errno
import fcntl
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from penstock.api.doctor_data import Mount, data_directory, judged_mount, mount_of, room, written
from penstock.api.findings import Finding, Verdict
from penstock.jobs.settings import Settings

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
23 22 0:5 / /mnt/jobs\\040here rw,relatime shared:5 - nfs4 nas:/jobs rw,vers=4.1,local_lock=none
24 23 0:6 / /mnt/jobs\\040here/scratch rw - tmpfs tmpfs rw,size=1g
25 22 0:7 / /mnt/old rw - nfs nas:/old rw,vers=3,nolock,local_lock=all
"""


def found_in(directory: Path) -> dict[str, Finding]:
    return {each.name: each for each in data_directory(Settings(data=str(directory)))}


def test_a_directory_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    finding = written(tmp_path)
    assert finding.verdict in (Verdict.OK, Verdict.WARNING)  # slow disks are warned of
    assert str(tmp_path) in finding.value
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_one_that_cannot_be_written_is_a_fault() -> None:
    finding = written(Path("/proc"))  # not even by root
    assert finding.verdict is Verdict.FAILURE
    assert "PENSTOCK_DATA" in finding.advice


@pytest.mark.parametrize(("module", "missing"), [(os, "link"), (os, "fsync"), (fcntl, "flock")])
def test_one_without_links_fsync_or_locks_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, missing: str
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(module, missing, refuse)
    finding = written(tmp_path)
    assert finding.verdict is Verdict.FAILURE
    assert os.strerror(errno.ENOTSUP) in finding.value
    assert "fsync, hard links and flock" in finding.advice
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = found_in(tmp_path / "a" / "b")
    assert found["directory"].verdict is Verdict.INFO
    assert "can be made" in found["directory"].value
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    assert found_in(tmp_path / "file" / "b")["directory"].verdict is Verdict.FAILURE


@pytest.mark.parametrize(
    ("path", "kind", "point"),
    [
        ("/srv", "ext4", "/"),
        ("/mnt/jobs here", "nfs4", "/mnt/jobs here"),
        ("/mnt/jobs here/a/b", "nfs4", "/mnt/jobs here"),
        ("/mnt/jobs here/scratch/a", "tmpfs", "/mnt/jobs here/scratch"),
        ("/mnt/older", "ext4", "/"),
    ],
)
def test_a_path_is_on_its_nearest_mount(tmp_path: Path, path: str, kind: str, point: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    mount = mount_of(Path(path), mounts)
    assert mount is not None
    assert (mount.kind, mount.point) == (kind, point)
    assert mount_of(Path(path), tmp_path / "no Linux") is None


@pytest.mark.parametrize(
    ("kind", "options", "verdict", "word"),
    [
        ("ext4", set(), Verdict.OK, ""),
        ("nfs4", {"local_lock=none"}, Verdict.OK, ""),
        ("nfs", {"nolock"}, Verdict.FAILURE, "other machines do not see its locks"),
        ("nfs4", {"local_lock=flock"}, Verdict.FAILURE, "other machines do not see its locks"),
        ("tmpfs", set(), Verdict.WARNING, "gone with the machine's next start"),
        ("overlay", set(), Verdict.WARNING, "mount a volume"),
        ("fuse.s3fs", set(), Verdict.WARNING, "PENSTOCK_RESULTS"),
    ],
)
def test_a_file_system_is_judged_by_what_it_keeps(
    kind: str, options: set[str], verdict: Verdict, word: str
) -> None:
    finding = judged_mount(Mount("/data", kind, frozenset(options)))
    assert finding.verdict is verdict
    assert word in finding.advice


@pytest.mark.parametrize(
    ("free_gb", "of_gb", "inodes", "verdicts"),
    [
        (500, 1000, 10_000_000, (Verdict.OK, Verdict.OK)),
        (50, 1000, 10_000_000, (Verdict.WARNING, Verdict.OK)),
        (4, 10, 10_000_000, (Verdict.FAILURE, Verdict.OK)),
        (500, 1000, 500, (Verdict.OK, Verdict.WARNING)),
    ],
)
def test_little_room_is_told(
    monkeypatch: pytest.MonkeyPatch,
    free_gb: int,
    of_gb: int,
    inodes: int,
    verdicts: tuple[Verdict, Verdict],
) -> None:
    blocks = {"f_frsize": 4096, "f_blocks": of_gb * 10**9 // 4096}
    files = {"f_bavail": free_gb * 10**9 // 4096, "f_files": 20_000_000, "f_favail": inodes}
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(**blocks, **files))
    assert tuple(each.verdict for each in room(Path("/"))) == verdicts


def test_a_file_system_that_counts_no_inodes_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = SimpleNamespace(
        f_frsize=4096, f_blocks=10**9, f_bavail=10**9 // 2, f_files=0, f_favail=0
    )
    monkeypatch.setattr(os, "statvfs", lambda path: counted)
    assert [each.name for each in room(Path("/"))] == ["room"]
