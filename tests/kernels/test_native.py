"""Building the CPU's kernels: once, where nobody else writes, and never a reason to stop."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.kernels import native
from tests.kernels.cpu_cases import required_library


@pytest.fixture
def fresh_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], object]:
    """Load the library anew, with a cache directory of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return native.cpu_library.__wrapped__


def test_without_a_compiler_there_is_no_library(
    fresh_library: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert fresh_library() is None


def test_a_broken_compiler_costs_speed_only(
    fresh_library: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "false")
    assert fresh_library() is None
    assert list((tmp_path / "penstock").iterdir()) == []


@pytest.fixture
def compiler() -> None:
    """There is one, as it has built the library that the other tests use."""
    required_library()


@pytest.mark.usefixtures("compiler")
def test_the_library_is_built_once(
    fresh_library: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "cpu_nothing.cpp").write_text("")  # which is quick
    monkeypatch.setattr(native, "_SOURCES", sources)
    assert fresh_library() is not None
    (artefact,) = (tmp_path / "penstock").iterdir()
    built = artefact.stat().st_mtime_ns
    assert fresh_library() is not None
    assert artefact.stat().st_mtime_ns == built


def test_what_others_can_write_to_is_not_run(
    fresh_library: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    own = temporary / f"penstock-{os.getuid()}"
    (tmp_path / "penstock").mkdir()
    (tmp_path / "penstock").chmod(0o770)
    for _ in range(2):  # the second time it is there already
        assert native._cache_dir() == own
        assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o702)
    with pytest.raises(PermissionError, match="must not be writable by others"):
        native._cache_dir()
    assert fresh_library() is None
    own.rmdir()
    own.symlink_to(tmp_path)
    assert fresh_library() is None


@pytest.mark.parametrize("missing", ["home", "home and temporary files"])
def test_a_user_without_a_place_to_write_has_no_library(
    fresh_library: Callable[[], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    def no_temporary_files() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("CXX", "false")  # which is quick
    if missing == "home":
        assert native._cache_dir() == tmp_path / f"penstock-{os.getuid()}"
    else:
        monkeypatch.setattr(tempfile, "gettempdir", no_temporary_files)
    assert fresh_library() is None


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_a_missing_compiler_fails_in_ci(
    ci: str, outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "cpu_library", lambda: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome.Exception, match=r"no C\+\+ compiler here"):
        required_library()
