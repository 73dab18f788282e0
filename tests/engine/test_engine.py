"""The loop against a model that costs nothing: which tokens each row is given, in what pieces."""

import gc
import threading
import weakref

import pytest

from penstock.engine.outputs import FinishReason
from penstock.engine.sampling_params import StructuredOutputs

from .fake_runner import FakeRunner, greedy_tokens
from .rows import engine, reference_tokens, request, run, text_of, tokens_of
from .tiny_tokenizers import byte_level


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
