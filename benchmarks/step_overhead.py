"""What a step costs beside the model: microseconds per row, and the part of the cache that idles.

The model is made up: its logits are always the same tensor, so that what is measured is the
scheduler, the batch, the sampler and the outputs. In the last two modes all that a GPU would do by
itself is left out, so that what remains is what a replay of its graph would wait for. Run it on a
quiet machine:

    python benchmarks/step_overhead.py --rows 256
"""

import argparse
import json
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from penstock.engine import device_steps
from penstock.engine.batch import StepBatch
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.graphs import Replay, Tensors, Work
from penstock.engine.outputs import Request
from penstock.engine.sampling_params import SamplingParams
from penstock.engine.tokenizer import Tokenizer

VOCAB_SIZE = 128  # small, so that reading the logits costs nothing
PROMPT_TOKENS = 512
OUTPUT_TOKENS = 512


class Architecture:
    vocab_size = VOCAB_SIZE
    eos_token_ids = (2,)
    num_labels = 0
    max_position_embeddings = 1 << 20


class NoModel:
    """Answers at once, and knows how long that took."""

    is_capturable = True
    prefix_forest = None

    def __init__(self, num_blocks: int, block_size: int, max_rows: int) -> None:
        self.architecture: Any = Architecture()
        self.device = torch.device("cpu")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_model_len = 2 * (PROMPT_TOKENS + OUTPUT_TOKENS)
        self.spent_s = 0.0
        self._logits = torch.rand(max_rows, VOCAB_SIZE)

    def execute(self, batch: StepBatch) -> torch.Tensor:
        return self._logits[: len(batch.logit_rows)]


class Elsewhere:
    """Captures steps for a device that does them at once and costs the host nothing."""

    def __call__(self, work: Work) -> Replay:
        return _Nothing(work())


class _Nothing:
    def __init__(self, outputs: Tensors) -> None:
        self.outputs = outputs

    def __call__(self) -> None:
        """Start nothing."""


def engine(rows: int, block_size: int, **options: Any) -> Engine:
    num_blocks = rows * (PROMPT_TOKENS + OUTPUT_TOKENS) // block_size * 2
    config = EngineConfig(
        device="cpu", max_num_seqs=rows, max_num_batched_tokens=max(8192, rows), **options
    )
    tokenizer: Any = Tokenizer.from_directory(_demo_directory())
    runner: Any = NoModel(num_blocks, block_size, rows)
    return Engine(config, runner=runner, tokenizer=tokenizer, reserved_interactive_seqs=0)


def _demo_directory() -> Any:
    from penstock.engine.model_place import DEMO_MODEL, resolve_model

    return resolve_model(DEMO_MODEL)


def requests(rows: int) -> Iterator[Request]:
    generator = torch.Generator().manual_seed(0)
    params = SamplingParams(temperature=0, max_tokens=OUTPUT_TOKENS, ignore_eos=True)
    for number in range(rows):
        prompt = torch.randint(3, VOCAB_SIZE, (PROMPT_TOKENS,), generator=generator)
        yield Request(str(number), tuple(prompt.tolist()), params, stream_interval=0, job="job")


def measure(rows: int, block_size: int, **options: Any) -> dict[str, float]:
    """Return the median over turns in which every row is under way and nothing else happens."""
    target = engine(rows, block_size, **options)
    for request in requests(rows):
        target.add(request)
    while target.num_waiting or target.stats().generated_tokens < 2 * rows:
        target.step()
    per_row_us: list[float] = []
    waste: list[float] = []
    while target.num_running == rows:
        tokens = target.stats().generated_tokens
        started_s = time.process_time()
        target.step()
        spent_s = time.process_time() - started_s
        if gained := target.stats().generated_tokens - tokens:
            per_row_us.append(1e6 * spent_s / gained)
            waste.append(unused_fraction(target))
    return {"us_per_row": median(per_row_us), "kv_waste_percent": 100 * median(waste)}


def unused_fraction(target: Engine) -> float:
    """Return which part of the slots in running rows' blocks no token fills."""
    running = target._scheduler._running
    held = sum(len(row.block_table) for row in running) * target.runner.block_size
    filled = sum(row.num_computed for row in running)
    return 1 - filled / held if held else 0.0


def main() -> None:
    device_steps.capture_on = lambda device: Elsewhere()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--block-size", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    modes: dict[str, dict[str, Any]] = {
        "one step per turn": {"async_steps": False, "steps_per_turn": 1},
        "eight steps per turn": {"async_steps": False, "steps_per_turn": 8},
        "a step ahead": {"async_steps": True, "steps_per_turn": 1},
        "on the device": {"async_steps": False, "device_steps": True, "cuda_graphs": True},
        "on the device, a step ahead": {
            "async_steps": True,
            "device_steps": True,
            "cuda_graphs": True,
        },
    }
    print(
        f"{arguments.rows} rows of {PROMPT_TOKENS} + {OUTPUT_TOKENS} tokens, "
        f"blocks of {arguments.block_size}"
    )
    for name, options in modes.items():
        figures = measure(arguments.rows, arguments.block_size, **options)
        print(json.dumps({"mode": name} | {key: round(f, 2) for key, f in figures.items()}))


if __name__ == "__main__":
    main()
