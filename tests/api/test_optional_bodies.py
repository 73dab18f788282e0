"""A body that may be left out is read when it is there, however it is sent."""

from collections.abc import Iterator

import httpx2
import pytest

from .conftest import Stack

ROUTES = [
    "/v1/jobs/job_0123/retry",
    "/v1/workflows/runs/run_0123/retry",
    "/v1/webhook_endpoints/we_0123/rotate_secret",
]
JSON = {"content-type": "application/json"}


def chunks(body: bytes) -> Iterator[bytes]:
    """Pieces without a length: the client sends them as chunks."""
    yield body


@pytest.mark.parametrize("path", ROUTES)
def test_no_body_is_a_body_and_chunks_are_read(stack: Stack, path: str) -> None:
    with httpx2.Client(base_url=stack.url, timeout=20) as http:
        for nothing in (http.post(path), http.post(path, content=chunks(b""))):
            assert (nothing.status_code, "0123" in nothing.text) == (404, True)
        for body in (b'{"nonsense": 1}', chunks(b'{"nonsense": 1}')):
            refused = http.post(path, content=body, headers=JSON)
            assert refused.status_code == 400
            assert refused.json()["error"]["code"] == "unknown_parameter"
        assert http.post(path, content=chunks(b"{}")).status_code == 415
        assert http.post(path, content=chunks(b"{" * 5_000_000), headers=JSON).status_code == 413
