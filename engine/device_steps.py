"""Steps that the device lays out, computes, samples and takes in by itself.

Knows which steps it can serve, and starts them. Reads nothing back until somebody asks for what was
drawn, so the next step can be started before: its rows find their newest tokens in the tables.

    host      edits ───┐ start         edits ───┐ start                  read N
    device             inputs → decoder → head → sample → advance | inputs → ...
                       └─────────── one graph, if all rows ──────┘
                                    bring a single token

A step of single tokens is captured once for each number of rows and replayed, with padding on the
null block: line -1, slot -1, a context of one token. A step that has prompts is launched piece by
piece, its decode rows' tokens from the same tables. Capturing its products between the attentions
would spare some 250 of its 340 launches, about 2 ms of the host's time; but it is
launched while the step before is computed, and one of 512 prompt tokens beside 255 rows of 800
tokens keeps an H200 busy for some 7 ms (Qwen3-0.6B: 23 GB of cache read, 0.9 TFLOP), so nobody
would see them. It is otherwise for a few prompt tokens beside a few rows, whose steps take 2 ms.

There are no repeats: one step ahead hides the host as well as eight in a row would. 256 rows of the
smallest model that the figures are about take 6 ms a step on an H200 at 4.3 TB/s; the host's part,
some 3.3 microseconds a row (`benchmarks/step_overhead.py`), is 0.8 ms of that, and grows with the
rows as the cache that is read does. Eight in a row would be cut short by every row that ends.

Bytes sent per decode step: 12 for each row that gets a block, one in sixteen, and nothing else
while the same rows run; 12 for each row come back, and what log-probabilities take.
"""

import logging
from collections.abc import Sequence as Rows
from dataclasses import replace
from importlib.util import find_spec
from typing import Protocol, Self

import numpy as np
import torch

from ..kernels import reference_cache
from ..kernels.prefix_groups import PrefixGroups
from ..kernels.reference_cache import RowTables, StepInputs
from .batch import StepBatch
from .captured import Captured, StepKind, max_graphs
from .config import EngineConfig
from .device_prefixes import DevicePrefixes
from .device_rows import DeviceRows
from .device_sampler import DeviceSampler, Drawn, Needs, needs_of
from .device_stream import DeviceStream, Outbox, Reading, stream_of
from .device_tables import PADDING, DeviceTables
from .graphs import (
    LADDER,
    Capture,
    CaptureFailed,
    Replay,
    Tensors,
    Work,
    capture_on,
    captured_rows,
    captured_width,
)
from .started_step import StartedStep
from .step import NOT_DRAWN, StepPart
from .step_runner import Runner

log = logging.getLogger(__name__)


class StepKernels(Protocol):
    """What turns tables into a step's inputs, and takes in what it drew."""

    def step_inputs(
        self,
        tables: RowTables,
        lines: torch.Tensor,
        query_start: torch.Tensor,
        num_tokens: int,
        block_size: int,
    ) -> StepInputs:
        """See `reference_cache.step_inputs`."""
        ...

    def advance(
        self,
        tables: RowTables,
        lines: torch.Tensor,
        query_start: torch.Tensor,
        token_ids: torch.Tensor,
    ) -> None:
        """See `reference_cache.advance`."""
        ...


class DeviceSteps:
    """Starts steps on the device, one after the other.

    Attributes:
        num_capture_errors: captures that failed. There are none after the first.
    """

    def __init__(
        self,
        model: Runner,
        sampler: DeviceSampler,
        tables: DeviceTables,
        stream: DeviceStream,
        *,
        capture: Capture | None = None,
    ) -> None:
        self._model = model
        self._sampler = sampler
        self._tables = tables
        self._stream = stream
        self._capture = capture
        self._kernels = _kernels_for(model.device)
        self._rows = DeviceRows(tables, sampler, Outbox(stream, model.device))
        forest = model.prefix_forest
        self._prefixes = DevicePrefixes(forest, model.device) if forest else None
        self._numbers = torch.arange(tables.num_lines + 1, device=model.device)
        self._starts = self._numbers.int()
        self._max_rows = captured_rows(min(tables.num_lines, LADDER[-1])) or LADDER[0]
        self._captured = Captured(max_graphs(self._max_rows))
        self.num_capture_errors = 0

    @classmethod
    def of(cls, model: Runner, config: EngineConfig) -> Self:
        """Make the tables, the sampler and what captures, as `config` says."""
        max_rows = config.max_num_seqs
        tables = DeviceTables(
            num_lines=captured_rows(max_rows) or max_rows,
            max_tokens=model.max_model_len,
            block_size=model.block_size,
            device=model.device,
        )
        sampler = DeviceSampler(tables.rows, model.architecture.vocab_size)
        captures = config.cuda_graphs and model.is_capturable
        capture = capture_on(model.device) if captures else None
        return cls(model, sampler, tables, stream_of(model.device), capture=capture)

    def serves(self, parts: Rows[StepPart]) -> bool:
        """Whether all of a step can be done here: it is done here as a whole, or not at all."""
        return all(self._sampler.serves(part.sequence) and not part.due for part in parts)

    @torch.inference_mode()
    def begin(self, parts: Rows[StepPart]) -> StartedStep:
        """Start a step of at least one row, and return at once.

        Raises:
            CannotServe: the rows ask for more room than there is, or for tokens drawn elsewhere.
            Exception: the step could not be started. The device has forgotten its rows.
        """
        try:
            kind = self._kind_of(parts)
            found = kind and self._find(kind)
            drawn = self._replay(parts, *found) if found else self._launch(parts)
            return StartedStep(parts, [Reading(self._stream, tensor) for tensor in drawn])
        except BaseException:
            self._rows.forget(parts)
            raise

    # -- padding alone --------------------------------------------------------------------------

    @property
    def has_prefixes(self) -> bool:
        """Whether attention may be told of prefixes that rows share."""
        return self._prefixes is not None

    def narrowest(self, num_rows: int) -> StepKind:
        """Return the kind of greedy steps of so many short rows."""
        width = captured_width(1, self._tables.max_blocks)
        return StepKind(num_rows, width, Needs.NOTHING, has_groups=False)

    @torch.inference_mode()
    def capture_padding(self, kind: StepKind) -> None:
        """Capture a step of a kind, if there is none and such can be captured."""
        if self._capture is not None and not self._captured.has(kind):
            self._try_capture(kind, self._capture)

    @torch.inference_mode()
    def launch_padding(self, kind: StepKind, num_prompt_tokens: int) -> None:
        """Launch a step of a kind, whose last row brings so many tokens more."""
        room = min(kind.width * self._model.block_size, self._model.max_model_len) - 1
        self._padding(kind, min(num_prompt_tokens, room))()

    # -- single tokens ------------------------------------------------------------------------

    def _kind_of(self, parts: Rows[StepPart]) -> StepKind | None:
        """Return what a replay of a step must have room for; None if such are not captured."""
        num_padded = captured_rows(len(parts))
        if not (self._capture or len(self._captured)) or num_padded is None:
            return None
        if any(len(part.row.token_ids) != 1 for part in parts):
            return None
        needs = needs_of(part.sequence for part in parts)
        return StepKind(num_padded, self._width(parts), needs, self._shared_by(parts) is not None)

    def _find(self, kind: StepKind) -> tuple[StepKind, Replay] | None:
        """Return a replay that covers a step, captured if it is time; None to launch the step."""
        found = self._captured.find(kind, is_last_word=self._capture is None)
        if found is not None or self._capture is None or not self._captured.is_due(kind):
            return found
        replay = self._try_capture(kind, self._capture)
        return None if replay is None else (kind, replay)

    def _try_capture(self, kind: StepKind, capture: Capture) -> Replay | None:
        """Capture a step of a kind; None if that fails, and then no more are captured."""
        try:
            return self._capture_for(kind, capture)
        except CaptureFailed as error:
            log.warning(
                "no more steps are captured; those that no graph covers are launched piece by "
                "piece from now on: %s",
                error,
                exc_info=error,
            )
            self.num_capture_errors += 1
            self._capture = None
            return None

    def _replay(self, parts: Rows[StepPart], kind: StepKind, replay: Replay) -> Tensors:
        shared = self._shared_by(parts)  # only now, for capturing has cleared what was there
        self._take(shared, self._rows.send(parts, kind.num_rows, *(shared or ())))
        replay()
        return replay.outputs

    def _capture_for(self, kind: StepKind, capture: Capture) -> Replay:
        """Capture a step of a kind; before the first that has so much of all else, the most rows.

        Graphs share memory, and where a smaller one has left pieces a larger one finds no room: if
        they came in order of size, those of 256 rows and 152,000 logits would take 4 GB, not 0.3.
        """
        if kind.num_rows < self._max_rows and not self._captured.has_seen(kind):
            largest = replace(kind, num_rows=self._max_rows)
            self._captured.keep(largest, self._capture_step(largest, capture))
        replay = self._capture_step(kind, capture)
        self._captured.keep(kind, replay)
        return replay

    def _capture_step(self, kind: StepKind, capture: Capture) -> Replay:
        """Capture a step of padding alone."""
        return capture(self._padding(kind))

    def _padding(self, kind: StepKind, num_prompt_tokens: int = 0) -> Work:
        """Return a step of padding alone: it writes nowhere, and no row advances."""
        num_rows, width, needs = kind.num_rows, kind.width, kind.needs
        num_tokens = num_rows + num_prompt_tokens
        self._rows.clear_lines()
        tables, lines = self._tables.leading(width), self._tables.lines[:num_rows]
        starts, logit_rows = self._starts[: num_rows + 1], self._numbers[:num_rows]
        if num_prompt_tokens:
            starts = starts.clone()
            starts[-1] = num_tokens
            logit_rows = starts[1:].long() - 1
        longest = min(width * self._model.block_size, self._model.max_model_len)
        groups = None
        if self._prefixes and kind.has_groups:
            self._prefixes.clear()
            groups = self._prefixes.groups

        def work() -> Tensors:
            inputs = self._inputs(tables, lines, starts, num_tokens)
            batch = _batch(inputs, starts, logit_rows, longest, groups)
            drawn = self._sampler.sample(self._model.execute(batch), lines, needs)
            self._kernels.advance(tables, lines, starts, drawn.token_ids)
            return _tensors(drawn)

        return work

    # -- prompts too --------------------------------------------------------------------------

    def _launch(self, parts: Rows[StepPart]) -> Tensors:
        """Launch a step; a row in the middle of its prompt draws too, as if it were padding.

        One row of logits too many costs less than telling apart rows and rows that draw.
        """
        num_rows, tables = len(parts), self._tables.leading(self._width(parts))
        ends = np.cumsum([len(part.row.token_ids) for part in parts])
        draws = [part.place != NOT_DRAWN for part in parts]
        layout = torch.from_numpy(np.concatenate([[0], ends, ends - 1, draws]))
        shared = self._shared_by(parts)
        sent, *arrived = self._rows.send(parts, num_rows, layout, *(shared or ()))
        groups = self._take(shared, arrived)
        starts, logit_rows, are_drawn = sent.split([num_rows + 1, num_rows, num_rows])
        lines, starts = self._tables.lines[:num_rows], starts.int()
        inputs = self._inputs(tables, lines, starts, int(ends[-1]))
        batch = _batch(inputs, starts, logit_rows, max(part.end for part in parts), groups)
        drawn = self._sampler.sample(
            self._model.execute(batch),
            lines.where(are_drawn.bool(), PADDING),
            needs_of(part.sequence for part in parts),
        )
        self._kernels.advance(tables, lines, starts, drawn.token_ids)
        return _tensors(drawn)

    def _shared_by(self, parts: Rows[StepPart]) -> list[torch.Tensor] | None:
        """Return what is to be sent of the rows' shared prefixes; None if they have none."""
        return self._prefixes.find([part.row for part in parts]) if self._prefixes else None

    def _take(
        self, shared: list[torch.Tensor] | None, arrived: Rows[torch.Tensor]
    ) -> PrefixGroups | None:
        return None if self._prefixes is None or shared is None else self._prefixes.take(arrived)

    def _width(self, parts: Rows[StepPart]) -> int:
        num_blocks = -(-max(part.end for part in parts) // self._model.block_size)
        return captured_width(num_blocks, self._tables.max_blocks)

    def _inputs(
        self, tables: RowTables, lines: torch.Tensor, starts: torch.Tensor, num_tokens: int
    ) -> StepInputs:
        block_size = self._model.block_size
        return self._kernels.step_inputs(tables, lines, starts, num_tokens, block_size)


def _tensors(drawn: Drawn) -> Tensors:
    found = drawn.logprobs
    more = (found.of_chosen, found.values, found.token_ids) if found else ()
    return (drawn.token_ids, drawn.scores, *more)


def _batch(
    inputs: StepInputs,
    starts: torch.Tensor,
    logit_rows: torch.Tensor,
    longest: int,
    groups: PrefixGroups | None,
) -> StepBatch:
    return StepBatch(
        token_ids=inputs.token_ids,
        positions=inputs.positions,
        slots=inputs.slots,
        query_start=starts,
        context_lens=inputs.context_lens,
        block_tables=inputs.block_tables,
        logit_rows=logit_rows,
        max_context_len=longest,
        prefix_groups=groups,
    )


def _kernels_for(device: torch.device) -> StepKernels:
    if device.type == "cuda" and find_spec("triton"):
        from ..kernels import triton_step  # and with it Triton, for which a CPU has no use

        return triton_step
    return reference_cache
