"""What is too old is called so."""

import importlib.metadata

import pytest

from penstock.api.doctor import server_finding, versions


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


def test_packages_older_than_we_ask_for_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.ok for finding in versions()} == {None}
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.5.4" if name == "redis" else real(name)
    )
    [fault] = [finding for finding in versions() if finding.ok is False]
    assert fault.name == "redis"
    assert "4.5.4 is too old" in fault.value
