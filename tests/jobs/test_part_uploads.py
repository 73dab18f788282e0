"""Uploads in parts whose files have rotted."""

import os
from pathlib import Path

import pytest

from penstock.jobs.file_store import FileStore
from penstock.jobs.part_uploads import LIFETIME_S, PartUploads, UnknownUpload


@pytest.mark.parametrize("rot", [b"", b"{", b'{"id": "upl\xffad"}', b'{"id": 1}'])
def test_a_rotten_upload_stands_in_nobodys_way(tmp_path: Path, rot: bytes) -> None:
    directory = tmp_path / "uploads"
    uploads = PartUploads(directory, FileStore(tmp_path / "files"))
    kept, rotten = (
        uploads.begin(filename="a", purpose="batch", num_bytes=num_bytes, tenant=tenant)
        for num_bytes, tenant in ((100, "acme"), (10, "other"))
    )
    assert uploads.announced("other") == 10
    (directory / rotten.id / "upload.json").write_bytes(rot)
    assert (uploads.announced("acme"), uploads.announced("other")) == (100, 0)
    assert uploads.get(kept.id, "acme") == (kept, "pending")
    with pytest.raises(UnknownUpload, match=rotten.id):
        uploads.get(rotten.id, "other")
    long_ago = kept.created_at - 3 * LIFETIME_S
    os.utime(directory / rotten.id, (long_ago, long_ago))
    assert uploads.sweep() == 1
    assert uploads.announced("acme") == 100
