"""What `doctor` says of installed packages. Reads their metadata, and imports none of them."""

import ast
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from .findings import Finding, Verdict

_PACKAGES = (
    "penstock",
    "httpx2",
    "celery",
    "redis",
    "fastapi",
    "starlette",
    "python-multipart",
    "jinja2",
    "pyarrow",
    "flower",
    "torch",
    "transformers",
    "triton",
)
# Lower than what our own metadata asks for these never are; below them are known holes.
_SAFE_VERSION = {
    "jinja2": "3.1.6",  # CVE-2025-27516: a way out of the sandbox that templates run in
    "python-multipart": "0.0.27",  # CVE-2026-42561: uploads that take the processor for themselves
    "starlette": "0.49.1",  # CVE-2025-62727: likewise by one Range header
    "pyarrow": "14.0.1",  # CVE-2023-47248: code in a Parquet file
    "torch": "2.6",  # CVE-2025-32434: code in weights; we read none of that kind
}
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)[^;]*?>=(?P<version>[0-9.]+)")


def versions() -> Iterator[Finding]:
    """Tell the versions of what is installed, and which of them are too old."""
    yield Finding("version", "python", platform.python_version())
    at_least = _minimums()
    for package in _PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("version", package, "not installed")
            continue
        yield _judged(package, version, at_least.get(package, "0"))
    if find_spec("torch") is not None:
        yield Finding("version", "cuda", torch_cuda() or "none: torch is built for CPUs")


def torch_cuda() -> str | None:
    """Read for which CUDA the installed torch is built, if for any; importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        tree = ast.parse(Path(spec.origin).with_name("version.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id == "cuda" and isinstance(node, ast.AnnAssign):
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            return value if isinstance(value, str) else None
    return None


def numbers_of(version: str) -> tuple[int, ...]:
    """Read the leading numbers: 2.13.0+cpu is (2, 13, 0)."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(each) for each in numbers[0].split(".")) if numbers else ()


def _judged(package: str, version: str, asked: str) -> Finding:
    safe = _SAFE_VERSION.get(package, "0")
    lowest = max(asked, safe, key=numbers_of)
    advice = f"pip install '{package}>={lowest}'"
    if numbers_of(version) >= numbers_of(lowest):
        return Finding("version", package, version)
    if numbers_of(version) < numbers_of(safe):
        return Finding("version", package, f"{version} has a known hole", Verdict.FAILURE, advice)
    return Finding("version", package, f"{version} is too old", Verdict.FAILURE, advice)


def _minimums() -> dict[str, str]:
    """Read from our own metadata which versions we ask for."""
    try:
        asked = importlib.metadata.requires("penstock") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (_REQUIREMENT.match(each) for each in asked)
    return {each["name"].lower(): each["version"] for each in found if each is not None}
