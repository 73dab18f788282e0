"""One sample of one request while it lives: its tokens, its blocks, its text so far.

Knows no tensors and no other sequence: the scheduler moves it, the engine lets it go.

    token_ids   [ prompt ............ | generated ... ]      len(token_ids) = tokens known
                [ computed ................. | to do  ]      num_computed   = tokens in the cache
    block_table [ 7 ][ 3 ][ 9 ][ 4 ]                         16 tokens each
"""

from copy import copy
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from .block_pool import hash_blocks, root_hash
from .detokenizer import Detokenizer
from .grammar import Matcher
from .logit_rules import LogitRules
from .outputs import FinishReason, Request, RequestError, StepOutput, TokenLogprobs
from .penalties import TokenHistory
from .pooling import Pooler
from .repetition import STOP_REASON as REPETITION_DETECTED


class SequenceStatus(IntEnum):
    """WAITING -> RUNNING -> FINISHED, and back to WAITING whenever it is preempted."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a sequence has come to its end."""

    reason: FinishReason
    stop_reason: str | int | None = None
    error: RequestError | None = None


class Sequence:
    """The mutable state of one sample; compared and hashed by identity.

    Attributes:
        order: (priority, arrival): the smaller, the sooner it is served. The scheduler may lend a
            bulk row another priority.
        token_ids: prompt and generated tokens.
        num_computed: leading tokens whose keys and values are in the cache, or will be once the
            steps in flight have ended.
        num_pending: tokens that steps in flight are drawing.
        last_step: number of the last step that computes it.
        num_cached: prompt tokens that the prefix cache held at the first admission, -1 before it.
        num_published: leading blocks already offered to the prefix cache.
        max_num_tokens: the sequence is full at this many tokens, prompt included.
        stop_token_ids: tokens that end it, end-of-text among them unless `ignore_eos`.
        rules: what its parameters allow, forbid and favour, None if nothing.
        history: its tokens in numbers, if they weigh on the next choice.
        matcher: how far it has come in its grammar, None without one or while that is compiled.
        random_key: 64 bits that, with a token's place in the output, fix every random choice.
        changes_logits: whether anything but chance acts on its logits.
        is_plain: the most likely token is all that is asked for.
        can_run_ahead: its next token may be drawn before the host has seen the one before.
        is_watched: its end may come with any token, or text and outputs before it: it streams, has
            stop strings, a grammar, or must not repeat itself.
        detokenizer: turns its tokens into text.
        num_decoded: generated tokens that the detokenizer has had.
        num_reported: generated tokens that outputs have told of.
        unreported_text: text that no output has told of yet.
        logprobs: one record per generated token if they were asked for, else None.
        pooler: gathers what is asked for in place of an output, None if nothing is.
        prompt_logprobs: one record per token of the prompt, as far as they are known, if they were
            asked for. Sample 0 has them for all samples of its request.
    """

    __slots__ = (
        "_counts_on_device",
        "_root",
        "block_hashes",
        "block_table",
        "can_run_ahead",
        "changes_logits",
        "detokenizer",
        "history",
        "is_plain",
        "is_watched",
        "last_step",
        "logprobs",
        "matcher",
        "max_num_tokens",
        "num_cached",
        "num_computed",
        "num_decoded",
        "num_pending",
        "num_prompt",
        "num_published",
        "num_reported",
        "order",
        "pooler",
        "prompt_logprobs",
        "random_key",
        "request",
        "rules",
        "sample_index",
        "status",
        "stop_token_ids",
        "token_ids",
        "unreported_text",
    )

    def __init__(
        self,
        request: Request,
        sample_index: int,
        *,
        detokenizer: Detokenizer,
        arrival: int,
        context_window: int,
        eos_token_ids: frozenset[int] = frozenset(),
        engine_seed: int = 0,
        model: str = "",
        rules: LogitRules | None = None,
        counts_on_device: bool = False,
    ) -> None:
        """`counts_on_device` says that penalties see each token as soon as it is drawn."""
        params = request.params
        self.request = request
        self.sample_index = sample_index
        self.order = (request.priority, arrival)
        self.status = SequenceStatus.WAITING

        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt = len(self.token_ids)
        self.num_computed = 0
        self.num_cached = -1
        self.num_pending = 0
        self.last_step = 0
        self.block_table: list[int] = []
        self._root = root_hash(model, request.cache_salt)
        self.block_hashes: list[bytes] = []
        self.num_published = 0

        room = context_window - self.num_prompt
        self.max_num_tokens = self.num_prompt + (
            room if params.max_tokens is None else min(room, params.max_tokens)
        )
        ending = frozenset(params.stop_token_ids)
        self.stop_token_ids = ending if params.ignore_eos else ending | eos_token_ids
        self.random_key = random_key(request, sample_index, engine_seed)
        self.rules = rules
        self.history = TokenHistory.of(params, self.token_ids)
        self.matcher: Matcher | None = None
        has_form = params.structured_outputs is not None
        self.changes_logits = rules is not None or self.history is not None or has_form
        self.is_plain = params.is_greedy and params.logprobs is None and not self.changes_logits
        self.is_watched = bool(
            request.stream_interval or params.stop or has_form or params.repetition_detection
        )
        self.is_watched |= request.pooling is not None
        self.pooler = None if request.pooling is None else Pooler(request.pooling, self.num_prompt)
        if self.pooler is not None:
            self.max_num_tokens = self.num_prompt + 1  # as if it drew one token, which nobody sees
        self.detokenizer = detokenizer
        self.num_decoded = 0
        self.num_reported = 0
        self.unreported_text = ""
        self.logprobs: list[TokenLogprobs] | None = None if params.logprobs is None else []
        wants_prompt = params.prompt_logprobs is not None and sample_index == 0
        self.prompt_logprobs: list[TokenLogprobs | None] | None = [None] if wants_prompt else None
        self._counts_on_device = counts_on_device
        self.can_run_ahead = self._can_run_ahead()

    @property
    def num_known(self) -> int:
        """Tokens that it has, and those that steps in flight will bring."""
        return len(self.token_ids) + self.num_pending

    @property
    def num_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt

    @property
    def lacks_prompt_outputs(self) -> bool:
        """Whether all of its prompt must be computed, cached or not, for what is told of it."""
        if self.pooler is not None:
            return self.pooler.lacks_positions
        return self.lacks_prompt_logprobs

    @property
    def lacks_prompt_logprobs(self) -> bool:
        """Whether tokens of its prompt have not been told of."""
        return self.prompt_logprobs is not None and len(self.prompt_logprobs) < self.num_prompt

    def due_prompt_positions(self, begin: int, end: int) -> range:
        """Return which of the tokens from `begin` to `end` tell of the prompt what is not yet told.

        The logits at one position tell of the token at the next. After a preemption it is known
        what they told the first time, and nothing is told twice.
        """
        if self.pooler is not None:
            return self.pooler.due(begin, end)
        if self.prompt_logprobs is None:
            return range(0)
        return range(max(begin, len(self.prompt_logprobs) - 1), min(end, self.num_prompt - 1))

    def tell_prompt(self, records: list[TokenLogprobs]) -> None:
        """Add records of the prompt's next tokens."""
        if self.prompt_logprobs is not None:
            self.prompt_logprobs += records
            self.can_run_ahead = self._can_run_ahead()

    @property
    def is_report_due(self) -> bool:
        """Whether a stream is owed an output."""
        interval = self.request.stream_interval
        return bool(interval) and self.num_generated - self.num_reported >= interval

    def hash_full_blocks(self, block_size: int) -> list[bytes]:
        """Return the chain hash of every full block of known tokens, hashing only the new ones."""
        hashes = self.block_hashes
        if (len(hashes) + 1) * block_size <= len(self.token_ids):
            fresh = self.token_ids[len(hashes) * block_size :]
            hashes.extend(hash_blocks(hashes[-1] if hashes else self._root, fresh, block_size))
        return hashes

    def take_token(self, token_id: int) -> None:
        """Add a token that a step has drawn."""
        self.token_ids.append(token_id)
        self.num_pending -= 1
        if self.history is not None:
            self.history.add(token_id)
        if self.matcher is not None:
            self.matcher.advance(token_id)

    def with_token(self, token_id: int, place: int) -> "Sequence":
        """Return a copy that has taken its token at `place`, whether or not this one has by now."""
        ahead = copy(self)
        ahead.token_ids = [*self.token_ids[:place], token_id]
        prompt, output = ahead.token_ids[: self.num_prompt], ahead.token_ids[self.num_prompt :]
        ahead.history = TokenHistory.of(self.request.params, prompt)
        if ahead.history is not None:
            for each in output:
                ahead.history.add(each)
        return ahead

    def ends_with(self, token_id: int, place: int) -> bool:
        """Whether a token at some place of its output is the last, whatever the text says."""
        if self.num_prompt + place + 1 >= self.max_num_tokens:
            return True
        return token_id in self.stop_token_ids and place + 1 >= self.request.params.min_tokens

    def find_ending(self) -> Ending | None:
        """Say whether the newest token is the last, and decode as much text as that takes."""
        params = self.request.params
        newest = self.token_ids[-1]
        may_stop = self.num_generated >= params.min_tokens
        if newest in self.stop_token_ids and may_stop:
            self._decode(len(self.token_ids) - 1)  # what ends a text is no part of it
            return self._close(
                FinishReason.STOP, newest if newest in params.stop_token_ids else None
            )
        if params.stop:
            self._decode(len(self.token_ids), may_stop=may_stop)
            if self.detokenizer.matched_stop is not None:
                return Ending(FinishReason.STOP, self.detokenizer.matched_stop)
        if self.matcher is not None and self.matcher.has_ended:
            if (error := self.matcher.error) is not None:
                return Ending(FinishReason.ERROR, error=error)
            self._decode(len(self.token_ids))
            return self._close(FinishReason.STOP)
        if self._repeats_itself and may_stop:
            self._decode(len(self.token_ids))
            return self._close(FinishReason.STOP, REPETITION_DETECTED)
        if len(self.token_ids) >= self.max_num_tokens:
            self._decode(len(self.token_ids))
            return self._close(FinishReason.LENGTH)
        if self.is_report_due:
            self._decode(len(self.token_ids))
        return None

    def take_output(self, ending: Ending | None = None) -> StepOutput:
        """Return what was gained since this was last called; with an ending, for the last time."""
        begin = self.num_reported
        text, self.unreported_text = self.unreported_text, ""
        prompt_logprobs = None
        if self.prompt_logprobs is not None and not self.lacks_prompt_logprobs:
            prompt_logprobs, self.prompt_logprobs = tuple(self.prompt_logprobs), None
        self.num_reported = self.num_generated
        return StepOutput(
            self.request.request_id,
            self.sample_index,
            text=text,
            token_ids=tuple(self.token_ids[self.num_prompt + begin :]),
            logprobs=None if self.logprobs is None else tuple(self.logprobs[begin:]),
            finish_reason=ending.reason if ending else None,
            stop_reason=ending.stop_reason if ending else None,
            error=ending.error if ending else None,
            num_prompt_tokens=self.num_prompt,
            num_completion_tokens=self.num_generated,
            num_cached_tokens=max(0, self.num_cached),
            prompt_logprobs=prompt_logprobs,
            pooled=self._pooled(ending),
        )

    def _pooled(self, ending: Ending | None) -> tuple[float, ...] | None:
        has_ended_well = ending is not None and ending.reason is FinishReason.STOP
        return self.pooler.vector() if self.pooler is not None and has_ended_well else None

    def _decode(self, end: int, *, may_stop: bool = True) -> None:
        """Turn the tokens up to `end` into text that waits for the next output."""
        fresh = self.token_ids[self.num_prompt + self.num_decoded : end]
        if fresh:
            self.unreported_text += self.detokenizer.push(fresh, may_stop=may_stop)
            self.num_decoded += len(fresh)

    @property
    def _repeats_itself(self) -> bool:
        detection = self.request.params.repetition_detection
        return detection is not None and detection.is_met_by(self.token_ids, self.num_generated)

    def _can_run_ahead(self) -> bool:
        has_bad_words = self.rules is not None and self.rules.bad_words is not None
        has_form = self.request.params.structured_outputs is not None
        awaits_counts = self.history is not None and not self._counts_on_device
        depends_on_newest = awaits_counts or has_bad_words or has_form
        return not (depends_on_newest or self.lacks_prompt_outputs)

    def _close(self, reason: FinishReason, stop_reason: str | int | None = None) -> Ending:
        self.unreported_text += self.detokenizer.flush()
        if self.detokenizer.matched_stop is not None:  # what was held back completed it
            return Ending(FinishReason.STOP, self.detokenizer.matched_stop)
        return Ending(reason, stop_reason)


def random_key(request: Request, sample_index: int, engine_seed: int) -> int:
    """Return the 64-bit key behind a sample's random choices.

    It depends on the request's seed and the sample's number alone, so a seeded request repeats
    itself in any batch, engine or place in the queue. Without a seed, the request's id stands in.
    """
    seed = request.params.seed
    source = f"id:{engine_seed}:{request.request_id}" if seed is None else f"seed:{seed}"
    encoded = f"{source}#{sample_index}".encode("utf-8", "surrogatepass")
    digest = blake2b(encoded, digest_size=8)
    return int.from_bytes(digest.digest(), "little")
