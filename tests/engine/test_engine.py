"""The loop against a model that costs nothing: who ends when, why, and with which tokens."""

import gc
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.engine.config import EngineConfig
from penstock.engine.detokenizer import Detokenizer
from penstock.engine.engine import Engine
from penstock.engine.outputs import FinishReason, Priority, Request, RequestError, StepOutput
from penstock.engine.sampler import SampledTokens, sample
from penstock.engine.sampling_params import SamplingParams, StructuredOutputs
from penstock.engine.sequence import Sequence

from .fake_runner import EOS, NAN, POISON, FakeRunner, greedy_tokens, logits_after
from .tiny_tokenizers import byte_level

Samples = dict[tuple[str, int], list[StepOutput]]


def engine(
    *, num_blocks: int = 64, block_size: int = 16, max_model_len: int = 1 << 20, **config: Any
) -> Engine:
    runner = FakeRunner(num_blocks, block_size, max_model_len)
    config = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "device": "cpu", **config}
    return Engine(EngineConfig(**config), runner=runner, tokenizer=byte_level())


def request(name: str, prompt: Iterable[int], **options: Any) -> Request:
    fields = {
        key: options.pop(key)
        for key in ("priority", "cache_salt", "stream_interval")
        if key in options
    }
    params = SamplingParams(**{"temperature": 0, **options})
    return Request(name, tuple(prompt), params, **fields)


def run(target: Engine, *requests: Request, max_steps: int = 3000) -> Samples:
    """Run until nothing is left, and check the books after every step."""
    outputs: Samples = defaultdict(list)
    for one in requests:
        assert target.add(one) is None
    for _ in range(max_steps):
        if not target.has_work:
            break
        for output in target.step():
            outputs[output.request_id, output.sample_index].append(output)
        target.check()
    assert not target.has_work, f"still busy after {max_steps} steps"
    assert target.stats().kv_used_fraction == 0.0
    for pieces in outputs.values():
        assert [piece.finish_reason is None for piece in pieces] == [True] * (len(pieces) - 1) + [
            False
        ]
    return outputs


def tokens_of(pieces: list[StepOutput]) -> list[int]:
    return [token_id for piece in pieces for token_id in piece.token_ids]


def text_of(pieces: list[StepOutput]) -> str:
    return "".join(piece.text for piece in pieces)


def reference_tokens(one: Request, sample_index: int = 0) -> list[int]:
    """Return what a sample must give: one row, one token at a time, no engine."""
    maker = engine(num_blocks=1 << 16)
    rules = maker._rule_book.find(one.params)
    assert not isinstance(rules, RequestError)
    sequence = maker._sequence(one, sample_index, rules)
    while True:
        logits = logits_after(sequence.token_ids)[None]
        sequence.num_pending = 1
        sequence.take_token(*sample(logits, [sequence]).token_ids)
        if sequence.find_ending() is not None:
            return sequence.token_ids[sequence.num_prompt :]


def test_one_prompt_gives_the_models_tokens() -> None:
    outputs = run(engine(), request("a", range(10, 30), max_tokens=12))
    pieces = outputs["a", 0]
    expected = greedy_tokens(tuple(range(10, 30)), 12)
    assert tokens_of(pieces) == expected
    assert text_of(pieces) == byte_level().decode(expected)
    assert pieces[-1].finish_reason is FinishReason.LENGTH
    assert pieces[-1].num_completion_tokens == 12
    assert pieces[-1].num_prompt_tokens == 20


@pytest.mark.parametrize("budget", [8, 15, 16, 17, 31, 400])
@pytest.mark.parametrize("enable_prefix_caching", [True, False])
def test_chunks_and_neighbours_change_nothing(budget: int, enable_prefix_caching: bool) -> None:
    requests = [
        request(str(i), [*range(20 + i % 3, 53), *range(i)], max_tokens=9, seed=i, temperature=t)
        for i, t in enumerate([0.0, 1.0, 0.0, 0.7, 0.0, 1.0, 0.0])
    ]
    target = engine(
        max_num_batched_tokens=budget, enable_prefix_caching=enable_prefix_caching, max_num_seqs=7
    )
    outputs = run(target, *requests)
    for one in requests:
        assert tokens_of(outputs[one.request_id, 0]) == reference_tokens(one)
    assert (target.stats().cached_tokens > 0) == enable_prefix_caching


def test_preempted_rows_say_what_they_would_have_said() -> None:
    target = engine(num_blocks=9, block_size=4)
    requests = [
        request(str(i), range(40 + i, 46), max_tokens=20, temperature=i % 2, seed=i, logprobs=1)
        for i in range(5)
    ]
    target._scheduler._admission._forecasts.observe("", 1)  # so that too many are let in
    outputs = run(target, *requests)
    assert target.stats().preemptions > 0
    for one in requests:
        pieces = outputs[one.request_id, 0]
        assert tokens_of(pieces) == reference_tokens(one)
        records = [record for piece in pieces for record in piece.logprobs or ()]
        assert [record.token_id for record in records] == tokens_of(pieces)


def test_samples_share_their_prompt_and_differ_in_their_luck() -> None:
    target = engine()
    one = request("a", range(10, 50), n=4, temperature=1.0, seed=7, max_tokens=10)
    outputs = run(target, one)
    assert sorted(outputs) == [("a", i) for i in range(4)]
    for index in range(4):
        assert tokens_of(outputs["a", index]) == reference_tokens(one, index)
    assert len({tuple(tokens_of(pieces)) for pieces in outputs.values()}) == 4
    assert [outputs["a", i][-1].num_cached_tokens for i in range(4)] == [0, 32, 32, 32]
    assert isinstance(target.runner, FakeRunner)
    assert target.runner.num_computed_tokens == 40 + 3 * 8 + 4 * 9


def test_a_stream_tells_of_every_interval_and_a_bulk_row_of_its_end() -> None:
    prompt = range(10, 20)
    for interval, sizes in ((1, [1] * 7), (3, [3, 3, 1]), (0, [7])):
        one = request("a", prompt, max_tokens=7, ignore_eos=True, stream_interval=interval)
        pieces = run(engine(), one)["a", 0]
        assert [len(piece.token_ids) for piece in pieces] == sizes
        assert text_of(pieces) == byte_level().decode(tokens_of(pieces))


def until(wanted: Callable[[list[int]], bool]) -> tuple[tuple[int, ...], list[int]]:
    """Find a prompt whose greedy output is as wanted."""
    for first in range(3, 259):
        prompt = (first, 50, 60)
        output = greedy_tokens(prompt, 40, ignore_eos=True)
        if wanted(output):
            return prompt, output
    raise AssertionError("no such prompt")


def test_end_of_text_ends_unless_it_is_ignored() -> None:
    prompt, output = until(lambda output: EOS in output[3:])
    place = output.index(EOS)
    pieces = run(engine(), request("a", prompt, max_tokens=40))["a", 0]
    assert tokens_of(pieces) == output[: place + 1]
    assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == (FinishReason.STOP, None)
    assert text_of(pieces) == byte_level().decode(output[:place])
    pieces = run(engine(), request("a", prompt, max_tokens=40, ignore_eos=True))["a", 0]
    assert tokens_of(pieces) == output
    assert pieces[-1].finish_reason is FinishReason.LENGTH


def test_a_stop_token_ends_and_is_no_text() -> None:
    prompt, output = until(lambda output: EOS not in output[:10])
    stop = output[5]
    one = request("a", prompt, max_tokens=40, stop_token_ids=(stop,), ignore_eos=True)
    pieces = run(engine(), one)["a", 0]
    place = output.index(stop)
    assert tokens_of(pieces) == output[: place + 1]
    assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == (FinishReason.STOP, stop)
    assert text_of(pieces) == byte_level().decode(output[:place])


@pytest.mark.parametrize("interval", [0, 1, 4])
def test_a_stop_string_ends_wherever_tokens_come_apart(interval: int) -> None:
    prompt, output = until(lambda output: all(36 <= i < 97 for i in output[4:6]))
    whole = byte_level().decode(output)
    stop = byte_level().decode(output[4:6])
    one = request(
        "a", prompt, max_tokens=40, stop=(stop,), ignore_eos=True, stream_interval=interval
    )
    pieces = run(engine(), one)["a", 0]
    assert text_of(pieces) == whole[: whole.index(stop)]
    assert (pieces[-1].finish_reason, pieces[-1].stop_reason) == (FinishReason.STOP, stop)
    assert tokens_of(pieces) == output[: len(tokens_of(pieces))]
    assert len(tokens_of(pieces)) <= 6


def test_no_ending_comes_before_min_tokens() -> None:
    prompt, output = until(lambda output: all(36 <= i < 97 for i in output[2:4]))
    early = byte_level().decode(output[2:3])
    one = request("a", prompt, max_tokens=30, min_tokens=25, stop=(early,))
    assert len(tokens_of(run(engine(), one)["a", 0])) >= 25
    one = request("a", prompt, max_tokens=30, min_tokens=25, stop_token_ids=tuple(range(3, 200)))
    pieces = run(engine(), one)["a", 0]
    assert tokens_of(pieces) == reference_tokens(one)
    assert len(tokens_of(pieces)) >= 26
    assert pieces[-1].stop_reason == tokens_of(pieces)[-1]


def test_the_context_window_ends_what_nothing_else_does() -> None:
    target = engine(max_model_len=40)
    one = request("a", range(10, 40), max_tokens=None, ignore_eos=True)
    pieces = run(target, one)["a", 0]
    assert len(tokens_of(pieces)) == 10
    assert pieces[-1].finish_reason is FinishReason.LENGTH
    assert target.context_window == 40


def test_a_row_may_fill_the_whole_cache() -> None:
    target = engine(num_blocks=5, block_size=4)
    one = request("a", range(10, 20), max_tokens=None, ignore_eos=True)
    others = [request(str(i), range(30, 36), max_tokens=5) for i in range(3)]
    outputs = run(target, one, *others)
    assert len(tokens_of(outputs["a", 0])) == 6
    for other in others:
        assert tokens_of(outputs[other.request_id, 0]) == reference_tokens(other)


@pytest.mark.parametrize(
    ("prompt", "code", "says"),
    [
        ((), "invalid_request", "at least one token"),
        ((5, 263), "invalid_request", "0 to 262, got 263"),
        ((5, -1), "invalid_request", "0 to 262, got -1"),
        (tuple(range(64)), "context_length_exceeded", "key-value cache allows 63 tokens, got 64"),
        (tuple(range(200)), "context_length_exceeded", "allows 63 tokens, got 200"),
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


def test_an_aborted_request_is_gone_at_once_and_told_of_once() -> None:
    target = engine(max_num_seqs=2)
    for name in ("running", "waiting"):
        target.add(request(name, range(10, 40), n=2, max_tokens=100, ignore_eos=True))
    for _ in range(4):
        target.step()
    for name in ("running", "waiting", "unknown", "running"):
        target.abort(name)
        target.check()
    assert target.stats().kv_used_fraction == 0.0
    outputs = target.step()
    assert sorted((o.request_id, o.sample_index) for o in outputs) == [
        ("running", 0),
        ("running", 1),
        ("waiting", 0),
        ("waiting", 1),
    ]
    assert {output.finish_reason for output in outputs} == {FinishReason.ABORT}
    assert not target.has_work
    assert target.step() == []


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


def test_stats_add_up() -> None:
    target = engine()
    outputs = run(
        target, *[request(str(i), range(10, 50), max_tokens=5, ignore_eos=True) for i in range(3)]
    )
    stats = target.stats()
    assert (
        stats.generated_tokens == sum(len(tokens_of(pieces)) for pieces in outputs.values()) == 15
    )
    assert stats.prompt_tokens == 120
    assert stats.cached_tokens == 64
    assert (stats.running, stats.waiting, stats.errors) == (0, 0, 0)
    assert stats.steps == 6


def test_an_engine_that_is_dropped_frees_its_model_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        target = engine(async_steps=False)  # a thread lets go a moment later
        form = StructuredOutputs(choice=("yes", "no"))
        run(target, request("a", range(20, 30), structured_outputs=form))
        for thread in threading.enumerate():
            if thread.name == "grammar":
                thread.join()
        runner, ended = weakref.ref(target.runner), weakref.ref(target)
        del target
        assert ended() is None
        assert runner() is None
    finally:
        gc.enable()


class EngineMachine(RuleBasedStateMachine):
    """Requests of all kinds come and go in a cache much too small for them.

    Every sample has exactly one end, and up to there says what it would say alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.engine = engine(
            num_blocks=14, block_size=4, max_num_seqs=5, max_num_batched_tokens=13, max_model_len=44
        )
        self.requests: dict[str, Request] = {}
        self.outputs: Samples = defaultdict(list)

    @rule(
        prompt=st.lists(st.sampled_from([20, 21, 22]), max_size=30),
        ending=st.sampled_from([(), (), (), (NAN,), (POISON,)]),
        n=st.integers(1, 3),
        max_tokens=st.sampled_from([1, 3, 12, 30, None]),
        temperature=st.sampled_from([0.0, 1.0]),
        priority=st.sampled_from([Priority.INTERACTIVE, Priority.BULK, Priority.BULK]),
        salt=st.sampled_from(["", "", "tenant"]),
        interval=st.integers(0, 2),
    )
    def add(
        self,
        prompt: list[int],
        ending: tuple[int, ...],
        n: int,
        max_tokens: int | None,
        temperature: float,
        priority: int,
        salt: str,
        interval: int,
    ) -> None:
        one = request(
            str(len(self.requests)),
            [*prompt, *ending],
            n=n,
            max_tokens=max_tokens,
            temperature=temperature,
            priority=priority,
            cache_salt=salt,
            stream_interval=interval,
        )
        refused = self.engine.add(one)
        assert (refused is not None) == (not one.prompt_token_ids)
        if refused is None:
            self.requests[one.request_id] = one

    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        if self.requests:
            self.engine.abort(data.draw(st.sampled_from(sorted(self.requests))))

    @rule(count=st.integers(1, 6))
    def step(self, count: int) -> None:
        for _ in range(count):
            for output in self.engine.step():
                self.outputs[output.request_id, output.sample_index].append(output)
            self.engine.check()

    @invariant()
    def the_books_balance(self) -> None:
        self.engine.check()

    def teardown(self) -> None:
        for _ in range(3000):
            if not self.engine.has_work:
                break
            self.step(1)
        assert not self.engine.has_work, "a request never ends"
        assert self.engine.stats().kv_used_fraction == 0.0
        for one in self.requests.values():
            for index in range(one.params.n):
                self.judge(one, index, self.outputs.pop((one.request_id, index)))
        assert not self.outputs, "an output of a request that is not"

    def judge(self, one: Request, index: int, pieces: list[StepOutput]) -> None:
        *before, last = pieces
        assert all(piece.finish_reason is None for piece in before)
        tokens = tokens_of(pieces)
        if last.finish_reason is FinishReason.ERROR:
            assert {NAN, POISON} & {*one.prompt_token_ids}
            return
        assert last.finish_reason is not None
        if {NAN, POISON} & {*one.prompt_token_ids}:
            assert last.finish_reason is FinishReason.ABORT
            assert tokens == []
            return
        room = 44 - len(one.prompt_token_ids)
        expected = self.alone(one, index, room)
        if last.finish_reason is FinishReason.ABORT:
            assert tokens == expected[: len(tokens)]
        else:
            assert tokens == expected
            assert text_of(pieces) == byte_level().decode(expected)

    def alone(self, one: Request, index: int, room: int) -> list[int]:
        limit = min(room, one.params.max_tokens or room)
        sequence = Sequence(
            one, index, detokenizer=Detokenizer(byte_level()), arrival=0, context_window=1 << 20
        )
        while sequence.num_generated < limit:
            logits = logits_after(sequence.token_ids)[None]
            sequence.token_ids += sample(logits, [sequence]).token_ids
            if sequence.token_ids[-1] == EOS:
                break
        return sequence.token_ids[sequence.num_prompt :]


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)
