"""Log-probabilities of jobs and batches: as a column, and in the shapes of OpenAI's answers."""

import openai
import pytest

from penstock.api.client import Client
from penstock.jobs.fake_engine import expected_logprob

from .conftest import MODEL, Stack
from .test_batches import answers, line, run


def test_a_job_lands_them_when_it_asks(stack: Stack) -> None:
    rows = [{"text": "a"}, {"text": "[[fail]]"}]
    with Client(stack.url) as client:
        job = client.jobs.submit(
            rows, prompt="{{ row.text }}", model=MODEL, sampling={"logprobs": 2, "n": 2}
        )
        job.wait(timeout_s=60)
        told = list(job.results())
        [plain] = client.jobs.submit(rows[:1], prompt="x", model=MODEL).wait(timeout_s=60).results()
    assert "logprobs" not in plain
    assert [row["logprobs"] for row in told if row["status"] == "failed"] == [None, None]
    for sample in told[:2]:
        assert [each["token_id"] for each in sample["logprobs"]] == list(range(1, 9))
        for each in sample["logprobs"]:
            assert each["logprob"] == expected_logprob(each["token_id"])
            assert each["token"] == chr(each["token_id"])
            assert [top["token_id"] for top in each["top"]] == [
                each["token_id"],
                each["token_id"] + 1,
            ]


def test_a_batch_tells_them_as_a_chat_does(client: openai.OpenAI) -> None:
    lines = [
        line("both", logprobs=True, top_logprobs=2, n=2),
        line("bare", logprobs=True),
        line("none", logprobs=False),
        line("wrong", logprobs=True, top_logprobs=21),
    ]
    batch = run(client, lines)
    found = answers(client, batch.output_file_id)
    for each in lines[:3]:
        direct = client.chat.completions.create(**each["body"])
        body = found[each["custom_id"]]["response"]["body"]
        assert body["choices"] == [choice.to_dict() for choice in direct.choices]
    assert found["none"]["response"]["body"]["choices"][0]["logprobs"] is None
    [refused] = answers(client, batch.error_file_id).values()
    assert refused["response"]["body"]["error"]["param"] == "top_logprobs"


@pytest.mark.parametrize("logprobs", [0, 3])
def test_a_batch_of_completions_tells_four_lists(client: openai.OpenAI, logprobs: int) -> None:
    asked = line("a", "/v1/completions", logprobs=logprobs)
    batch = run(client, [asked], "/v1/completions")
    body = answers(client, batch.output_file_id)["a"]["response"]["body"]
    direct = client.completions.create(**asked["body"])
    assert body["choices"][0] == direct.choices[0].to_dict()
    assert len(body["choices"][0]["logprobs"]["tokens"]) == 8
