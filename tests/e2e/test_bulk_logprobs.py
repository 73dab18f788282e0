"""Log-probabilities that a job lands are those that a chat tells, from the real engine."""

import openai
import pytest

from penstock.api.client import Client

from .stack import Stack

PROMPT = "Add 12 and 30."


def test_a_jobs_log_probabilities_are_a_chats(stack: Stack) -> None:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="penstock-demo",
            messages=[{"role": "user", "content": PROMPT}],
            temperature=0,
            max_tokens=16,
            logprobs=True,
            top_logprobs=3,
        )
    with Client(stack.url) as client:
        sampling = {"temperature": 0, "max_tokens": 16, "logprobs": 3}
        job = client.jobs.submit([{"text": PROMPT}], prompt="{{ row.text }}", sampling=sampling)
        [row] = job.wait(timeout_s=240).results()
    [choice] = answer.choices
    assert choice.logprobs is not None and choice.logprobs.content
    assert row["completion_tokens"] == len(row["logprobs"]) == len(choice.logprobs.content)
    for landed, told in zip(row["logprobs"], choice.logprobs.content, strict=True):
        assert landed["token"] == told.token
        assert landed["logprob"] == pytest.approx(told.logprob, abs=1e-4)
        assert [top["token"] for top in landed["top"]] == [top.token for top in told.top_logprobs]
