"""Vectors of a real model: over HTTP and as a job they are those of the engine."""

import openai
import pytest

from penstock import LLM, Client

from .stack import Stack

TEXTS = ["Add 12 and 30.", "Add 12 and 31.", "Tell a story."]


def test_vectors_are_those_of_the_engine(stack: Stack) -> None:
    llm = LLM("penstock-demo", num_threads=1)
    wanted = [made.embedding for made in llm.embed(TEXTS, progress=False)]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="penstock-demo", input=TEXTS)
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model="penstock-demo", input="x", dimensions=100_000)
    assert caught.value.param == "dimensions"
    for item, vector in zip(answer.data, wanted, strict=True):
        assert item.embedding == pytest.approx(vector, abs=1e-3)
    with Client(stack.url) as client:
        job = client.jobs.submit(
            [{"text": text} for text in TEXTS], prompt="{{ row.text }}", endpoint="/v1/embeddings"
        )
        job.wait(progress=False)
        landed = list(job.results())
    for row, vector in zip(landed, wanted, strict=True):
        assert row["embedding"] == pytest.approx(vector, abs=1e-3)
