"""One sample of one request while it lives: its tokens, its blocks, how far it has been computed.

Knows no tensors, and takes no decisions: the scheduler moves it, the engine ends it.

    token_ids   [ prompt ............ | generated ... ]      len(token_ids) = tokens known
                [ computed ................. | to do  ]      num_computed   = tokens in the cache
    block_table [ 7 ][ 3 ][ 9 ][ 4 ]                         16 tokens each
"""

from enum import IntEnum
from hashlib import blake2b

from .block_pool import hash_blocks, root_hash
from .outputs import Request, TokenLogprobs


class SequenceStatus(IntEnum):
    """WAITING -> RUNNING -> FINISHED, and back to WAITING whenever it is preempted."""

    WAITING = 0
    RUNNING = 1
    FINISHED = 2


class Sequence:
    """The mutable state of one sample; compared and hashed by identity.

    Attributes:
        order: (priority, arrival): the smaller, the sooner it is served.
        token_ids: prompt and generated tokens.
        num_computed: leading tokens whose keys and values are in the cache.
        num_cached: prompt tokens that the prefix cache held at the first admission, -1 before it.
        num_published: leading blocks already offered to the prefix cache.
        max_num_tokens: the sequence is full at this many tokens, prompt included.
        stop_token_ids: tokens that end it, end-of-text among them unless `ignore_eos`.
        masked_token_ids: tokens that may not be drawn before `min_tokens`.
        random_key: 64 bits that, with a token's place in the output, fix every random choice.
        is_penalised: whether tokens seen before weigh on the next choice.
        is_plain: the most likely token is all that is asked for.
        num_reported: generated tokens that outputs have told of.
        logprobs: one record per generated token if they were asked for, else None.
    """

    __slots__ = (
        "_root",
        "block_hashes",
        "block_table",
        "is_penalised",
        "is_plain",
        "logprobs",
        "masked_token_ids",
        "max_num_tokens",
        "num_cached",
        "num_computed",
        "num_prompt",
        "num_published",
        "num_reported",
        "order",
        "random_key",
        "request",
        "sample_index",
        "status",
        "stop_token_ids",
        "token_ids",
    )

    def __init__(
        self,
        request: Request,
        sample_index: int,
        *,
        arrival: int,
        context_window: int,
        eos_token_ids: frozenset[int] = frozenset(),
        engine_seed: int = 0,
        model: str = "",
    ) -> None:
        params = request.params
        self.request = request
        self.sample_index = sample_index
        self.order = (request.priority, arrival)
        self.status = SequenceStatus.WAITING

        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt = len(self.token_ids)
        self.num_computed = 0
        self.num_cached = -1
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
        self.masked_token_ids = ending | eos_token_ids if params.min_tokens else frozenset()
        self.random_key = random_key(request, sample_index, engine_seed)
        self.is_penalised = bool(
            params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0
        )
        self.is_plain = (
            params.is_greedy
            and params.logprobs is None
            and not params.min_tokens
            and not self.is_penalised
        )
        self.num_reported = 0
        self.logprobs: list[TokenLogprobs] | None = None if params.logprobs is None else []

    @property
    def num_generated(self) -> int:
        """Tokens generated so far."""
        return len(self.token_ids) - self.num_prompt

    def hash_full_blocks(self, block_size: int) -> list[bytes]:
        """Return the chain hash of every full block of known tokens, hashing only the new ones."""
        hashes = self.block_hashes
        if (len(hashes) + 1) * block_size <= len(self.token_ids):
            fresh = self.token_ids[len(hashes) * block_size :]
            hashes.extend(hash_blocks(hashes[-1] if hashes else self._root, fresh, block_size))
        return hashes


def random_key(request: Request, sample_index: int, engine_seed: int) -> int:
    """Return the 64-bit key behind a sample's random choices.

    It depends on the request's seed and the sample's number alone, so a seeded request repeats
    itself in any batch, engine or place in the queue. Without a seed, the request's id stands in.
    """
    seed = request.params.seed
    source = f"id:{engine_seed}:{request.request_id}" if seed is None else f"seed:{seed}"
    digest = blake2b(f"{source}#{sample_index}".encode("utf-8", "replace"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
