"""A request that cannot run is answered at once, and a row's fault ends that row alone."""

import pytest
import torch

from penstock.engine.outputs import FinishReason
from penstock.engine.sampler import SampledTokens, sample
from penstock.engine.sequence import Sequence

from .fake_runner import NAN, POISON, FakeRunner
from .rows import engine, reference_tokens, request, run, tokens_of


@pytest.mark.parametrize(
    ("prompt", "code", "says"),
    [
        ((), "invalid_request", "at least one token"),
        ((5, 263), "invalid_request", "0 to 262, got 263"),
        ((5, -1), "invalid_request", "0 to 262, got -1"),
        (tuple(range(64)), "context_length_exceeded", "context length is 64 tokens (by"),
        (tuple(range(200)), "context_length_exceeded", "key-value cache), got 200"),
    ],
)
def test_a_prompt_that_cannot_run_is_answered_at_once(
    prompt: tuple[int, ...], code: str, says: str
) -> None:
    target = engine(num_blocks=5)
    output = target.add(request("a", prompt))
    assert output is not None
    assert output.finish_reason is FinishReason.ERROR
    assert output.error is not None
    assert (output.error.code, output.error.param) == (code, "prompt")
    assert says in output.error.message
    assert not target.has_work
    assert target.stats().errors == 1


def test_a_second_live_request_of_one_name_is_refused() -> None:
    target = engine()
    run(target, request("a", [5]))
    assert target.add(request("a", [5])) is None
    refused = target.add(request("a", [6]))
    assert refused is not None
    assert refused.error is not None
    assert refused.error.param == "request_id"
    assert [*run(target)] == [("a", 0)]


@pytest.mark.parametrize("fault", [NAN, POISON])
def test_a_row_at_fault_ends_alone(fault: int) -> None:
    target = engine(max_num_batched_tokens=20)
    good = [request(str(i), range(30, 50 + i), max_tokens=6, logprobs=1) for i in range(3)]
    bad = request("bad", [*range(30, 46), fault, 9], max_tokens=6, n=2)
    outputs = run(target, good[0], bad, *good[1:])
    for one in good:
        assert tokens_of(outputs[one.request_id, 0]) == reference_tokens(one)
    for index in range(2):
        error = outputs["bad", index][-1].error
        assert error is not None
        assert (error.code, error.retryable) == ("engine_error", True)
        assert tokens_of(outputs["bad", index]) == []
    assert target.stats().errors == 2


def test_a_row_that_cannot_be_sampled_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def picky(logits: torch.Tensor, sequences: list[Sequence], places: list[int]) -> SampledTokens:
        if any(sequence.request.request_id == "bad" for sequence in sequences):
            raise ValueError("no such token")
        return sample(logits, sequences, places)

    target = engine()
    good, bad = request("good", range(30, 50), max_tokens=5), request("bad", range(50, 60))
    monkeypatch.setattr("penstock.engine.step_runner.sample", picky)
    outputs = run(target, good, bad)
    assert tokens_of(outputs["good", 0]) == reference_tokens(good)
    error = outputs["bad", 0][-1].error
    assert error is not None
    assert "ValueError: no such token" in error.message
    assert not error.retryable
    assert isinstance(target.runner, FakeRunner)
    assert target.runner.num_steps == 5, "the logits that were there have served"


def test_parameters_beyond_all_measure_are_harmless() -> None:
    huge = 2**31 - 1  # more is refused
    one = request("a", [5], temperature=1.0, top_k=huge, stop_token_ids=(huge,), max_tokens=huge)
    target = engine(max_model_len=30)
    pieces = run(target, one, request("b", [5], repetition_penalty=0.01, max_tokens=3))
    assert pieces["a", 0][-1].finish_reason in {FinishReason.STOP, FinishReason.LENGTH}
    assert pieces["b", 0][-1].finish_reason is not None


def test_a_faulty_rows_blocks_are_never_found_again() -> None:
    target = engine(max_num_batched_tokens=16)
    prompt = [NAN, *range(30, 80)]
    run(target, request("bad", prompt))
    again = run(target, request("again", prompt))["again", 0]
    assert again[-1].num_cached_tokens == 0
    assert again[-1].finish_reason is FinishReason.ERROR


def test_a_model_that_always_fails_is_no_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()

    def fail(batch: object) -> torch.Tensor:
        raise RuntimeError("the model is gone")

    monkeypatch.setattr(target.runner, "execute", fail)
    for name in ("a", "b"):
        target.add(request(name, [30, 31]))
    with pytest.raises(RuntimeError, match="the model is gone"):
        target.step()


def test_a_broken_detokenizer_breaks_its_row_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    target = engine()
    for name in ("good", "bad"):
        target.add(request(name, range(30, 40), max_tokens=5))

    class Broken:
        matched_stop = None

        def push(self, token_ids: object, *, may_stop: bool = True) -> str:
            raise ValueError("no text")

    (bad,) = target._live["bad"]
    monkeypatch.setattr(bad, "detokenizer", Broken())
    outputs = run(target)
    error = outputs["bad", 0][-1].error
    assert error is not None
    assert "no text" in error.message
    assert not error.retryable
    assert outputs["good", 0][-1].finish_reason is FinishReason.LENGTH
