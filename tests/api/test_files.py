"""Files and uploads in parts, by the official client and by hand."""

import hashlib
import io
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import openai
import pytest

from penstock.jobs.file_store import FileStore, UnknownFile
from penstock.jobs.part_uploads import InvalidUpload, PartUploads

from .conftest import MODEL, Stack

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n'


def test_a_file_comes_back_byte_for_byte(client: openai.OpenAI) -> None:
    content = LINE + os.urandom(3_000_000)
    file = client.files.create(file=("../../a.jsonl", content), purpose="batch")
    assert (file.bytes, file.filename, file.purpose) == (len(content), "../../a.jsonl", "batch")
    assert file.status == "processed"
    assert file.expires_at is not None
    assert file.expires_at - file.created_at in range(30 * 86_400 - 2, 30 * 86_400 + 60)
    kept = client.files.content(file.id)
    assert kept.content == content
    assert kept.response.headers["content-disposition"] == "attachment"  # no page of ours
    assert client.files.retrieve(file.id) == file
    assert client.files.wait_for_processing(file.id) == file
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_lists_are_paged_and_filtered(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{n}", b"x"), purpose="user_data").id for n in range(5)]
    other = client.files.create(file=("other", b"x"), purpose="evals")
    newest = client.files.list(purpose="user_data", limit=2)
    assert [file.id for file in newest.data] == made[:2:-1]
    assert newest.has_more
    paged = [file.id for file in client.files.list(purpose="user_data", limit=2)]
    assert paged[:5] == made[::-1]
    assert len({*paged}) == len(paged)
    oldest = [file.id for file in client.files.list(purpose="user_data", order="asc")]
    assert oldest == paged[::-1]
    assert other.id not in paged
    assert other.id in [file.id for file in client.files.list()]
    with pytest.raises(openai.BadRequestError, match="nothing in this list has the id"):
        client.files.list(after="';--")
    for file_id in (*made, other.id):
        client.files.delete(file_id)


def test_parts_may_come_in_any_order(http: httpx2.Client) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nxyz\r\n'
        b'--b\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n3600\r\n'
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    file = http.post("/v1/files", content=body, headers=headers).json()
    assert file["bytes"] == 3
    assert file["expires_at"] - file["created_at"] in range(3600, 3660)
    http.delete(f"/v1/files/{file['id']}")


@pytest.mark.parametrize(
    ("data", "files", "told"),
    [
        ({}, {"file": ("a", b"x")}, "no part `purpose`"),
        ({"purpose": "batch"}, {}, "multipart"),
        ({"purpose": "treasure"}, {"file": ("a", b"x")}, "purpose must be one of"),
        ({"purpose": "batch"}, {"file": ("a", b"")}, "the file is empty"),
        ({"purpose": "batch", "tag": "x"}, {"file": ("a", b"x")}, "unknown part 'tag'"),
        ({"purpose": "batch" * 999}, {"file": ("a", b"x")}, "at most 1024 bytes"),
        ({"purpose": "batch"}, {"file": ("a.parquet", b"PAR1" * 9)}, "no Parquet"),
        ({"purpose": "batch"}, {"file": ("a.jsonl", b"PAR1" * 9)}, "no Parquet"),
        (
            {"purpose": "batch", "expires_after[seconds]": "10"},
            {"file": ("a", b"x")},
            "must be 3600 to 2592000",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(
    stack: Stack, http: httpx2.Client, data: dict[str, str], files: Any, told: str
) -> None:
    before = {path.name for path in (stack.settings.data_dir / "files").glob("*")}
    answer = http.post("/v1/files", data=data, files=files)
    assert answer.status_code in (400, 413, 415)
    assert told in answer.json()["error"]["message"]
    assert {path.name for path in (stack.settings.data_dir / "files").glob("*")} <= before


def test_a_large_file_arrives_in_parts(client: openai.OpenAI) -> None:
    content = os.urandom(300_000)
    upload = client.uploads.create(
        bytes=len(content), filename="big.jsonl", mime_type="text/jsonl", purpose="batch"
    )
    assert upload.status == "pending"
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    parts = {
        number: client.uploads.parts.create(upload.id, data=pieces[number]).id
        for number in (2, 0, 1)
    }
    order = [parts[number] for number in range(3)]
    md5 = hashlib.md5(content).hexdigest()
    with pytest.raises(openai.BadRequestError, match="the parts have 200000 bytes"):
        client.uploads.complete(upload.id, part_ids=order[:2])
    with pytest.raises(openai.BadRequestError, match="names a part twice"):
        client.uploads.complete(upload.id, part_ids=[order[0], *order[:2]])
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=order[::-1], md5=md5)
    done = client.uploads.complete(upload.id, part_ids=order, md5=md5)
    assert done.status == "completed"
    assert done.file is not None
    assert client.files.content(done.file.id).content == content
    assert client.uploads.complete(upload.id, part_ids=order).file == done.file
    with pytest.raises(openai.BadRequestError, match="is completed"):
        client.uploads.cancel(upload.id)
    client.files.delete(done.file.id)


def test_the_client_cuts_a_file_up_by_itself(client: openai.OpenAI) -> None:
    content = LINE * 1000
    done = client.uploads.upload_file_chunked(
        file=content,
        filename="a.jsonl",
        bytes=len(content),
        mime_type="text/jsonl",
        purpose="batch",
        part_size=20_000,
    )
    assert done.file is not None
    assert client.files.content(done.file.id).content == content
    client.files.delete(done.file.id)


def test_a_cancelled_upload_takes_no_more(client: openai.OpenAI) -> None:
    upload = client.uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="batch")
    part = client.uploads.parts.create(upload.id, data=b"abc")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.parts.create(upload.id, data=b"abc")
    with pytest.raises(openai.BadRequestError, match="is cancelled"):
        client.uploads.complete(upload.id, part_ids=[part.id])
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_../../x")


def test_files_of_others_are_as_if_missing(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with store.writing() as file:
        file.write(b"secret")
        mine = store.keep(file, filename="a", purpose="batch", tenant="me")
    assert store.list("me") == [mine]
    assert store.list("you") == []
    for step in (store.get, store.open, store.delete):
        with pytest.raises(UnknownFile):
            step(mine.id, "you")
    assert store.get(mine.id, "me") == mine


def test_time_ends_files_and_the_sweep_removes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    end = int(time.time()) + 60
    with store.writing() as file:
        short = store.keep(file, filename="a", purpose="batch", expires_at=end)
    with store.writing() as file:
        long = store.keep(file, filename="b", purpose="batch")
    assert store.sweep() == 0
    clock = SimpleNamespace(time=lambda: end + 0.5)  # this store's alone
    monkeypatch.setattr("penstock.jobs.file_store.time", clock)
    with pytest.raises(UnknownFile):
        store.get(short.id, "default")
    assert store.list("default") == [long]
    assert store.sweep() == 1
    assert {path.stem for path in tmp_path.iterdir()} == {long.id}


def test_parts_are_no_more_than_was_announced(tmp_path: Path) -> None:
    uploads = PartUploads(tmp_path / "uploads", FileStore(tmp_path / "files"))
    upload = uploads.begin(filename="a", purpose="batch", num_bytes=5)
    with uploads.writing_part(upload) as file:
        file.write(b"abc")
        uploads.keep_part(upload, file)
    with (
        pytest.raises(InvalidUpload, match="the parts have 6 bytes, the upload was to have 5"),
        uploads.writing_part(upload) as file,
    ):
        file.write(b"def")
        file.seek(0)  # as an upload leaves it
        uploads.keep_part(upload, file)
    assert len([*(tmp_path / "uploads" / upload.id).glob("part_*")]) == 1


def test_parts_of_another_upload_are_not_taken(tmp_path: Path) -> None:
    uploads = PartUploads(tmp_path / "uploads", FileStore(tmp_path / "files"))
    theirs, mine = (
        uploads.begin(filename="a", purpose="batch", num_bytes=3, tenant=tenant)
        for tenant in ("them", "me")
    )
    with uploads.writing_part(theirs) as file:
        file.write(b"abc")
        part = uploads.keep_part(theirs, file)
    for part_id in (part, f"../{theirs.id}/{part}"):
        with pytest.raises(InvalidUpload, match="the upload has no part"):
            uploads.complete(mine, [part_id])


@pytest.mark.parametrize("attempt", range(5))
def test_an_upload_completed_twice_at_once_is_one_file(tmp_path: Path, attempt: int) -> None:
    files = FileStore(tmp_path / "files")
    uploads = PartUploads(tmp_path / "uploads", files)
    upload = uploads.begin(filename="a", purpose="batch", num_bytes=3)
    with uploads.writing_part(upload) as file:
        file.write(b"abc")
        part = uploads.keep_part(upload, file)
    with ThreadPoolExecutor(4) as pool:
        made = {*pool.map(lambda _: uploads.complete(upload, [part]).id, range(4))}
    assert made == {upload.file_id}
    files.delete(upload.file_id, "default")
    assert uploads.get(upload.id, "default")[1] == "completed"  # and stays so without its file


def test_uploads_end_after_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = PartUploads(tmp_path / "uploads", FileStore(tmp_path / "files"))
    upload = uploads.begin(filename="a", purpose="batch", num_bytes=1)
    with uploads.writing_part(upload) as file:
        file.write(b"x")
        part = uploads.keep_part(upload, file)
    later = time.time() + 3601
    clock = SimpleNamespace(time=lambda: later)  # that of these uploads alone
    monkeypatch.setattr("penstock.jobs.part_uploads.time", clock)
    assert uploads.get(upload.id, "default")[1] == "expired"
    with pytest.raises(InvalidUpload, match="is expired"):
        uploads.complete(upload, [part])
    later += 3601
    assert uploads.sweep() == 1
    assert not (tmp_path / "uploads" / upload.id).exists()


def test_what_dead_writers_left_is_swept(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with store.writing() as file:
        kept = store.keep(file, filename="a", purpose="batch")
    dead = [tmp_path / ".1.abc.tmp", tmp_path / "file-00000000000000000000000000.bytes"]
    fresh = tmp_path / ".2.abc.tmp"
    for path in (*dead, fresh):
        path.write_bytes(b"half")
    for path in (*dead, store.path(kept)):
        os.utime(path, (0, 0))
    assert store.sweep() == 2
    assert sorted(tmp_path.iterdir()) == sorted(
        [fresh, store.path(kept), tmp_path / f"{kept.id}.json"]
    )


def test_an_interrupted_upload_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    with pytest.raises(io.UnsupportedOperation), store.writing() as file:
        file.write(b"half")
        raise io.UnsupportedOperation
    assert [*tmp_path.iterdir()] == []


def test_a_job_may_run_over_a_file_that_was_kept(
    client: openai.OpenAI, http: httpx2.Client
) -> None:
    rows = b'{"n": 1}\n{"n": 2}\n'
    file = client.files.create(file=("rows.jsonl", rows), purpose="user_data")
    body = {"model": MODEL, "input": {"file_id": file.id}, "prompt": "{{ row.n }}"}
    made = http.post("/v1/jobs", json=body)
    assert made.status_code == 202
    done = http.get(f"/v1/jobs/{made.json()['id']}?wait=30").json()
    while done["status"] not in ("completed", "failed"):
        done = http.get(f"/v1/jobs/{made.json()['id']}?wait=30").json()
    assert done["counts"]["succeeded"] == 2
    for odd in ({"file_id": "file-none"}, {"file_id": file.id, "path": "x"}):
        answer = http.post("/v1/jobs", json={**body, "input": odd})
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["type"] == "invalid_request_error"
