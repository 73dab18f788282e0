"""One place in an S3 bucket: files go up whole, objects are read as files. Knows no job.

Credentials come from the usual variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE,
AWS_REGION, ...) or the machine's role; the endpoint from a setting, AWS_ENDPOINT_URL_S3 or
AWS_ENDPOINT_URL. Short troubles are waited out here, with pauses that grow.
"""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow.fs as fs

_SCHEME = "s3://"
_CONNECT_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT_S = 60.0
_MAX_ATTEMPTS = 4
_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY", "SIGNATURE", "CREDENTIALS", "UNRECOGNIZED_CLIENT")


class StoreUnavailable(Exception):
    """An object store refuses, or does not answer; the message names the place and the cause."""


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A bucket, and what the names of all objects there begin with."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `s3://bucket/prefix`.

        Raises:
            ValueError: it names no bucket.
        """
        bucket, _, prefix = url.removeprefix(_SCHEME).partition("/")
        if not url.startswith(_SCHEME) or not bucket:
            raise ValueError(f"an object store is named as s3://bucket/prefix, got {url[:200]!r}")
        return cls(bucket, prefix.strip("/"))

    def __str__(self) -> str:
        """Write it as a URL."""
        return _SCHEME + self.path()

    def path(self, name: str = "") -> str:
        """Name an object as Arrow does, without the scheme."""
        return "/".join(part for part in (self.bucket, self.prefix, name) if part)


def is_store_url(path: object) -> bool:
    """Whether a path is in an object store, and not on a disk."""
    return str(path).startswith(_SCHEME)


class ObjectStore:
    """Reads and writes objects below one place."""

    def __init__(self, place: StorePlace, endpoint: str | None = None) -> None:
        self.place = place
        self._endpoint = endpoint or _endpoint_of(os.environ)
        self._files = fs.S3FileSystem(
            endpoint_override=self._endpoint,
            connect_timeout=_CONNECT_TIMEOUT_S,
            request_timeout=_REQUEST_TIMEOUT_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_MAX_ATTEMPTS),
        )

    def check(self) -> None:
        """Try whether objects can be written; only writing tells.

        Raises:
            StoreUnavailable: they cannot.
        """
        probe = self.place.path("_probe")
        with self._errors("cannot write to"):
            with self._files.open_output_stream(probe) as stream:
                stream.write(b"penstock\n")
            self._files.delete_file(probe)

    def put(self, source: Path, name: str) -> None:
        """Copy a file up; the object is seen when all of it is there, and replaces an older one.

        The file is small enough to be held in memory, as a part is. A stream of pieces would not
        do: Arrow completes the object when it is closed, even halfway, after a failure to read.

        Raises:
            StoreUnavailable: it could not be written.
        """
        data = source.read_bytes()
        with (
            self._errors("cannot write to"),
            self._files.open_output_stream(self.place.path(name)) as stream,
        ):
            stream.write(data)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there.

        Raises:
            StoreUnavailable: it could not be removed.
        """
        path = self.place.path(name)
        with self._errors("cannot write to"):
            if self._files.get_file_info(path).type is fs.FileType.File:
                self._files.delete_file(path)

    def sizes(self, directory: str) -> dict[str, int]:
        """List the objects of a directory with their sizes in bytes.

        Raises:
            StoreUnavailable: it could not be listed.
        """
        selector = fs.FileSelector(self.place.path(directory), allow_not_found=True)
        with self._errors("cannot list"):
            infos = self._files.get_file_info(selector)
        return {f"{directory}/{info.base_name}": info.size for info in infos}

    def open(self) -> io.BufferedReader:
        """Open the object at this very place as a file that is read piece by piece.

        Raises:
            StoreUnavailable: it cannot be read, or is not there.
        """
        with self._errors("cannot read"):
            file: Any = self._files.open_input_file(self.place.path())
            return io.BufferedReader(file)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreUnavailable(f"{what} {self.place}: {self._cause(error)}") from error

    def _cause(self, error: OSError) -> str:
        text = " ".join(str(error).split())
        if "NO_SUCH_BUCKET" in text or f"bucket '{self.place.bucket}' does not exist" in text:
            return f"there is no bucket {self.place.bucket!r}; make it, or name another"
        if any(word in text.upper() for word in _DENIED):
            return (
                "access is denied; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they "
                f"may do ({text[:200]})"
            )
        if "NETWORK_CONNECTION" in text:
            return f"{self._endpoint or 'S3'} does not answer ({text[-200:]})"
        return text[:400]


def _endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Find the endpoint where AWS' own tools look for it; Arrow does not."""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or None
