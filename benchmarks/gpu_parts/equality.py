"""The engine on the GPU gives the tokens and the logits that transformers gives there."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from part import Part
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from penstock.engine.batch import ScheduledRow, build_step_batch
from penstock.engine.config import EngineConfig
from penstock.engine.runner import ModelRunner

SMALL: dict[str, Any] = {
    "vocab_size": 500,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 128}),
    "mistral, window": (MistralConfig, {"sliding_window": 48}),
    "gemma2": (Gemma2Config, {"sliding_window": 48, "attn_logit_softcapping": 5.0}),
}


def logits_of(
    part: Part, directory: Path, prompt: list[int], dtype: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of some tokens, and which: the last of chunks, then each by itself."""
    runner = ModelRunner(
        EngineConfig(model=str(directory), device=str(part.device), dtype=dtype, kv_cache_gb=0.05)
    )
    found, begin = [], 0
    ends = [*range(150, len(prompt) - 5, 150), *range(len(prompt) - 5, len(prompt) + 1)]
    for end in ends:
        table = list(range(1, 2 + len(prompt) // runner.block_size))
        row = ScheduledRow(prompt[begin:end], begin, table)
        found.append(runner.execute(build_step_batch([row], runner.block_size, runner.device)))
        begin = end
    return torch.cat(found), torch.tensor(ends) - 1


def compare(part: Part, config_class: Any, options: dict[str, Any], dtype: str) -> dict[str, Any]:
    config = config_class(**{**SMALL, **options})
    torch.manual_seed(part.seed)
    prompt = torch.randint(3, 500, (61 if part.tiny else 700,)).tolist()
    with tempfile.TemporaryDirectory() as directory:
        made: Any = AutoModelForCausalLM.from_config(config)
        made.to(getattr(torch, dtype)).save_pretrained(directory)
        judge: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, attn_implementation="eager"
        )
        with torch.inference_mode():
            expected = judge.to(part.device)(torch.tensor([prompt], device=part.device)).logits[0]
        found, places = logits_of(part, Path(directory), prompt, dtype)
    expected = expected[places.to(part.device)].float()
    difference = float((found - expected).abs().max())
    cosine = float(torch.cosine_similarity(found, expected).min())
    gaps = expected.topk(2, dim=-1).values
    decided = gaps[:, 0] - gaps[:, 1] > (1e-3 if dtype == "float32" else 0.1)
    same = bool((found.argmax(-1) == expected.argmax(-1))[decided].all())
    near = difference < 1e-3 if dtype == "float32" else cosine > 0.999
    return {"largest_difference": difference, "cosine": cosine, "passed": near and same}


if __name__ == "__main__":
    part = Part.from_command_line()
    torch.backends.cuda.matmul.allow_tf32 = False
    for dtype in ("float32", "bfloat16"):
        for name, (config_class, options) in CASES.items():
            part.attempt(f"{name} {dtype}", partial(compare, part, config_class, options, dtype))
