"""Files that a client sends, as people name them."""

import gzip
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import httpx2
import pytest

from penstock.api.client_errors import InvalidInput

from .scripted import connect, job_json, parts_of, payload, script

LINES = b'{"a": 1}\n{"a": 2}\n'


def sent(rows: Any) -> tuple[str | None, bytes]:
    """The name and the content of the file that leaves the client."""
    handler, calls = script(httpx2.Response(202, json=job_json()))
    connect(handler).jobs.submit(rows, prompt="p")
    part = parts_of(calls[0])["file"]
    return part.get_filename(), payload(part)


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "my rows.jsonl"
    path.write_bytes(LINES)
    assert sent(path.as_uri()) == ("my rows.jsonl", LINES)
    assert sent(path) == ("my rows.jsonl", LINES)


def test_a_packed_file_is_sent_as_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(LINES))
    assert sent(str(path)) == ("rows.jsonl", LINES)
    path.write_bytes(gzip.compress(LINES)[:-9])
    with pytest.raises(InvalidInput, match=r"cannot unpack .*rows\.jsonl\.gz: "):
        sent(path)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("gs://bucket/x.jsonl", "cannot read rows from gs://; there are a path, file://, "),
        ("abfss://a@b/x.csv", "cannot read rows from abfss://"),
        (StringIO("{}"), "must not be an open file; pass its path"),
        (BytesIO(LINES), "must not be an open file"),
        (["one", "two"], r'row 0 must be a mapping, got str; send \[\{"prompt": text\}'),
    ],
)
def test_what_is_no_file_of_ours_is_told_with_what_to_do(rows: Any, says: str) -> None:
    handler, calls = script()
    with pytest.raises(InvalidInput, match=says):
        connect(handler).jobs.submit(rows, prompt="p")
    assert calls == []
