"""Train the demo model that ships with Penstock, from nothing but the text it generates itself.

    python benchmarks/demo_model/train.py --out engine/demo_model --seed 0 --steps 2500

Knows the model's shape and its schedule. The same seed, number of steps and threads give the same
weights on the same kind of machine. Where other work runs too, OMP_WAIT_POLICY=passive in the
environment more than halves the time.
"""

import argparse
import math
import time
from itertools import islice
from pathlib import Path

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from penstock.benchmarks.demo_model.batches import TrainingBatch, pack
from penstock.benchmarks.demo_model.corpus import conversations, texts
from penstock.benchmarks.demo_model.tokenizer import (
    END_ID,
    MAX_LENGTH_TOKENS,
    PAD_ID,
    save_tokenizer,
    train_tokenizer,
)

NUM_ROWS = 16
ROW_LENGTH_TOKENS = 256
PEAK_LEARNING_RATE = 3e-3
NUM_WARMUP_STEPS = 100
NUM_PROBE_STEPS = 20  # to find out how many steps fit into --minutes
NUM_TOKENIZER_TEXTS = 50_000
NUM_STEPS_BETWEEN_EXPORTS = 250


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Make the untrained model: 1.8 million parameters, four layers, grouped-query attention."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=MAX_LENGTH_TOKENS,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return LlamaForCausalLM(config)


def build_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for embeddings and norms (Jordan et al., 2024)."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        torch.optim.Muon(
            matrices, lr=PEAK_LEARNING_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(rest, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def learning_rate(step: int, num_steps: int) -> float:
    """Rise for the first steps, then fall along a cosine to a fiftieth of the peak."""
    warmup = min(1.0, (step + 1) / NUM_WARMUP_STEPS)
    cosine = 0.51 + 0.49 * math.cos(math.pi * step / num_steps)
    return PEAK_LEARNING_RATE * warmup * cosine


def loss_of(model: LlamaForCausalLM, batch: TrainingBatch) -> Tensor:
    """Cross-entropy of the answers' tokens, by their weights; prompts are not predicted."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(
            input_ids=batch.token_ids,
            position_ids=batch.positions,
            attention_mask=batch.attention_mask,
            use_cache=False,
        ).last_hidden_state
        predicted = batch.weights > 0
        logits = model.lm_head(hidden[predicted])
    losses = functional.cross_entropy(logits.float(), batch.targets[predicted], reduction="none")
    weights = batch.weights[predicted]
    return (losses * weights).sum() / weights.sum()


def train_step(
    model: LlamaForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batch: TrainingBatch,
    learning_rate: float,
) -> float:
    """Take one step and return its loss."""
    loss = loss_of(model, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write a checkpoint that any `transformers` loads, its weights in bfloat16."""
    shipped = build_model(tokenizer)
    shipped.load_state_dict(model.state_dict())
    shipped.to(torch.bfloat16)  # pyright: ignore[reportArgumentType]
    shipped.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    shipped.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner only
    save_tokenizer(tokenizer, out)


def steps_in(minutes: float, seed: int, tokenizer: PreTrainedTokenizerFast) -> int:
    """Measure how many steps this machine takes in so many minutes, to the nearest hundred."""
    model = build_model(tokenizer)
    optimizers = build_optimizers(model)
    batches = pack(conversations(seed, tokenizer), NUM_ROWS, ROW_LENGTH_TOKENS)
    started_at = time.monotonic()
    for batch in islice(batches, NUM_PROBE_STEPS):
        train_step(model, optimizers, batch, 0.0)
    steps_per_s = NUM_PROBE_STEPS / (time.monotonic() - started_at)
    return max(100, round(minutes * 60 * steps_per_s / 100) * 100)


def train(out: Path, seed: int, num_steps: int, tokenizer: PreTrainedTokenizerFast) -> None:
    """Train for `num_steps`, writing the model to `out` every few hundred steps and at the end."""
    torch.manual_seed(seed)
    model = build_model(tokenizer)
    optimizers = build_optimizers(model)
    batches = pack(conversations(seed, tokenizer), NUM_ROWS, ROW_LENGTH_TOKENS)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        bar = progress.add_task("training", total=num_steps, loss=math.nan)
        smoothed = math.nan
        for step, batch in enumerate(islice(batches, num_steps)):
            loss = train_step(model, optimizers, batch, learning_rate(step, num_steps))
            smoothed = loss if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * loss
            progress.update(bar, advance=1, loss=smoothed)
            if (step + 1) % NUM_STEPS_BETWEEN_EXPORTS == 0 or step + 1 == num_steps:
                export(model, tokenizer, out)
                progress.console.log(f"step {step + 1}: loss {smoothed:.4f}, written to {out}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory to write the model to")
    parser.add_argument("--seed", type=int, default=0)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="how many steps to take")
    length.add_argument("--minutes", type=float, help="about how long to train")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    tokenizer = train_tokenizer(texts(arguments.seed, NUM_TOKENIZER_TEXTS))
    num_steps = arguments.steps or steps_in(arguments.minutes, arguments.seed, tokenizer)
    train(arguments.out, arguments.seed, num_steps, tokenizer)


if __name__ == "__main__":
    main()
