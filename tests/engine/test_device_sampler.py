"""The device's sampler draws what the host's does, whatever rows are drawn together."""

import random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from penstock.engine.device_sampler import DeviceSampler, Drawn, Needs, needs_of, read
from penstock.engine.drawing import Draw, GumbelMax, by_inverse_cdf
from penstock.engine.outputs import Request
from penstock.engine.pooling import Pooling
from penstock.engine.sampler import NO_TOKEN_LEFT, NOT_FINITE, SampledTokens, sample
from penstock.engine.sampling_tables import MAX_ENDINGS
from penstock.engine.sequence import Sequence
from penstock.kernels.reference_cache import RowTables
from penstock.kernels.sampling_ops import SamplingOps, reference_ops, triton_ops

from .sampled_rows import row

VOCAB, LINES, ROOM = 50, 12, 40
DRAWS = {"inverse CDF": by_inverse_cdf, "Gumbel-max": GumbelMax(reference_ops())}

KINDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1e-6, "logprobs": 2},
    {},
    {"temperature": 0.5, "seed": 3, "bad_words": ((7,), (9,))},
    {"top_k": 5, "temperature": 0.7, "seed": 4},
    {"top_p": 0.6, "seed": 5},
    {"min_p": 0.2, "seed": 6, "sample_index": 2},
    {"top_k": 9, "top_p": 0.9, "min_p": 0.05, "logprobs": 20, "seed": 7},
    {"temperature": 0, "repetition_penalty": 1.7},
    {"presence_penalty": 0.7, "frequency_penalty": -0.2, "seed": 8, "logprobs": 0},
    {"repetition_penalty": 0.6, "frequency_penalty": 1.1, "top_k": 12, "seed": 9},
    {"logit_bias": {3: 4.0, 7: -100.0, 2: 9.0}, "min_tokens": 3, "seed": 10},
    {"allowed_token_ids": (2, 8, 31, 32, 49), "temperature": 0, "logprobs": 3},
    {"min_tokens": 2, "stop_token_ids": (7, 9, 10_000), "ignore_eos": True, "temperature": 0},
    {"logit_bias": {2: 50.0}, "repetition_penalty": 1.2, "min_tokens": 1, "logprobs": 1},
]


class Device:
    """A device's side of some rows: their tokens by line, as a step runner would keep them."""

    def __init__(self, *, draw: Draw | None = None, ops: SamplingOps | None = None) -> None:
        self.rows = RowTables(
            torch.full((LINES, ROOM), 10**6, dtype=torch.int32),
            torch.zeros(LINES, dtype=torch.int32),
            torch.zeros(LINES, dtype=torch.int32),
            torch.zeros(LINES, 1, dtype=torch.int32),
        )
        self.sampler = DeviceSampler(self.rows, VOCAB, draw=draw, ops=ops)
        self.line_of: dict[Sequence, int] = {}

    def place(self, sequence: Sequence) -> None:
        line = next(i for i in range(LINES) if i not in self.line_of.values())
        self.sampler.place(line, sequence)
        self.line_of[sequence] = line

    def free(self, sequence: Sequence) -> None:
        del self.line_of[sequence]

    def sync(self) -> None:
        """Copy what was staged, and the tokens that are known."""
        for sent in self.sampler.take_staged():
            sent.table.index_copy_(0, sent.lines, sent.rows)
        for sequence, line in self.line_of.items():
            tokens = torch.tensor(sequence.token_ids, dtype=torch.int32)
            self.rows.tokens[line, : len(tokens)] = tokens
            self.rows.num_known[line] = len(tokens)

    def lines(self, sequences: list[Sequence], num_padding: int = 0) -> torch.Tensor:
        numbers = [self.line_of[sequence] for sequence in sequences]
        return torch.tensor([*numbers, *[-1] * num_padding], dtype=torch.int32)

    def sample(self, logits: torch.Tensor, sequences: list[Sequence]) -> SampledTokens:
        for sequence in sequences:
            if sequence not in self.line_of:
                self.place(sequence)
        self.sync()
        lines = self.lines(sequences, len(logits) - len(sequences))
        return read(self.sampler.sample(logits, lines, needs_of(sequences)), sequences)


def rows_of_every_kind(count: int, source: random.Random) -> list[Sequence]:
    kinds = [source.choice(KINDS) for _ in range(count)]
    return [
        row(
            prompt=tuple(source.randrange(VOCAB) for _ in range(source.randint(1, 9))),
            request_id=f"r{source.random()}",
            **kind,
        )
        for kind in kinds
    ]


def assert_same(found: SampledTokens, expected: SampledTokens) -> None:
    assert found.token_ids == expected.token_ids
    assert found.faults == expected.faults
    assert found.logprobs.keys() == expected.logprobs.keys()
    for place, record in found.logprobs.items():
        other = expected.logprobs[place]
        assert [token_id for token_id, _ in record.top] == [token_id for token_id, _ in other.top]
        assert [record.logprob, *(value for _, value in record.top)] == pytest.approx(
            [other.logprob, *(value for _, value in other.top)], abs=1e-6
        )


@pytest.mark.parametrize("draw", DRAWS.values(), ids=[*DRAWS])
@pytest.mark.parametrize("seed", range(3))
def test_both_samplers_draw_the_same(draw: Draw, seed: int) -> None:
    """Rows come, go, are preempted and drawn for elsewhere; each step has some of them, padded."""
    source, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    device = Device(draw=draw)
    alive: list[Sequence] = []
    drawn: set[str] = set()
    for _ in range(150):
        alive += rows_of_every_kind(source.randint(0, LINES - len(alive)), source)
        in_step = source.sample(alive, source.randint(0, len(alive)))
        logits = 3 * torch.randn(len(in_step) + 2, VOCAB, generator=generator)
        logits = logits.round(decimals=1)  # some equals
        expected = sample(logits[: len(in_step)].clone(), in_step, draw=draw)
        elsewhere = source.random() < 0.2
        found = expected if elsewhere else device.sample(logits.clone(), in_step)
        assert_same(found, expected)
        for sequence, token_id in zip(in_step, found.token_ids, strict=True):
            sequence.take_token(token_id)
            drawn.add(str(sequence.request.params))
        for sequence in [*alive]:
            fate = source.random()
            if len(sequence.token_ids) == ROOM or fate < 0.1:
                alive.remove(sequence)
            if sequence in device.line_of and (fate < 0.2 or sequence not in alive):
                device.free(sequence)  # ended, or preempted
    assert len(drawn) == len(KINDS)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=[*DRAWS])
def test_what_others_need_changes_nothing(draw: Draw) -> None:
    logits = torch.randn(1, VOCAB)
    for kind in KINDS:
        device, sequence = Device(draw=draw), row(output=(4, 4, 7), **kind)
        device.place(sequence)
        device.sync()
        lines, needs = device.lines([sequence]), needs_of([sequence])
        found = read(device.sampler.sample(logits.clone(), lines, needs), [sequence])
        for more in (Needs.RULES, Needs.PENALTIES, Needs.FILTERS, Needs.LOGPROBS, ~Needs.NOTHING):
            drawn = device.sampler.sample(logits.clone(), lines, needs | more)
            assert_same(read(drawn, [sequence]), found)


def test_kernels_draw_what_their_twins_do() -> None:
    """All of a step at once, in Triton's interpreter or on a GPU."""
    ops = triton_ops()
    kernels, twins = Device(draw=GumbelMax(ops), ops=ops), Device(draw=GumbelMax(reference_ops()))
    sequences = [row(output=(4, 4, 7), **kind) for kind in KINDS[3:]]
    logits = torch.randn(LINES + 1, VOCAB)
    assert_same(kernels.sample(logits.clone(), sequences), twins.sample(logits, sequences))


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=[*DRAWS])
def test_a_row_without_numbers_fails_alone(draw: Draw, fault: float) -> None:
    kinds = [{}, {"temperature": 0}, {"top_p": 0.5}, {"repetition_penalty": 2.0}, {"logprobs": 2}]
    sequences = [row(output=(4,), **kind) for kind in kinds]
    logits = torch.randn(len(kinds), VOCAB)
    expected = sample(logits.clone(), sequences, draw=draw).token_ids
    for broken in range(len(kinds)):
        damaged = logits.clone()
        damaged[broken] = fault
        found = Device(draw=draw).sample(damaged, sequences)
        assert [*found.faults] == [broken]
        if not sequences[broken].changes_logits:
            assert found.faults[broken] == NOT_FINITE
        found.token_ids[broken] = expected[broken]
        assert found.token_ids == expected


@pytest.mark.parametrize("draw", DRAWS.values(), ids=[*DRAWS])
def test_a_row_with_no_token_left_is_told_so(draw: Draw) -> None:
    masked = row(allowed_token_ids=(7,), min_tokens=1, stop_token_ids=(7,))
    sequences = [row(seed=1), masked, row(seed=1)]
    logits = torch.randn(3, VOCAB)
    expected = sample(logits.clone(), sequences, draw=draw)
    assert expected.faults == {1: NO_TOKEN_LEFT}
    found = Device(draw=draw).sample(logits, sequences)
    assert found.faults == expected.faults
    assert found.token_ids[::2] == expected.token_ids[::2]


class NothingIsRead(TorchDispatchMode):
    """Raises where a tensor's contents would decide what the host does next."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "_to_copy.device", "unique")

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function)
        assert not any(word in name for word in self.FORBIDDEN), f"{name} reads from the device"
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("draw", DRAWS.values(), ids=[*DRAWS])
def test_nothing_is_read_back(draw: Draw) -> None:
    """Or a step could not be captured; and a replay finds all in the same places."""
    device = Device(draw=draw)
    sequences = [row(output=(4, 4), **kind) for kind in KINDS[: LINES - 2]]
    for sequence in sequences:
        device.place(sequence)
    device.sync()
    logits = torch.randn(LINES, VOCAB)
    lines = device.lines(sequences, 2)

    def replay() -> Drawn:
        with NothingIsRead():
            return device.sampler.sample(logits.clone(), lines, ~Needs.NOTHING)

    replay()
    for sequence in sequences:
        sequence.take_token(11)
    for gone, come in zip(sequences[:3], KINDS[-3:], strict=True):
        line = device.line_of[gone]
        device.free(gone)
        newcomer = row(output=(4, 9, 9), **come)
        device.sampler.place(line, newcomer)
        device.line_of[newcomer] = line
        sequences[sequences.index(gone)] = newcomer
    device.sync()
    expected = sample(logits[: len(sequences)].clone(), sequences, draw=draw)
    assert_same(read(replay(), sequences), expected)


def test_which_rows_are_served() -> None:
    for kind in KINDS:
        assert DeviceSampler.serves(row(**kind)), kind
    many = tuple(range(1, MAX_ENDINGS + 1))
    assert DeviceSampler.serves(row(min_tokens=1, stop_token_ids=many, vocab_size=100))
    too_many = row(min_tokens=1, stop_token_ids=(*many, 99), vocab_size=100)
    assert not DeviceSampler.serves(too_many)
    assert not DeviceSampler.serves(row(structured_outputs={"regex": "a"}))
    assert DeviceSampler.serves(row(bad_words=((5,), (6,))))
    assert not DeviceSampler.serves(row(bad_words=((5, 6),)))
    pooled = row()
    request = Request("p", (5, 6), pooled.request.params, pooling=Pooling())
    assert not DeviceSampler.serves(
        Sequence(
            request, 0, detokenizer=pooled.detokenizer, arrival=0, context_window=9, engine_seed=0
        )
    )


def test_every_line_has_room_for_a_history() -> None:
    """However large the vocabulary: a row without room would take its company to the host."""
    device = Device()
    penalised = [
        row(output=(7, 8, number), repetition_penalty=2.0, temperature=0) for number in range(LINES)
    ]
    logits = torch.randn(LINES, VOCAB, generator=torch.Generator().manual_seed(1))
    expected = sample(logits.clone(), penalised)
    assert_same(device.sample(logits, penalised), expected)
