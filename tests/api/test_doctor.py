"""What is too old is called so."""

import importlib.metadata
from pathlib import Path

import pytest

from penstock.api.doctor import embedded_finding, server_finding, versions
from penstock.jobs.redis_server import find_server


@pytest.mark.parametrize(
    ("info", "is_safe"),
    [
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, True),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.4"}, True),
        ({"redis_version": "7.2.10"}, False),
        ({"redis_version": "7.2.11"}, True),
        ({"redis_version": "7.0.15"}, False),
        ({"redis_version": "8.4.0"}, True),
        ({"redis_version": "8"}, False),
    ],
)
def test_a_server_with_a_known_hole_is_a_fault(info: dict[str, str], is_safe: bool) -> None:
    finding = server_finding(info)
    assert finding.ok is is_safe
    assert ("CVE" in finding.value) is not is_safe


@pytest.mark.parametrize(
    ("said", "is_safe"),
    [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", False),
        ("Redis server v=8.4.0 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", True),
        ("Valkey server v=8.1.3 sha=00000000:0 malloc=libc bits=64", False),
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64", True),
        ("something else", False),
    ],
)
def test_so_is_the_server_that_up_would_start(tmp_path: Path, said: str, is_safe: bool) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    assert embedded_finding(program).ok is is_safe


def test_the_server_of_our_wheel_is_safe() -> None:
    assert embedded_finding(find_server()).ok


@pytest.mark.parametrize(
    ("package", "version"),
    [("jinja2", "3.1.5"), ("python-multipart", "0.0.26"), ("starlette", "0.49.0")],
)
def test_packages_with_a_known_hole_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == package else real(name)
    )
    [fault] = [finding for finding in versions() if finding.ok is False]
    assert fault.name == package
    assert f"{version} has a known hole" in fault.value


def test_packages_older_than_we_ask_for_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.ok for finding in versions()} == {None}
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.5.4" if name == "redis" else real(name)
    )
    [fault] = [finding for finding in versions() if finding.ok is False]
    assert fault.name == "redis"
    assert "4.5.4 is too old" in fault.value
