"""A prompt's own log-probabilities, over HTTP as from the engine."""

import openai
import pytest

from penstock import LLM, SamplingParams

from .stack import Stack

PROMPT = "Add 12 and 30."


def test_an_echo_tells_the_log_probabilities_of_the_prompt(stack: Stack) -> None:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.completions.create(
            model="penstock-demo",
            prompt=PROMPT,
            max_tokens=2,
            temperature=0,
            logprobs=1,
            echo=True,
        )
    [choice] = answer.choices
    assert choice.text.startswith(PROMPT)
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or ()).startswith(PROMPT)
    told = choice.logprobs.token_logprobs
    assert told is not None
    params = SamplingParams(temperature=0, max_tokens=2, prompt_logprobs=1)
    [output] = LLM("penstock-demo", num_threads=1).generate([PROMPT], params, progress=False)
    records = output.prompt_logprobs
    assert records is not None
    assert told[0] is None
    assert told[1 : len(records)] == pytest.approx([r.logprob for r in records[1:] if r], abs=1e-3)
    assert answer.usage is not None
    assert len(told) == len(records) + answer.usage.completion_tokens
    assert choice.logprobs.text_offset == [
        len("".join((choice.logprobs.tokens or [])[:i])) for i in range(len(told))
    ]


def test_the_token_that_ends_a_text_has_a_log_probability_too(stack: Stack) -> None:
    """As evaluations score continuations: a token more, and it may be the end-of-text token."""
    ask = [{"role": "user", "content": PROMPT}]
    greedy = SamplingParams(temperature=0, max_tokens=64)
    [output] = LLM("penstock-demo", num_threads=1).chat([ask], greedy, progress=False)
    [told] = output.outputs
    assert told.finish_reason == "stop"
    *words, _end = told.token_ids
    prompt = [*output.prompt_token_ids, *words]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.completions.create(
            model="penstock-demo",
            prompt=prompt,
            max_tokens=1,
            temperature=0,
            logprobs=1,
            echo=True,
        )
    [choice] = answer.choices
    assert choice.finish_reason == "stop"
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    assert len(choice.logprobs.token_logprobs) == len(prompt) + 1
    assert choice.logprobs.token_logprobs[-1] == pytest.approx(0, abs=0.5)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 1
