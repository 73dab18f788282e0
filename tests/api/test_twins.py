"""The client without asyncio says what the one for asyncio says."""

import pytest

from . import twins


@pytest.mark.parametrize("name", twins.TWINS)
def test_a_twin_is_what_would_be_written_today(name: str) -> None:
    written = twins.path_of(name).read_text(encoding="utf-8")
    assert written == twins.twin_of(name), "run `python -m tests.api.twins`"
