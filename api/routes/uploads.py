"""/v1/uploads: large files in parts, each of which may be sent again when its connection broke."""

import time
from typing import Annotated, Any, Literal, get_args

import anyio.to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from ...jobs.part_uploads import MAX_PART_BYTES, MAX_PARTS, PartUpload, Status
from ..bodies import MAX_JSON_BYTES, json_body, read_json
from ..body_hints import one_of, within
from ..creations import ADMITTED
from ..errors import InvalidRequest, UnsupportedMediaType
from ..home import require_home
from ..principal import ThePrincipal
from ..services import Services, TheServices
from ..storage_quota import require_room
from ..strict import Strict
from ..upload import Form, is_multipart, receive_upload
from .files import MAX_LIFE_S, MIN_LIFE_S, Purpose, expiry, file_object, purpose_of

_PART = Form(file="data", required=frozenset({"data"}), max_file_bytes=MAX_PART_BYTES)

router = APIRouter(tags=["files"])


class ExpiresAfter(Strict):
    """How long what comes of a request is kept."""

    anchor: Literal["created_at"]
    """From when on it counts; there are no others."""
    seconds: Annotated[int, within(MIN_LIFE_S, MAX_LIFE_S)]
    """From an hour to 30 days."""


class UploadRequest(Strict):
    """The body of POST /v1/uploads."""

    bytes: Annotated[int, Field(ge=1)]
    """How many bytes the whole file has, up to the server's limit."""
    filename: Annotated[str, Field(min_length=1, max_length=512)]
    """What the file is called; a job tells its format by it."""
    mime_type: Annotated[str, Field(max_length=255)]
    """Accepted and ignored."""
    purpose: Annotated[str, one_of(*get_args(Purpose))]
    """What the file is for; a batch takes files of purpose `batch`."""
    expires_after: ExpiresAfter | None = None
    """How long the file is kept; null keeps it, but for 30 days where the purpose is `batch`."""


class CompleteRequest(Strict):
    """The body of POST /v1/uploads/{id}/complete."""

    part_ids: Annotated[list[str], Field(min_length=1, max_length=MAX_PARTS)]
    """The parts, in the order in which they make the file."""
    md5: str | None = None
    """The file's MD5 in hexadecimal, to be compared; null compares nothing."""


@router.post("/v1/uploads", openapi_extra=json_body(UploadRequest), dependencies=[ADMITTED])
async def create_upload(
    request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Begin an upload; it has an hour."""
    body = await read_json(request, UploadRequest, MAX_JSON_BYTES)
    limit = services.settings.max_file_bytes
    if body.bytes > limit:
        raise InvalidRequest(f"bytes may be at most {limit}, got {body.bytes}", param="bytes")
    require_home(services)
    await require_room(services, principal, body.bytes, is_fresh=True)
    purpose = purpose_of(body.purpose)
    seconds = None if body.expires_after is None else body.expires_after.seconds
    upload = await anyio.to_thread.run_sync(
        lambda: services.uploads.begin(
            filename=body.filename,
            purpose=purpose,
            num_bytes=body.bytes,
            tenant=principal.tenant,
            file_expires_at=expiry(seconds, purpose),
        )
    )
    return upload_object(services, upload, "pending")


@router.post("/v1/uploads/{upload_id}/parts")
async def add_part(
    upload_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Add a part of at most 64 MB; parts may come in any order, and side by side."""
    upload = await _find(services, upload_id, principal.tenant)
    if not is_multipart(request):
        raise UnsupportedMediaType("send the part as multipart/form-data: `data`")
    with services.uploads.writing_part(upload) as file:
        await receive_upload(request, _PART, file)
        part_id = await anyio.to_thread.run_sync(services.uploads.keep_part, upload, file)
    return {
        "id": part_id,
        "object": "upload.part",
        "created_at": int(time.time()),
        "upload_id": upload.id,
    }


@router.post("/v1/uploads/{upload_id}/complete", openapi_extra=json_body(CompleteRequest))
async def complete_upload(
    upload_id: str, request: Request, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Join the parts, in the order given, into a file."""
    body = await read_json(request, CompleteRequest, MAX_JSON_BYTES)
    upload = await _find(services, upload_id, principal.tenant)
    await anyio.to_thread.run_sync(services.uploads.complete, upload, body.part_ids, body.md5)
    return upload_object(services, upload, "completed")


@router.post("/v1/uploads/{upload_id}/cancel")
async def cancel_upload(
    upload_id: str, services: TheServices, principal: ThePrincipal
) -> dict[str, Any]:
    """Take an upload back; nothing of it is kept."""
    upload = await _find(services, upload_id, principal.tenant)
    await anyio.to_thread.run_sync(services.uploads.cancel, upload)
    services.stored.freed(principal.tenant)
    return upload_object(services, upload, "cancelled")


def upload_object(services: Services, upload: PartUpload, status: Status) -> dict[str, Any]:
    """Return OpenAI's object for an upload."""
    file = services.uploads.file(upload) if status == "completed" else None
    return {
        "id": upload.id,
        "object": "upload",
        "bytes": upload.bytes,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": status,
        "file": None if file is None else file_object(file),
    }


async def _find(services: Services, upload_id: str, tenant: str) -> PartUpload:
    upload, _ = await anyio.to_thread.run_sync(services.uploads.get, upload_id, tenant)
    return upload
