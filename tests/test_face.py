"""The public face: sorted, loadable, and costing nothing until a name is used."""

import subprocess
import sys

import penstock


def test_the_face_is_sorted_and_every_name_loads() -> None:
    in_order = sorted(penstock.__all__, key=lambda name: (not name.isupper(), name))  # as ruff does
    assert penstock.__all__ == in_order
    for name in penstock.__all__:
        assert getattr(penstock, name).__name__ == name


def test_what_a_caller_catches_is_here() -> None:
    names = {
        "BadRequest", "InvalidInput", "JobFailed", "JobPaused", "MissingPackage", "NotFound",
        "RowFailed", "ServerUnreachable", "Unauthorized", "WaitTimedOut",
    }  # fmt: skip
    assert names <= set(penstock.__all__)
    assert all(issubclass(getattr(penstock, name), penstock.PenstockError) for name in names)


def test_rows_of_jobs_and_of_runs_are_here() -> None:
    assert {"Row", "RunRow"} <= set(penstock.__all__)
    assert issubclass(penstock.RunRow, dict)


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(penstock, "Turbine")


def test_importing_the_face_loads_no_library() -> None:
    script = (
        "import sys; before = set(sys.modules); import penstock; "
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names) - {'penstock'}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    assert result.stdout.strip() == "[]"
