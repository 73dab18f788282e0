"""Rows that come as a file of the request: the part `file`, and beside it `request`, in JSON.

Knows no job and no run: what `request` holds is the caller's to say. The file has no name, so
nothing of it can stay behind, whoever is killed.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from ..jobs.settings import Settings
from ..jobs.sources import FileSource
from .bodies import parse
from .upload import Form, receive_upload

Schema = TypeVar("Schema", bound=BaseModel)


@contextmanager
def spool_file(settings: Settings) -> Iterator[BinaryIO]:
    """Open an empty file without a name, on the disk that jobs are on."""
    spool = settings.data_dir / "uploads"
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=spool) as file:
        yield file


async def receive_rows(
    request: Request,
    schema: type[Schema],
    file: BinaryIO,
    *,
    max_json_bytes: int,
    max_file_bytes: int | None = None,
) -> tuple[Schema, FileSource]:
    """Read both parts: what is asked, and the rows, which then lie in `file`.

    Raises:
        InvalidRequest: a part is missing or unknown, or `request` is not what the schema wants.
        BodyTooLarge: a part is.
        OutOfStorage: the disk is full, or would be.
    """
    form = Form(
        fields=frozenset({"request"}),
        required=frozenset({"request", "file"}),
        max_file_bytes=max_file_bytes,
        max_field_bytes=max_json_bytes,
    )
    upload = await receive_upload(request, form, file)
    # Only the suffix of the name is ever used, to tell the format.
    return parse(upload.fields["request"], schema), FileSource(file, upload.filename)
