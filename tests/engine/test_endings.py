"""What ends a row, and after which token: the model, the caller's stops, room, or an abort."""

from collections.abc import Callable

import pytest

from penstock.engine.outputs import FinishReason

from .fake_runner import EOS, greedy_tokens
from .rows import engine, reference_tokens, request, run, text_of, tokens_of
from .tiny_tokenizers import byte_level


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
