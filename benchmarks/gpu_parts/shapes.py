"""Models of random weights in known shapes, their work, and the least time that a GPU needs for it.

The work is nano-vllm's: prompts of 100 to 1,024 random tokens, answers of as many, seed 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from penstock.api import planner_roofline
from penstock.api.hardware import NumberType
from penstock.api.planner_roofline import Numbers, Roofline
from penstock.api.planner_shape import read_shape
from penstock.engine import runner
from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine

NOMINAL_BYTES_PER_S, NOMINAL_OPERATIONS_PER_S = 4.3e12, 790e12  # an H200's copies and products
TINY = {"vocab_size": 600, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
TINY_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
LIKE_A_GPU = ("device_steps", "cuda_graphs", "async_steps", "shared_prefix_attention")
LLAMA_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, as transformers describes them."""

    config_class: Any
    architecture: str
    sizes: dict[str, Any]

    def config(self, tiny: bool, num_layers: int | None = None) -> Any:
        sizes = {**self.sizes, **(TINY | TINY_HEADS if tiny else {})}
        if num_layers is not None:
            sizes["num_hidden_layers"] = num_layers
        return self.config_class(
            **sizes,
            architectures=[self.architecture],
            dtype="float32" if tiny else "bfloat16",
            max_position_embeddings=2048 if tiny else 32768,
            bos_token_id=0,
            eos_token_id=0,
        )


SHAPES = {
    "Qwen2.5-0.5B": Shape(
        Qwen2Config,
        "Qwen2ForCausalLM",
        {
            "vocab_size": 151936,
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": True,
        },
    ),
    "Qwen3-0.6B": Shape(
        Qwen3Config,
        "Qwen3ForCausalLM",
        {
            "vocab_size": 151936,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "tie_word_embeddings": True,
        },
    ),
    "Llama-3.1-8B": Shape(
        LlamaConfig,
        "LlamaForCausalLM",
        {
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rope_parameters": LLAMA_ROPE,
            "tie_word_embeddings": False,
        },
    ),
}


def save_model(shape: Shape, directory: Path, *, tiny: bool, num_layers: int | None = None) -> Path:
    """Write a checkpoint without weights: a configuration, and a tokenizer of single bytes."""
    shape.config(tiny, num_layers).save_pretrained(directory)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytes_only).save_pretrained(directory)
    return directory


class RandomWeights:
    """Stands where a checkpoint's files would: any tensor that is asked for, at random."""

    device = torch.device("cpu")

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __contains__(self, name: str) -> bool:
        return False

    def require(self, tensors: object) -> None: ...

    def ignore(self, names: Iterable[str]) -> None: ...

    def ignore_parts(self, prefixes: tuple[str, ...]) -> None: ...

    def require_all_read(self) -> None: ...

    def read(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if "norm" in name:
            return torch.ones(shape, dtype=dtype, device=self.device)
        return torch.empty(shape, dtype=dtype, device=self.device).normal_(std=0.02)


def make_engine(directory: Path, device: torch.device, **options: Any) -> Engine:
    """An engine on random weights, made where they are needed.

    On a CPU it goes the ways of a GPU, so that these are tried there too.
    """
    RandomWeights.device = device
    if device.type == "cpu":
        options = dict.fromkeys(LIKE_A_GPU, True) | options
    runner.Checkpoint = RandomWeights  # pyright: ignore[reportAttributeAccessIssue]
    config = EngineConfig(
        model=str(directory), device=str(device), **{"enable_prefix_caching": False, **options}
    )
    return Engine(config, reserved_interactive_seqs=0)


@dataclass(frozen=True)
class Work:
    prompts: list[tuple[int, ...]]
    lengths: list[int]

    @classmethod
    def of(cls, num_requests: int, *, tiny: bool, longest: int = 1024) -> Self:
        low, high, vocab = (4, 20, 500) if tiny else (100, longest, 10000)
        chance = Random(0)
        prompts = [
            tuple(chance.randint(0, vocab) for _ in range(chance.randint(low, high)))
            for _ in range(num_requests)
        ]
        return cls(prompts, [chance.randint(low, high) for _ in range(num_requests)])


def least_seconds(
    config: Any,
    work: Work,
    bytes_per_s: float = NOMINAL_BYTES_PER_S,
    operations_per_s: float = NOMINAL_OPERATIONS_PER_S,
    cache_itemsize: int = 2,
) -> float:
    """Return what weights, keys, values, logits and products take at these rates, and no more.

    The arithmetic is the planner's. All rows run at once.
    """
    bf16 = NumberType.BF16
    roofline = Roofline(
        shape=read_shape(config.to_dict(), "random"),
        numbers=Numbers(layers=bf16, others=bf16, cache_bytes=cache_itemsize),
        bytes_per_s=bytes_per_s,
        layer_operations_per_s=operations_per_s,
        other_operations_per_s=operations_per_s,
    )
    return planner_roofline.least_seconds(roofline, [*map(len, work.prompts)], work.lengths)
