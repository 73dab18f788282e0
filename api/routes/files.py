"""/v1/files: what clients send to be worked on, and what comes of it, byte for byte."""

import os
import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any, BinaryIO, Literal, get_args

import anyio.to_thread
import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pyarrow import ArrowInvalid

from ...jobs.batch_record import BatchRecords
from ...jobs.file_store import StoredFile
from ..creations import ADMITTED
from ..errors import Conflict, InvalidRequest, UnsupportedMediaType, shown
from ..home import require_home
from ..pages import page_of
from ..principal import ThePrincipal
from ..services import TheServices
from ..storage_quota import require_room
from ..upload import Form, is_multipart, receive_upload

Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]

MIN_LIFE_S, MAX_LIFE_S = 3_600, 30 * 24 * 3_600
BATCH_LIFE_S = MAX_LIFE_S
MAX_LISTED = 10_000
_CHUNK_BYTES = 256 << 10
_ANCHOR, _SECONDS = "expires_after[anchor]", "expires_after[seconds]"

router = APIRouter(tags=["files"])


@router.post("/v1/files", dependencies=[ADMITTED])
async def create_file(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Keep a file; it is durable when the answer leaves."""
    if not is_multipart(request):
        raise UnsupportedMediaType("send the file as multipart/form-data: `purpose` and `file`")
    require_home(services)
    form = Form(
        fields=frozenset({"purpose", _ANCHOR, _SECONDS}),
        required=frozenset({"purpose", "file"}),
        max_file_bytes=services.settings.max_file_bytes,
    )
    with services.files.writing() as file:
        upload = await receive_upload(request, form, file)
        fields = {name: value.decode("utf-8", "replace") for name, value in upload.fields.items()}
        purpose = purpose_of(fields["purpose"])
        expires_at = _expiry(fields, purpose)
        await anyio.to_thread.run_sync(check_content, file, upload.filename)
        num_bytes = file.seek(0, os.SEEK_END)
        await require_room(services, principal, num_bytes, is_fresh=True)
        stored = await anyio.to_thread.run_sync(
            lambda: services.files.keep(
                file,
                filename=upload.filename,
                purpose=purpose,
                tenant=principal.tenant,
                expires_at=expires_at,
            )
        )
    return file_object(stored)


@router.get("/v1/files")
async def list_files(
    services: TheServices,
    principal: ThePrincipal,
    limit: Annotated[
        int, Query(ge=1, le=MAX_LISTED, description="How many files a page has.")
    ] = MAX_LISTED,
    after: Annotated[str | None, Query(description="`last_id` of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By when they were made.")] = "desc",
    purpose: Annotated[str | None, Query(description="Only files of this purpose.")] = None,
) -> dict[str, Any]:
    """List files, by default the newest first."""
    found = await anyio.to_thread.run_sync(services.files.list, principal.tenant)
    files = [each for each in found if purpose is None or each.purpose == purpose]
    if order == "desc":
        files.reverse()
    return page_of(files, after=after, limit=limit, id_of=lambda each: each.id, show=file_object)


@router.get("/v1/files/{file_id}")
async def get_file(file_id: str, services: TheServices, principal: ThePrincipal) -> dict[str, Any]:
    """Show what is known about a file."""
    return file_object(
        await anyio.to_thread.run_sync(services.files.get, file_id, principal.tenant)
    )


@router.delete("/v1/files/{file_id}")
async def delete_file(
    file_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Remove a file; whatever was made of it stays.

    Raises:
        Conflict: a batch still reads it.
    """
    await anyio.to_thread.run_sync(services.files.get, file_id, principal.tenant)
    reader = await anyio.to_thread.run_sync(_reader_of, services.batches, file_id)
    if reader is not None:
        raise Conflict(f"{file_id} is being read by {reader}; cancel that, or wait until it runs")
    await anyio.to_thread.run_sync(services.files.delete, file_id, principal.tenant)
    services.stored.freed(principal.tenant)
    return {"id": file_id, "object": "file", "deleted": True}


@router.get("/v1/files/{file_id}/content")
async def get_content(
    file_id: str, services: TheServices, principal: ThePrincipal
) -> StreamingResponse:
    """Return the very bytes that were sent, or made."""
    stored = await anyio.to_thread.run_sync(services.files.get, file_id, principal.tenant)
    file = await anyio.to_thread.run_sync(services.files.open, file_id, principal.tenant)
    return StreamingResponse(
        _chunks(file),
        media_type="application/octet-stream",
        headers={"content-length": str(stored.bytes), "content-disposition": "attachment"},
    )


async def _chunks(file: BinaryIO) -> AsyncGenerator[bytes, None]:
    with file:
        while chunk := await anyio.to_thread.run_sync(file.read, _CHUNK_BYTES):
            yield chunk


def file_object(stored: StoredFile) -> dict[str, Any]:
    """Return OpenAI's object for a file."""
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.bytes,
        "created_at": stored.created_at,
        "expires_at": stored.expires_at,
        "filename": stored.filename,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


def purpose_of(text: str) -> str:
    """Check a purpose that a client names.

    Raises:
        InvalidRequest: there is no such purpose.
    """
    if text not in get_args(Purpose):
        known = ", ".join(get_args(Purpose))
        raise InvalidRequest(f"purpose must be one of {known}, got {shown(text)}", param="purpose")
    return text


def expiry(seconds: int | None, purpose: str) -> int | None:
    """Say when a file's time is over, in seconds since 1970; None if never.

    Raises:
        InvalidRequest: it is too soon or too late.
    """
    if seconds is None:
        return int(time.time()) + BATCH_LIFE_S if purpose == "batch" else None
    if not MIN_LIFE_S <= seconds <= MAX_LIFE_S:
        raise InvalidRequest(
            f"expires_after.seconds must be {MIN_LIFE_S} to {MAX_LIFE_S}, got {seconds}",
            param="expires_after.seconds",
        )
    return int(time.time()) + seconds


def check_content(file: BinaryIO, filename: str) -> None:
    """Refuse early what no job could read.

    Raises:
        InvalidRequest: the file is empty, or called Parquet and is not.
    """
    head = file.read(4)
    file.seek(0)
    if not head:
        raise InvalidRequest("the file is empty", param="file", code="empty_file")
    if head == b"PAR1" or filename.lower().endswith((".parquet", ".pq")):
        try:
            pq.ParquetFile(file)  # reads the footer alone
        except (ArrowInvalid, OSError) as error:
            message = f"the file is no Parquet that can be read: {error}"[:300]
            raise InvalidRequest(message, param="file", code="invalid_file_format") from None
        file.seek(0)


def _expiry(fields: dict[str, str], purpose: str) -> int | None:
    if fields.get(_ANCHOR, "created_at") != "created_at":
        raise InvalidRequest(
            "expires_after.anchor must be created_at", param="expires_after.anchor"
        )
    seconds = fields.get(_SECONDS)
    if seconds is None:
        return expiry(None, purpose)
    if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 9:
        raise InvalidRequest(
            f"expires_after.seconds must be a whole number, got {shown(seconds)}",
            param="expires_after.seconds",
        )
    return expiry(int(seconds), purpose)


def _reader_of(batches: BatchRecords, file_id: str) -> str | None:
    """Name a batch whose lines have not all been read from a file yet."""
    for batch in batches.open():
        is_reading = batch.spec.input_file_id == file_id and batch.checked() is None
        if is_reading and batch.ended() is None:
            return batch.spec.id
    return None
