"""The token bill of a dry run: what prompts cost, may cost, and share. Knows requests, no lines.

The first rows are tokenized one and all. Of those behind them, a sample is, and every row that is
long enough to be over the context: a token takes a byte or more, so that the others cannot be.
"""

from array import array
from random import Random

from .digest_table import DigestTable, digest_of
from .dry_run_model import ModelAtHand
from .dry_run_report import MAX_SHOWN, InputTokens, LongRow, LongRows, PrefixReuse
from .model import RequestError
from .row_request import RowRequest

EXACT_ROWS = 100_000
BLOCK_TOKENS = 16  # as the engine's key-value cache has them
_ONE_OF = 20  # rows behind those
_TEMPLATE_BYTES = 2048  # what a chat template may add to a conversation
_BLOCK_BYTES = 4 * BLOCK_TOKENS


class TokenBill:
    """Adds requests up."""

    def __init__(self, model: ModelAtHand | None, exact_rows: int = EXACT_ROWS) -> None:
        self._model = model
        self._exact_rows = exact_rows
        self._chance = Random(0)
        self._num_rows = 0
        self._num_counted = self._num_drawn = self._num_passed = 0
        self._num_tokens = self._num_drawn_tokens = 0
        self._longest = 0
        self._blocks = DigestTable()
        self._num_blocks = self._num_block_rows = self._num_block_tokens = 0
        self._long: list[LongRow] = []
        self._num_long = self._num_cut = 0
        self._num_answers = 0
        self._most: int | None = 0

    def add(self, wish: RowRequest, num_bytes: int, line: int) -> RequestError | None:
        """Take a request of so many bytes into account; return what the model's side refuses."""
        self._num_rows += 1
        fault = None if self._model is None else self._model.fault_of(wish)
        if fault is not None:
            return fault
        if self._is_passed_over(num_bytes):
            self._num_passed += 1
            self._add_answers(wish, 1)
            return None
        assert self._model is not None
        token_ids = self._model.encode(wish)
        if isinstance(token_ids, RequestError):
            return token_ids
        num_tokens = len(token_ids)
        if not num_tokens:
            return RequestError("invalid_request", "prompt must hold at least one token, got none")
        self._count(num_tokens, num_bytes)
        if self._num_rows <= self._exact_rows:
            self._add_blocks(token_ids, line)
        if self._is_too_long(num_tokens, wish):
            self._num_long += 1
            if len(self._long) < MAX_SHOWN:
                self._long.append(LongRow(line, num_tokens))
            return None
        self._add_answers(wish, num_tokens)
        return None

    @property
    def num_answers(self) -> int:
        """Samples that are asked for."""
        return self._num_answers

    @property
    def output_at_most(self) -> int | None:
        """Tokens of all answers; None where nothing bounds them."""
        return self._most

    def long_rows(self) -> LongRows:
        """Tell of rows over the context."""
        return LongRows(self._num_long, self._context_window, list(self._long), self._num_cut)

    def input_tokens(self) -> InputTokens | None:
        """Tell what the prompts come to; None where nobody can count."""
        if self._model is None:
            return None
        per_row = self._num_drawn_tokens / self._num_drawn if self._num_drawn else 0.0
        if not self._num_drawn and self._num_counted:
            per_row = self._num_tokens / self._num_counted
        return InputTokens(
            total=self._num_tokens + round(self._num_passed * per_row),
            exact=not self._num_passed,
            counted_rows=self._num_counted,
            longest=self._longest,
        )

    def prefix_reuse(self) -> PrefixReuse | None:
        """Tell what prompts share with earlier ones, in whole blocks; None where nobody can."""
        if self._model is None:
            return None
        saved = max(0, self._num_blocks - self._blocks.num_distinct) * BLOCK_TOKENS
        return PrefixReuse(saved, self._num_block_tokens, self._num_block_rows)

    @property
    def _context_window(self) -> int | None:
        return None if self._model is None else self._model.context_window

    def _is_passed_over(self, num_bytes: int) -> bool:
        if self._model is None:
            return True
        if self._num_rows <= self._exact_rows or self._may_be_long(num_bytes):
            return False
        return self._chance.randrange(_ONE_OF) != 0

    def _may_be_long(self, num_bytes: int) -> bool:
        context_window = self._context_window
        return context_window is not None and num_bytes + _TEMPLATE_BYTES >= context_window

    def _count(self, num_tokens: int, num_bytes: int) -> None:
        self._num_counted += 1
        self._num_tokens += num_tokens
        self._longest = max(self._longest, num_tokens)
        if self._num_rows > self._exact_rows and not self._may_be_long(num_bytes):
            self._num_drawn += 1
            self._num_drawn_tokens += num_tokens

    def _is_too_long(self, num_tokens: int, wish: RowRequest) -> bool:
        room_for_output = int(wish.embed is None)
        context_window = self._context_window
        return context_window is not None and num_tokens + room_for_output > context_window

    def _add_answers(self, wish: RowRequest, num_tokens: int) -> None:
        """Count what a request may answer, beside so many tokens of its prompt at least."""
        if wish.embed is not None:
            return
        self._num_answers += wish.params.n
        context_window = self._context_window
        room = None if context_window is None else context_window - num_tokens
        wanted = wish.params.max_tokens
        if wanted is not None and room is not None and wanted > room:
            self._num_cut += 1
        most = min((each for each in (wanted, room) if each is not None), default=None)
        if most is None or self._most is None:
            self._most = None
        else:
            self._most += most * wish.params.n

    def _add_blocks(self, token_ids: tuple[int, ...], line: int) -> None:
        """Look which whole blocks came before, each with all that stood before it in its prompt.

        The last token is always computed, so a block that ends with it saves nothing.
        """
        self._num_block_rows += 1
        self._num_block_tokens += len(token_ids)
        data = memoryview(array("I", token_ids).tobytes())
        parent = b""
        for start in range(0, len(data) - _BLOCK_BYTES, _BLOCK_BYTES):
            digest = digest_of(parent + data[start : start + _BLOCK_BYTES])
            self._num_blocks += 1
            self._blocks.add(digest, line)
            parent = digest.to_bytes(8, "little")
