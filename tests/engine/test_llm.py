from typing import Any

import pytest

from penstock import LLM, SamplingParams
from penstock.engine.model_place import DEMO_MODEL
from penstock.engine.outputs import FinishReason

GREEDY = SamplingParams(temperature=0, max_tokens=8)


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM(DEMO_MODEL, dtype="float32", device="cpu", kv_cache_gb=0.02, max_num_seqs=4)


def test_outputs_come_in_the_order_of_the_prompts(llm: LLM) -> None:
    prompts = [f"Add {i} and {20 - i}." for i in range(12)]
    outputs = llm.generate(prompts, GREEDY)
    assert [output.prompt for output in outputs] == prompts
    for prompt, output in zip(prompts, outputs, strict=True):
        assert output.prompt_token_ids == llm.tokenizer.encode(prompt)
        (sample,) = output.outputs
        assert sample.text == llm.tokenizer.decode(sample.token_ids)
        assert sample.finish_reason in {"stop", "length"}
        assert sample.logprobs is None
        assert output.error is None
    llm.engine.check()


def test_text_tokens_and_single_prompts_are_the_same_prompt(llm: LLM) -> None:
    text = "Tell a story."
    ids = llm.tokenizer.encode(text)
    assert isinstance(ids, tuple)
    (expected,) = llm.generate([text], GREEDY)
    for prompts in (text, ids, list(ids), [list(ids)], [ids]):
        (output,) = llm.generate(prompts, GREEDY)
        assert output.prompt_token_ids == ids
        assert output.outputs == expected.outputs
    assert [o.outputs for o in llm.generate([text, list(ids)], GREEDY)] == [expected.outputs] * 2


def test_each_row_may_have_its_own_parameters(llm: LLM) -> None:
    params = [SamplingParams(max_tokens=i, ignore_eos=True, seed=1, n=i) for i in (1, 3, 2)]
    outputs = llm.generate(["Hello"] * 3, params)
    assert [len(output.outputs) for output in outputs] == [1, 3, 2]
    for output, one in zip(outputs, params, strict=True):
        assert [sample.index for sample in output.outputs] == list(range(one.n))
        assert {len(sample.token_ids) for sample in output.outputs} == {one.max_tokens}
    with pytest.raises(ValueError, match="one for each of 2 prompts, got 3"):
        llm.generate(["a", "b"], params)


def test_a_row_that_cannot_run_leaves_the_others_alone(llm: LLM) -> None:
    window = llm.engine.context_window
    prompts = ["Hello", "\ud800", "", [5] * window, [10**6], 7, ["x"], "Hello"]
    outputs = llm.generate(prompts, GREEDY)  # pyright: ignore[reportArgumentType]
    codes = [output.error.code if output.error else None for output in outputs]
    assert codes == [
        None,
        "invalid_request",
        "invalid_request",
        "context_length_exceeded",
        "invalid_request",
        "invalid_request",
        "invalid_request",
        None,
    ]
    assert [len(output.outputs) for output in outputs] == [1] * 8
    assert outputs[1].outputs[0].finish_reason == "error"
    assert outputs[0].outputs == outputs[-1].outputs


def test_chat_answers_one_conversation_or_many(llm: LLM) -> None:
    def ask(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": text}]

    one = llm.chat(ask("Add 3 and 4."), GREEDY)
    many = llm.chat([ask("Add 3 and 4."), ask("Tell a story.")], GREEDY)
    assert len(one) == 1
    assert len(many) == 2
    assert many[0].outputs == one[0].outputs
    assert many[0].prompt_token_ids == llm.tokenizer.encode_chat(ask("Add 3 and 4."))
    broken = llm.chat([ask("Hello"), [{"content": "nobody says"}], []], GREEDY)
    assert broken[0].error is None
    assert broken[1].error is None or broken[1].error.code == "template_error"


def test_seeds_repeat_and_their_absence_does_not(llm: LLM) -> None:
    seeded = SamplingParams(temperature=1, seed=3, max_tokens=12, ignore_eos=True)
    free = SamplingParams(temperature=1, max_tokens=12, ignore_eos=True)
    first = llm.generate("Once", seeded)[0].outputs
    crowd = llm.generate(["Tell", "Add 1", "Once", "Once upon"], seeded)
    assert crowd[2].outputs == first
    assert llm.generate("Once", free)[0].outputs != llm.generate("Once", free)[0].outputs


@pytest.mark.parametrize("prompts", [{"prompt": "a"}, b"a", 5, None])
def test_prompts_of_another_kind_are_refused(llm: LLM, prompts: Any) -> None:
    with pytest.raises(TypeError, match=f"prompts must be text.*got {type(prompts).__name__}"):
        llm.generate(prompts)


def test_bytes_are_no_token_ids(llm: LLM) -> None:
    [output] = llm.generate([b"Once"])  # pyright: ignore[reportArgumentType]
    assert output.error is not None
    assert "text or a list of token ids" in output.error.message


def test_prompts_may_come_from_anywhere(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=2)
    prompts = ["Once", "Add 2 and 3."]
    texts = [output.outputs[0].text for output in llm.generate(prompts, params)]
    found: Any = llm.generate((prompt for prompt in prompts), params)  # pyright: ignore
    assert [output.outputs[0].text for output in found] == texts


def test_a_mapping_is_no_sampling_params(llm: LLM) -> None:
    with pytest.raises(TypeError, match="must be SamplingParams, got a mapping"):
        llm.generate(["a"], {"max_tokens": 3})  # pyright: ignore[reportArgumentType]


def test_nothing_in_nothing_out(llm: LLM) -> None:
    assert llm.generate([], GREEDY) == []
    assert llm.chat([], GREEDY) == []


def test_an_interrupted_call_leaves_the_engine_empty(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = llm.engine.step
    calls = iter(range(100))

    def interrupted() -> object:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(llm.engine, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate(["Hello"] * 8, SamplingParams(max_tokens=50, ignore_eos=True))
    monkeypatch.undo()
    assert not llm.engine.has_work
    llm.engine.check()
    assert llm.generate("Hello", GREEDY)[0].outputs[0].finish_reason is not FinishReason.ABORT
