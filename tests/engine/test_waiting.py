"""In which order bulk rows start: what neighbours share, how long they are, who came first."""

import random
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given, settings, strategies as st

from penstock.engine.config import EngineConfig
from penstock.engine.detokenizer import Detokenizer
from penstock.engine.engine import Engine
from penstock.engine.forecast import JobForecasts
from penstock.engine.job_line import JobLine
from penstock.engine.outputs import Priority, Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.sequence import Sequence, SequenceStatus
from penstock.engine.waiting import WaitingQueue

from .fake_runner import FakeRunner
from .tiny_tokenizers import byte_level

BLOCK_SIZE = 2
Prompt = tuple[int, ...]


class Arrivals:
    """Makes rows in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = count()

    def row(
        self,
        prompt: Prompt,
        *,
        job: str = "",
        max_tokens: int = 8,
        priority: int = Priority.BULK,
    ) -> Sequence:
        number = next(self._numbers)
        params = SamplingParams(temperature=0, max_tokens=max_tokens)
        return Sequence(
            Request(str(number), prompt, params, priority=priority, job=job),
            0,
            detokenizer=Detokenizer(byte_level()),
            arrival=number,
            context_window=1 << 20,
        )


def num_shared(one: Prompt, other: Prompt) -> int:
    blocks = 0
    while (blocks + 1) * BLOCK_SIZE <= min(len(one), len(other)):
        part = slice(blocks * BLOCK_SIZE, (blocks + 1) * BLOCK_SIZE)
        if one[part] != other[part]:
            break
        blocks += 1
    return blocks


def prompts_in_order(line: JobLine) -> list[Prompt]:
    return [line.pop().request.prompt_token_ids for _ in range(len(line))]


def test_the_deepest_branch_comes_first_then_what_is_near_it_then_by_arrival() -> None:
    line, arrivals = JobLine(BLOCK_SIZE), Arrivals()
    rows = [(9, 9, 0), (8, 8), (7, 7), (9, 9, 5, 5, 1), (9, 9, 5, 5, 2), (1, 1)]
    for prompt in rows:
        line.add(arrivals.row(prompt))
    assert prompts_in_order(line) == [rows[3], rows[4], rows[0], rows[1], rows[2], rows[5]]


def test_who_comes_late_joins_the_branch_that_is_under_way() -> None:
    line, arrivals = JobLine(BLOCK_SIZE), Arrivals()
    for prompt in ((5, 5, 9), (5, 5, 8), (3, 3, 0), (3, 3, 1), (3, 3, 2)):
        line.add(arrivals.row(prompt))
    assert line.pop().request.prompt_token_ids == (3, 3, 0)
    line.add(arrivals.row((3, 3, -1)))
    assert prompts_in_order(line)[-2:] == [(5, 5, 8), (5, 5, 9)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(
        st.one_of(
            st.lists(st.sampled_from([1, 2]), max_size=9).map(tuple),
            st.sampled_from(["pop", "remove"]),
        ),
        max_size=40,
    ),
    st.randoms(use_true_random=False),
)
def test_whoever_starts_shares_most_with_the_one_before(
    events: list[Prompt | str], chance: random.Random
) -> None:
    line, arrivals = JobLine(BLOCK_SIZE), Arrivals()
    waiting: list[Sequence] = []
    last: Prompt = ()
    for event in [*events, *["pop"] * len(events)]:
        if isinstance(event, tuple):
            waiting.append(arrivals.row(event))
            line.add(waiting[-1])
        elif event == "remove" and waiting:
            line.remove(waiting.pop(chance.randrange(len(waiting))))
        elif waiting:
            row = line.pop()
            waiting.remove(row)
            chosen = num_shared(last, row.request.prompt_token_ids)
            others = [num_shared(last, other.request.prompt_token_ids) for other in waiting]
            assert chosen >= max(others, default=0)
            last = row.request.prompt_token_ids
        assert len(line) == len(waiting)
    assert not waiting


@pytest.mark.parametrize("num_removed", [0, 500])
def test_nobody_is_overtaken_for_ever(num_removed: int) -> None:
    line, arrivals = JobLine(BLOCK_SIZE), Arrivals()
    for number in range(num_removed):
        row = arrivals.row((8, number))
        line.add(row)
        line.remove(row)
    line.add(arrivals.row((1, 1, 1)))
    line.pop()
    lonely = arrivals.row((9, 9))
    line.add(lonely)
    overtaken = 0
    for number in range(3000):
        line.add(arrivals.row((1, 1, number)))
        if line.pop() is lonely:
            break
        overtaken += 1
    assert overtaken == 1024


def test_near_the_end_of_a_job_its_longest_outputs_come_first() -> None:
    arrivals = Arrivals()
    lengths = {"a": 5, "b": 90, "c": 5, "d": 40, "e": 90}
    queue = WaitingQueue(BLOCK_SIZE, 4, lambda row: row.max_num_tokens - row.num_prompt)
    for prompt, max_tokens in zip(range(5), lengths.values(), strict=True):
        queue.add(arrivals.row((prompt,), max_tokens=max_tokens))
    order: list[int] = []
    while row := queue.peek():
        assert queue.pop() is row
        order.append(row.max_num_tokens - 1)
    assert order == [5, 90, 90, 40, 5], "the first while there are still more rows than slots"


def test_jobs_are_served_in_order_of_arrival_whatever_their_own_order() -> None:
    arrivals = Arrivals()
    queue = WaitingQueue(BLOCK_SIZE, 1, lambda row: 1)
    for number in range(6):
        queue.add(arrivals.row((number % 3, 5, 5), job="large"))
        if number % 2:
            queue.add(arrivals.row((7, number), job="small"))
    urgent = arrivals.row((1,), priority=Priority.INTERACTIVE)
    queue.add(urgent)
    jobs = []
    while row := queue.peek():
        assert queue.pop() is row
        jobs.append("urgent" if row is urgent else row.request.job)
    assert jobs == ["urgent", *["large", "large", "small"] * 3]


def test_a_row_may_leave_before_its_time_and_no_ticket_is_left() -> None:
    arrivals = Arrivals()
    queue = WaitingQueue(BLOCK_SIZE, 4, lambda row: 1)
    rows = [arrivals.row((number, 5), job="job") for number in range(4)]
    for row in rows:
        queue.add(row)
    chosen = queue.peek()
    assert chosen is rows[0]
    for row in (rows[0], rows[2]):
        queue.remove(row)
        row.status = SequenceStatus.FINISHED
        queue.check()
    assert len(queue) == 2
    queue.put_back(preempted := arrivals.row((3, 3), job="job"))
    assert queue.peek() is preempted, "who had started already goes before the others"
    assert [queue.pop() for _ in range(3) if queue.peek()] == [preempted, rows[1], rows[3]]
    assert queue.peek() is None
    queue.check()


def test_a_forecast_is_the_jobs_own_once_it_has_shown_enough() -> None:
    forecasts = JobForecasts()
    for _ in range(50):
        forecasts.observe("long", 100)
    assert forecasts.of("short").remaining(0, 200) == 100, "nothing else is known yet"
    for _ in range(50):
        forecasts.observe("short", 10)
    assert forecasts.of("short").remaining(0, 200) == 10
    assert forecasts.of("long").remaining(0, 200) == 100
    for number in range(256):
        forecasts.observe(f"job {number}", 50)
    assert forecasts.of("short") is forecasts.of("never heard of")


def engine(num_blocks: int, max_num_seqs: int) -> Engine:
    runner = FakeRunner(num_blocks)
    config = EngineConfig(device="cpu", max_num_seqs=max_num_seqs, max_num_batched_tokens=128)
    return Engine(config, runner=runner, tokenizer=byte_level(), reserved_interactive_seqs=0)


def run(target: Engine, requests: list[Request]) -> int:
    """Run all to their end, and return the number of tokens that were computed."""
    for request in requests:
        assert target.add(request) is None
    while target.has_work:
        target.step()
    assert isinstance(target.runner, FakeRunner)
    return target.runner.num_computed_tokens


def test_shuffled_prompts_with_common_beginnings_are_computed_once_in_a_small_cache() -> None:
    num_groups = 64
    prompts = [
        (*((group * 7 + place) % 250 + 9 for place in range(48)), group + 9, member + 9)
        for group in range(num_groups)
        for member in range(16)
    ]
    random.Random(5).shuffle(prompts)
    params = SamplingParams(temperature=0, max_tokens=1)

    def num_computed(job_of: dict[int, str]) -> int:
        requests = [
            Request(str(i), prompt, params, stream_interval=0, job=job_of.get(i, "job"))
            for i, prompt in enumerate(prompts)
        ]
        return run(engine(65, max_num_seqs=8), requests)

    by_arrival = num_computed({i: str(i) for i in range(len(prompts))})  # each its own job
    by_trie = num_computed({})
    assert by_trie == num_groups * (48 + 16 * 2), "each beginning once, each ending once"
    assert by_arrival > 4 * by_trie


def test_the_tail_of_a_job_with_skewed_lengths_is_short() -> None:
    lengths = [*range(10, 90, 10), *[50] * 6, 120]  # on eight slots, that come free one by one

    def num_steps(job_of: dict[int, str]) -> int:
        requests = [
            Request(
                str(i),
                (i + 9,),
                SamplingParams(temperature=0, max_tokens=length, ignore_eos=True),
                stream_interval=0,
                job=job_of.get(i, "job"),
            )
            for i, length in enumerate(lengths)
        ]
        target = engine(200, max_num_seqs=8)
        run(target, requests)
        return target.stats().steps

    by_arrival = num_steps({i: str(i) for i in range(len(lengths))})
    assert num_steps({}) == 10 + 120
    assert by_arrival == 60 + 120
