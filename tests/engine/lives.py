"""Random lives of an engine over a model that is made up, in which every row is judged at its end.

Beside them what their tests share: an engine by the name of its mode, and a run to the end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import FinishReason, Priority, Request, StepOutput
from penstock.engine.sampling_params import SamplingParams

from .fake_runner import NAN, POISON, FakeRunner, greedy_tokens
from .tiny_tokenizers import byte_level

MODES: dict[str, dict[str, Any]] = {
    "one by one": {"async_steps": False, "steps_per_turn": 1},
    "repeated": {"async_steps": False, "steps_per_turn": 8},
    "a step ahead": {"async_steps": True, "steps_per_turn": 1},
    "ahead and repeated": {"async_steps": True, "steps_per_turn": 4},
}
DEVICE_MODES: dict[str, dict[str, Any]] = {
    "on the device": {"async_steps": False, "device_steps": True},
    "on the device, ahead": {"async_steps": True, "device_steps": True},
    "captured": {"async_steps": False, "device_steps": True, "cuda_graphs": True},
    "captured, ahead": {"async_steps": True, "device_steps": True, "cuda_graphs": True},
}
ALL_MODES = MODES | DEVICE_MODES


def engine(mode: str, *, num_blocks: int = 64, block_size: int = 16, **config: Any) -> Engine:
    config = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "device": "cpu", **config}
    return Engine(
        EngineConfig(**{**config, **ALL_MODES[mode]}),
        runner=FakeRunner(num_blocks, block_size),
        tokenizer=byte_level(),
    )


def request(name: str, prompt: tuple[int, ...], max_tokens: int, **options: Any) -> Request:
    params = SamplingParams(
        temperature=0, max_tokens=max_tokens, ignore_eos=options.pop("ignore_eos", False)
    )
    return Request(name, prompt, params, **{"stream_interval": 0, **options})


class Story:
    """One random life of an engine, in which every row is judged at its end."""

    def __init__(self, seed: int, mode: str) -> None:
        self.chance = Random(seed)
        chance = self.chance
        self.engine = engine(
            mode,
            num_blocks=chance.choice([9, 14, 40]),
            block_size=4,
            max_num_seqs=chance.choice([1, 3, 5]),
            max_num_batched_tokens=chance.choice([5, 13, 64]),
            enable_prefix_caching=chance.random() < 0.8,
        )
        self.requests: dict[str, Request] = {}
        self.pieces: dict[str, list[StepOutput]] = defaultdict(list)

    def add(self) -> None:
        chance = self.chance
        prompt = [20 + chance.randrange(2) for _ in range(chance.randrange(1, 14))]
        if chance.random() < 0.08:
            prompt.append(chance.choice([NAN, POISON]))
        one = request(
            str(len(self.requests)),
            tuple(prompt),
            chance.choice([1, 2, 7, 12]),
            ignore_eos=chance.random() < 0.7,
            priority=chance.choice([Priority.INTERACTIVE, Priority.BULK, Priority.BULK]),
            stream_interval=chance.choice([0, 0, 0, 1]),
            job=chance.choice(["", "job"]),
        )
        assert self.engine.add(one) is None
        self.requests[one.request_id] = one

    def abort(self) -> None:
        self.engine.abort(str(self.chance.randrange(len(self.requests) + 1)))

    def preempt(self) -> None:
        running = self.engine._scheduler._running
        if running:
            self.engine._scheduler._preempt(self.chance.choice(running))

    def step(self) -> None:
        for output in self.engine.step():
            self.pieces[output.request_id].append(output)

    def live(self, num_events: int) -> None:
        events: list[Callable[[], None]] = [self.step] * 12 + [self.add] * 3
        events += [self.abort, self.preempt]
        for _ in range(num_events):
            self.chance.choice(events)()
            self.engine.check()
        for _ in range(2000):
            if not self.engine.has_work:
                break
            self.step()
            self.engine.check()
        assert not self.engine.has_work, "somebody never ends"
        assert self.engine.stats().kv_used_fraction == 0.0

    def judge(self) -> None:
        assert self.pieces.keys() == self.requests.keys()
        for name, one in self.requests.items():
            *before, last = self.pieces[name]
            assert not any(piece.finish_reason for piece in before)
            tokens = [token_id for piece in (*before, last) for token_id in piece.token_ids]
            if {NAN, POISON} & {*one.prompt_token_ids}:
                assert last.finish_reason in (FinishReason.ERROR, FinishReason.ABORT)
                assert not tokens
                continue
            limit = one.params.max_tokens or 0
            limit = min(limit, self.engine.context_window - len(one.prompt_token_ids))
            expected = greedy_tokens(one.prompt_token_ids, limit, ignore_eos=one.params.ignore_eos)
            if last.finish_reason is FinishReason.ABORT:
                assert tokens == expected[: len(tokens)]
            else:
                assert tokens == expected
            assert last.num_completion_tokens == len(tokens)


def live(seeds: Iterable[int], mode: str) -> None:
    for seed in seeds:
        story = Story(seed, mode)
        story.live(num_events=50)
        story.judge()


def run(target: Engine, requests: list[Request]) -> dict[str, list[int]]:
    for one in requests:
        assert target.add(one) is None
    tokens: dict[str, list[int]] = defaultdict(list)
    while target.has_work:
        for output in target.step():
            tokens[output.request_id] += output.token_ids
        target.check()
    return tokens
