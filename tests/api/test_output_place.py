"""Where a job's rows may be wanted."""

import httpx2
import pytest

from .conftest import MODEL, Stack


@pytest.mark.parametrize("place", ["out", "./out", "~/out", "gs://bucket/x"])
def test_a_place_that_depends_on_where_the_server_stands_is_refused(
    stack: Stack, place: str
) -> None:
    body = {"model": MODEL, "prompt": "x", "input": {"rows": [{"a": 1}]}, "output": {"path": place}}
    answer = httpx2.post(f"{stack.url}/v1/jobs", json=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "output"
    assert "must be an absolute path of the server's machine" in answer.json()["error"]["message"]
