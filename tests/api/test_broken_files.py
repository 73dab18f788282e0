"""Files that break off, or never end, as a client tells of them."""

import gzip
from pathlib import Path

import pytest

from penstock.api.client_errors import InvalidInput
from penstock.api.open_inputs import Upload, open_upload

LINES = b"".join(b'{"a": %d}\n' % n for n in range(50_000))


def test_a_packed_file_that_breaks_off_is_told_with_how_far_it_went(tmp_path: Path) -> None:
    packed = gzip.compress(LINES)
    path = tmp_path / "rows.jsonl.gz"
    says = r"cannot unpack .*rows\.jsonl\.gz, which was read to its line [1-9][\d,]+: .* ended"
    for data in (packed[: len(packed) // 2], packed[:-8]):
        path.write_bytes(data)
        came = b""
        with pytest.raises(InvalidInput, match=says), open_upload(path) as upload:
            assert isinstance(upload, Upload)
            for piece in upload.pieces():
                came += piece
        assert LINES.startswith(came)
        assert came


def test_a_device_is_refused_and_nothing_is_read() -> None:
    with (
        pytest.raises(InvalidInput, match="cannot read /dev/null: it is a device"),
        open_upload("/dev/null"),
    ):
        pass
