"""Requests of all kinds in any order: each of them is told what it would be told alone."""

from collections import defaultdict

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.engine.detokenizer import Detokenizer
from penstock.engine.outputs import FinishReason, Priority, Request, StepOutput
from penstock.engine.sampler import sample
from penstock.engine.sequence import Sequence

from .fake_runner import EOS, NAN, POISON, logits_after
from .rows import Samples, engine, request, text_of, tokens_of
from .tiny_tokenizers import byte_level


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
