"""What OpenAI's response_format may say."""

import pytest

from penstock.jobs.model import InvalidSampling
from penstock.jobs.response_format import structured_outputs_of


def test_a_schema_too_long_is_refused_before_it_is_walked() -> None:
    schema = {"enum": ["x" * (1 << 18)]}
    with pytest.raises(InvalidSampling, match="schema takes schemas of at most 262144") as caught:
        structured_outputs_of({"type": "json_schema", "json_schema": {"schema": schema}})
    assert caught.value.param == "response_format"
