"""The lines of steps that a device computes by itself, and the tests that hold each. Facts only."""

from .safeguard import Safeguard

_BATCH = ("tests/engine/test_batch.py",)
_PREFIXES = ("tests/engine/test_prefix_forest.py",)
_SHARED_ATTENTION = ("tests/engine/test_shared_prefix_attention.py",)
_FLIGHTS = ("tests/engine/test_in_flight.py",)
_DEVICE_ROWS = ("tests/engine/test_device_rows.py",)
_DEVICE_STEPS = ("tests/engine/test_device_steps.py",)

DEVICE_SAFEGUARDS = (
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
)
