"""The lines that keep rows apart and right, and the tests that hold each. Facts only.

Add one whenever a line is written whose absence would be silent: wrong tokens, another tenant's
context, a leak. The line must stand once in its file; `without` is the file's text without the
safeguard, and must still run.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Safeguard:
    """One line, what stands in its place when it is taken out, and the tests that must notice."""

    name: str
    file: str
    line: str
    without: str
    tests: tuple[str, ...]


_BATCH = ("tests/engine/test_batch.py",)
_POOL = ("tests/engine/test_block_pool.py",)
_SCHEDULER = ("tests/engine/test_scheduler.py",)
_ROW_FAULTS = ("tests/engine/test_row_faults.py",)
_PREFIXES = ("tests/engine/test_prefix_forest.py",)
_SHARED_ATTENTION = ("tests/engine/test_shared_prefix_attention.py",)
_DETOKENIZER = ("tests/engine/test_detokenizer.py",)
_REFERENCE = ("tests/kernels/test_reference.py",)
_GRAMMAR = ("tests/engine/test_grammar.py",)
# What goes wrong between two steps in flight.
_FLIGHTS = ("tests/engine/test_in_flight.py",)
_DEVICE_ROWS = ("tests/engine/test_device_rows.py",)
_DEVICE_STEPS = ("tests/engine/test_device_steps.py",)
_CPU_ATTENTION = ("tests/kernels/test_cpu_ops.py", "-k", "attention")

SAFEGUARDS = (
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
    # -- attention
    Safeguard(
        "causal mask, specification",
        "kernels/reference.py",
        "hidden = seen > place\n",
        "hidden = seen > seen.max()\n",
        _REFERENCE,
    ),
    Safeguard(
        "window mask, specification",
        "kernels/reference.py",
        "hidden |= seen <= place - sliding_window",
        "hidden |= seen < place - sliding_window",
        _REFERENCE,
    ),
    Safeguard(
        "causal mask, CPU kernel",
        "kernels/cpu_attention.cpp",
        "high[r] = offset + (tile.first + r) / group + 1;",
        "high[r] = step.context_lens[tile.row];",
        _CPU_ATTENTION,
    ),
    Safeguard(
        "window mask, CPU kernel",
        "kernels/cpu_attention.cpp",
        "low[r] = step.window ? std::max(0, high[r] - step.window) : 0;",
        "low[r] = 0;",
        _CPU_ATTENTION,
    ),
    Safeguard(
        "soft cap of scores, CPU kernel",
        "kernels/cpu_attention.cpp",
        "        if (step.softcap)\n",
        "        if (false)\n",
        _CPU_ATTENTION,
    ),
    # -- steps that the device computes by itself
    Safeguard(
        "a buffer is not written to before its copy has ended",
        "engine/device_stream.py",
        "        buffer.fence.wait()\n",
        "",
        ("tests/engine/test_device_stream.py",),
    ),
    Safeguard(
        "a preempted row is placed on the device anew",
        "engine/device_rows.py",
        "return self.block_table is row.block_table and self.num_computed == row.position",
        "return self.num_computed == row.position",
        _DEVICE_ROWS,
    ),
    Safeguard(
        "a chunk that is not the last draws nothing on the device",
        "engine/device_rows.py",
        "num_known = end if is_drawn else end + 1",
        "num_known = end",
        _DEVICE_ROWS,
    ),
    Safeguard(
        "no row of a step loses its line to another of it",
        "engine/device_rows.py",
        "                self._line_of.move_to_end(part.sequence)\n",
        "                pass\n",
        _DEVICE_ROWS,
    ),
    Safeguard(
        "penalties are counted from every token, on the device",
        "engine/device_rows.py",
        "part.row.position if part.sequence.history is None else 0",
        "part.row.position",
        _DEVICE_ROWS,
    ),
    Safeguard(
        "the device forgets the rows of a step that failed",
        "engine/device_steps.py",
        "            self._rows.forget(parts)\n            raise\n",
        "            raise\n",
        _DEVICE_STEPS,
    ),
    Safeguard(
        "steps are captured over padding alone",
        "engine/device_steps.py",
        "        self._rows.clear_lines()\n",
        "",
        _DEVICE_STEPS,
    ),
    Safeguard(
        "padding is no row's line",
        "engine/device_rows.py",
        "wanted = np.full(num_padded, PADDING)",
        "wanted = np.full(num_padded, 0)",
        _DEVICE_ROWS,
    ),
    Safeguard(
        "what the host drew is put where the device awaits it",
        "engine/step_launcher.py",
        "            parts = fill_in(parts, self._newest.results[-1])\n",
        "            pass\n",
        _DEVICE_STEPS,
    ),
    Safeguard(
        "a step begins before the one before it is read",
        "engine/step_launcher.py",
        "        begun = self._begin_on_device(step)\n",
        "        self._newest.finish()\n        begun = self._begin_on_device(step)\n",
        _DEVICE_STEPS,
    ),
    Safeguard(
        "penalties that the host counts know of the token in flight",
        "engine/step_launcher.py",
        "part.sequence.with_token(part.row.token_ids[0], part.row.position)",
        "part.sequence",
        _DEVICE_STEPS,
    ),
    Safeguard(
        "a row that ended is left out by the host",
        "engine/step_launcher.py",
        "token_id is not None and not part.sequence.ends_with(token_id, part.place - 1)",
        "token_id is not None",
        _FLIGHTS,
    ),
    # -- rows that share prefixes
    Safeguard(
        "equal blocks behind other blocks are no common prefix",
        "engine/prefix_forest.py",
        "segment = (parent, *row.block_table[begin : begin + self._segment])",
        "segment = (*row.block_table[begin : begin + self._segment],)",
        _PREFIXES,
    ),
    Safeguard(
        "groups are sent again when other rows are in them",
        "engine/device_prefixes.py",
        "[] if found is self._there else",
        "[] if self._there is not None else",
        _SHARED_ATTENTION,
    ),
    Safeguard(
        "a step is captured without the groups of the one before",
        "engine/device_prefixes.py",
        "        self.groups.memory.zero_()\n",
        "        pass\n",
        _SHARED_ATTENTION,
    ),
    Safeguard(
        "groups end where some of their rows leave a turn",
        "engine/batch.py",
        "batch.prefix_groups if whole else None",
        "batch.prefix_groups",
        _BATCH,
    ),
    # -- 8-bit products
    Safeguard(
        "what was added to make bytes unsigned is taken off again",
        "kernels/cpu_int8.cpp",
        "sums[n] - ZERO * weight_sums[first + n]",
        "sums[n]",
        ("tests/kernels/test_cpu_quantized.py",),
    ),
)
