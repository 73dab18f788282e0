"""Whoever has no room left may go on asking: the disk is not looked at each time."""

from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from penstock.api import storage_quota
from penstock.api.errors import StorageQuotaFull
from penstock.api.principal import Principal
from penstock.api.storage_quota import require_room
from penstock.jobs.file_store import FileStore
from penstock.jobs.job_table import JobTable
from penstock.jobs.keys import Keys
from penstock.jobs.settings import Settings
from penstock.jobs.stored_bytes import StoredBytes
from penstock.jobs.tenants import Tenants


def test_who_is_refused_again_and_again_is_measured_once(
    settings: Settings, redis_client: Any, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_quota, "_TIGHT_AGE_S", 3_600.0)
    tenants, files = Tenants(settings.tenants_dir), FileStore(settings.files_dir)
    tenants.change("full", {"max_stored_bytes": 100})
    with files.writing() as file:
        file.write(b"x" * 100)
        file_id = files.keep(file, filename="a", purpose="batch", tenant="full").id
    stored = StoredBytes(settings, JobTable(redis_client, keys))
    measured: list[str] = []
    measure_jobs = stored._of_jobs
    monkeypatch.setattr(
        stored, "_of_jobs", lambda name: measured.append(name) or measure_jobs(name)
    )
    services: Any = SimpleNamespace(tenants=tenants, stored=stored)

    def ask() -> None:
        anyio.run(require_room, services, Principal("full"))

    for _ in range(3):
        with pytest.raises(StorageQuotaFull, match="stores 100 bytes of at most 100"):
            ask()
    assert measured == ["full"]
    files.delete(file_id, "full")
    stored.freed("full")
    ask()
    assert measured == ["full"] * 2
