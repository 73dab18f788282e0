"""The lines that keep rows apart and right in the engine, and the tests that hold each."""

from .safeguard import Safeguard

_BATCH = ("tests/engine/test_batch.py",)
_POOL = ("tests/engine/test_block_pool.py",)
_SCHEDULER = ("tests/engine/test_scheduler.py",)
_ROW_FAULTS = ("tests/engine/test_row_faults.py",)
_DETOKENIZER = ("tests/engine/test_detokenizer.py",)
_GRAMMAR = ("tests/engine/test_grammar.py",)
# What goes wrong between two steps in flight.
_FLIGHTS = ("tests/engine/test_in_flight.py",)

ENGINE_SAFEGUARDS = (
    # -- blocks: who holds them, and who may find them
    Safeguard(
        "refcount of a shared block",
        "engine/block_pool.py",
        "            self._ref_counts[block] += 1\n",
        "            self._ref_counts[block] = 1\n",
        _POOL,
    ),
    Safeguard(
        "chain of hashes: the parent",
        "engine/block_pool.py",
        "blake2b(parent + packed[end - stride : end]",
        "blake2b(packed[end - stride : end]",
        _POOL,
    ),
    Safeguard(
        "salt of the prefix cache",
        "engine/block_pool.py",
        "for part in (model, salt):",
        "for part in (model,):",
        _POOL,
    ),
    Safeguard(
        "model in the prefix cache",
        "engine/block_pool.py",
        "for part in (model, salt):",
        "for part in (salt,):",
        _POOL,
    ),
    Safeguard(
        "an evicted block loses its name",
        "engine/block_pool.py",
        "block, _ = self._cached.popitem(last=False)\n            self._unpublish(block)",
        "block, _ = self._cached.popitem(last=False)",
        _POOL,
    ),
    Safeguard(
        "the null block is never handed out",
        "engine/block_pool.py",
        "range(num_blocks - 1, NULL_BLOCK, -1)",
        "range(num_blocks - 1, NULL_BLOCK - 1, -1)",
        _POOL,
    ),
    Safeguard(
        "the tail of a row is evicted first",
        "engine/block_pool.py",
        "for block in reversed(blocks):",
        "for block in blocks:",
        _POOL,
    ),
    Safeguard(
        "the fence around what a step in flight writes to",
        "engine/block_pool.py",
        "if last_step > self._last_ended:",
        "if last_step > self._last_ended and not blocks:",
        _FLIGHTS,
    ),
    Safeguard(
        "a faulty row's blocks are withdrawn",
        "engine/shared_prefixes.py",
        "        self._pool.forget(sequence.block_table)\n",
        "        pass\n",
        _ROW_FAULTS,
    ),
    # -- who computes what
    Safeguard(
        "the last token is always computed",
        "engine/shared_prefixes.py",
        "(len(sequence.token_ids) - 1) // block_size\n        hashes = sequence.hash_full_blocks",
        "len(sequence.token_ids) // block_size\n        hashes = sequence.hash_full_blocks",
        _SCHEDULER,
    ),
    Safeguard(
        "a preempted row keeps its tokens",
        "engine/scheduler.py",
        "        self._waiting.put_back(sequence)\n        self.num_preemptions += 1\n",
        "        self._waiting.put_back(sequence)\n        self.num_preemptions += 1\n"
        "        del sequence.token_ids[sequence.num_prompt :]\n",
        _SCHEDULER,
    ),
    Safeguard(
        "a row's blocks are fenced for its last step",
        "engine/scheduler.py",
        "self._pool.free(sequence.block_table, sequence.last_step)",
        "self._pool.free(sequence.block_table)",
        _FLIGHTS,
    ),
    Safeguard(
        "only what is computed is shared",
        "engine/shared_prefixes.py",
        "num_full = part.end // block_size",
        "num_full = len(sequence.token_ids) // block_size",
        _SCHEDULER,
    ),
    Safeguard(
        "what a row tells of its prompt is computed, not found",
        "engine/shared_prefixes.py",
        "return [] if sequence.lacks_prompt_outputs else self._pool.find(hashes)",
        "return self._pool.find(hashes)",
        ("tests/engine/test_prompt_logprobs.py",),
    ),
    Safeguard(
        "a choice that depends on the one before waits for it",
        "engine/sequence.py",
        "return not (depends_on_newest or self.lacks_prompt_outputs)",
        "return not self.lacks_prompt_outputs",
        ("tests/engine/test_logit_rules.py",),
    ),
    Safeguard(
        "a row that ended in flight gains nothing more",
        "engine/engine.py",
        "            if sequence.status is SequenceStatus.FINISHED:\n                continue\n",
        "",
        _FLIGHTS,
    ),
    Safeguard(
        "a row waits for its token in flight before it is let in again",
        "engine/scheduler.py",
        "                or sequence.num_pending\n",
        "",
        _FLIGHTS,
    ),
    Safeguard(
        "blocks that were given back are not published",
        "engine/shared_prefixes.py",
        " and part.row.block_table is sequence.block_table",
        "",
        _FLIGHTS,
    ),
    Safeguard(
        "a row that ended in flight is computed no further",
        "engine/step_launcher.py",
        " and not part.sequence.ends_with(token_id, part.place - 1)",
        "",
        _FLIGHTS,
    ),
    Safeguard(
        "only steps that give every row a token are repeated",
        "engine/repeats.py",
        "row.num_computed + 1 == row.num_known and ",
        "",
        _FLIGHTS,
    ),
    # -- the flat step
    Safeguard(
        "a row's slots follow its block table",
        "engine/batch.py",
        "slots += positions % block_size",
        "slots += np.arange(num_tokens) % block_size",
        _BATCH,
    ),
    Safeguard(
        "unused places of a block table are the null block",
        "engine/batch.py",
        "block_tables = np.zeros((len(rows),",
        "block_tables = np.ones((len(rows),",
        _BATCH,
    ),
    # -- forms
    Safeguard(
        "a grammar masks its rows",
        "engine/grammar.py",
        "        logits[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)\n",
        "        pass\n",
        _GRAMMAR,
    ),
    Safeguard(
        "a grammar knows what ends a text",
        "engine/grammar.py",
        "eos_token=ending or None",
        "eos_token=None",
        _GRAMMAR,
    ),
    Safeguard(
        "tokens move their grammar on",
        "engine/sequence.py",
        "            self.matcher.advance(token_id)\n",
        "            pass\n",
        _GRAMMAR,
    ),
    # -- text
    Safeguard(
        "what may become a stop string is held back",
        "engine/detokenizer.py",
        "        self._tail = text[len(text) - held :]\n",
        "        held = 0\n        self._tail = text[len(text) - held :]\n",
        _DETOKENIZER,
    ),
    Safeguard(
        "the stop string that is complete first ends",
        "engine/detokenizer.py",
        "_, start, stop = min(ends)",
        "_, start, stop = max(ends)",
        _DETOKENIZER,
    ),
    Safeguard(
        "half a character waits for its other half",
        "engine/detokenizer.py",
        "is_whole = text and not text.endswith(_REPLACEMENT)",
        "is_whole = bool(text)",
        _DETOKENIZER,
    ),
)
