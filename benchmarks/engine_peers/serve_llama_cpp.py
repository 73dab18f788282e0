"""llama.cpp as a contender, driven through its batch interface, in its own environment.

Its server works in the same way: each step decodes one batch in which every running row has its
newest token and waiting prompts fill what is left. The greedy choice is made by numpy here.

python serve_llama_cpp.py MODEL_FILE THREADS
"""

import os
import sys
from dataclasses import dataclass
from typing import Any

from serving import Run, serve
from work import Work

_MAX_ROWS = 64
_ROW_TOKENS = 512
_BATCH_TOKENS = 2048


@dataclass
class _Row:
    """One prompt under way: `tokens` are known, the first `num_computed` of them computed."""

    number: int
    tokens: list[int]
    end: int
    num_computed: int = 0

    @property
    def is_unfinished(self) -> bool:
        return len(self.tokens) < self.end

    @property
    def is_prefilling(self) -> bool:
        return len(self.tokens) - self.num_computed > 1


def load(file: str, num_threads: str) -> Run:
    """Load a GGUF file that fits the work: 64 rows of up to 512 tokens."""
    import llama_cpp as lib  # pyright: ignore[reportMissingImports]

    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(os.fsencode(file), lib.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {file}; what it said stands above")
    settings = lib.llama_context_default_params()
    settings.n_ctx = _MAX_ROWS * _ROW_TOKENS
    settings.n_seq_max = _MAX_ROWS
    settings.n_batch = _BATCH_TOKENS
    settings.n_threads = settings.n_threads_batch = int(num_threads)
    context = lib.llama_init_from_model(model, settings)
    if not context:
        raise RuntimeError("llama.cpp cannot make a context; what it said stands above")
    vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    batch = lib.llama_batch_init(_BATCH_TOKENS, 0, 1)

    def run(work: Work) -> list[list[int]]:
        lib.llama_memory_clear(lib.llama_get_memory(context), False)
        rows = [
            _Row(number, [*prompt], len(prompt) + length)
            for number, (prompt, length) in enumerate(zip(work.prompts, work.lengths, strict=True))
        ]
        while unfinished := [row for row in rows if row.is_unfinished]:
            unfinished.sort(key=lambda row: row.is_prefilling)  # those that generate come first
            _step(lib, context, batch, vocab_size, unfinished)
        return [row.tokens[-length:] for row, length in zip(rows, work.lengths, strict=True)]

    return run


def _step(lib: Any, context: Any, batch: Any, vocab_size: int, rows: list[_Row]) -> None:
    """Decode one batch and add a token to each row that has caught up."""
    import numpy as np

    place = 0
    caught_up: list[tuple[int, _Row]] = []  # the place of its newest token, and the row
    for row in rows:
        fresh = row.tokens[row.num_computed :][: _BATCH_TOKENS - place]
        for offset, token_id in enumerate(fresh):
            batch.token[place] = token_id
            batch.pos[place] = row.num_computed + offset
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = row.number
            batch.logits[place] = 0
            place += 1
        row.num_computed += len(fresh)
        if fresh and row.num_computed == len(row.tokens):
            batch.logits[place - 1] = 1
            caught_up.append((place - 1, row))
    batch.n_tokens = place
    status = lib.llama_decode(context, batch)
    if status:
        raise RuntimeError(f"llama_decode returned {status}")
    for last, row in caught_up:
        logits = lib.llama_get_logits_ith(context, last)
        row.tokens.append(int(np.ctypeslib.as_array(logits, (vocab_size,)).argmax()))


if __name__ == "__main__":
    serve(lambda: load(*sys.argv[1:]))
