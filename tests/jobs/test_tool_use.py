"""What OpenAI's tools may say."""

from typing import Any

import pytest

from penstock.jobs.model import InvalidSampling
from penstock.jobs.tool_use import tool_use_of


@pytest.mark.parametrize("kind", ["array", ["object", "null"], None])
def test_arguments_of_another_type_than_object_are_refused(kind: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": kind}}}
    with pytest.raises(InvalidSampling, match=r'parameters\.type must be "object", got') as caught:
        tool_use_of([tool])
    assert caught.value.param == "tools"
