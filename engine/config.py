"""What the user chose for one engine. Knows this machine's devices; refuses to look at a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from .model_place import DEMO_MODEL

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8")
KV_CACHE_DTYPES = ("auto", "fp8_e4m3")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """One engine's settings, checked once. Where 0 or None stands, this machine decides.

    Attributes:
        model: a directory, a GGUF file, a Hugging Face id, or "penstock-demo", the model in this
            package.
        model_name: the name clients use; the model's own by default.
        dtype: "auto" takes the checkpoint's type on CUDA. On a CPU it takes bfloat16 where the
            checkpoint is bfloat16, larger than 1 GiB in float32, and the CPU multiplies bfloat16
            itself; else float32.
        quantization: "int8" keeps the weights of layers in 8-bit whole numbers, a scale for each
            output, and multiplies activations as such, a scale for each token; embeddings and the
            head stay as they are. Half of bfloat16's memory; only on a CPU.
        device: "auto" takes the first CUDA device, else the CPU.
        max_num_seqs: rows in one step at most; 0 means 256 on CUDA, 64 on a CPU.
        max_num_batched_tokens: tokens in one step at most; 0 means 8192 on CUDA. On a CPU it means
            512, whose activations stay in its caches, or as many as rows.
        block_size: tokens per cache block.
        kv_cache_gb: size of the key-value cache in GiB. None takes what the weights leave of a
            GPU; on a CPU what `max_num_seqs` rows can use, up to 4 and a quarter of what is free.
        kv_cache_dtype: "auto" keeps keys and values in the model's type. "fp8_e4m3" takes eight-bit
            floats, with the checkpoint's scales if it has any: half the memory, so twice the
            tokens, for a little accuracy. On CUDA from compute capability 8.9; on a CPU it works,
            but slowly.
        max_model_len: tokens per row at most, prompt and output; the model's own limit by default.
        enable_prefix_caching: let rows share blocks of equal prefixes.
        shared_prefix_attention: read the keys of a prefix that rows of a step share once for all of
            them, where that pays; "auto" does on CUDA. Kernels of the CPU take no notice.
        async_steps: schedule a step while the one before it is computed; "auto" does on CUDA.
        device_steps: let the device lay out, compute and sample steps by itself, so that a step can
            be started before the one before it is read; "auto" does on CUDA. A CPU does it too,
            with the same tokens, and gains nothing. A step with a row that has a grammar, bad words
            of several tokens, or pooling, or that computes a prompt of which log-probabilities are
            wanted, is the host's as a whole: it is launched piece by piece, without graphs, and
            read before the next begins. `EngineStats.host_steps` counts them.
        cuda_graphs: capture the steps that bring a single token for each row, and replay them; with
            `device_steps` only. "auto" does on CUDA; a CPU repeats the work instead. The commonest
            are captured at load, the others as they come up, up to as many as memory is kept for.
        steps_per_turn: tokens that are drawn in a row, at most, where nothing asks for a look at
            each: no stream, no stop string, nobody who could start. With `device_steps` it is
            always 1: the next step is started meanwhile anyway.
        num_threads: CPU threads of the model; None for one per core that this process may use.
            PyTorch itself is often held to one, see `kernels.ops.pytorch_threads`.
        seed: the seed of rows that bring none.
        grammar_timeout_s: for how long a row's `structured_outputs` may be compiled, before the row
            ends with an error. Other rows run meanwhile.

    Raises:
        ValueError: a value is out of range.
    """

    model: str = DEMO_MODEL
    model_name: str = ""
    dtype: str = "auto"
    quantization: str = "none"
    device: str = "auto"
    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0
    block_size: int = 16
    kv_cache_gb: float | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    enable_prefix_caching: bool = True
    shared_prefix_attention: bool | Literal["auto"] = "auto"
    async_steps: bool | Literal["auto"] = "auto"
    device_steps: bool | Literal["auto"] = "auto"
    cuda_graphs: bool | Literal["auto"] = "auto"
    steps_per_turn: int = 8
    num_threads: int | None = None
    seed: int = 0
    grammar_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        """Fill in what this machine decides, then check everything."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        object.__setattr__(self, "device", device_of(self.device))
        on_cuda = torch.device(self.device).type == "cuda"
        if self.quantization not in QUANTIZATIONS:
            known = ", ".join(QUANTIZATIONS)
            raise ValueError(f"quantization must be one of {known}, got {self.quantization!r}")
        if self.quantization != "none" and on_cuda:
            raise ValueError(
                f"quantization must be none on {self.device}, got {self.quantization!r}; "
                'it is offered with device="cpu"'
            )
        if self.kv_cache_dtype not in KV_CACHE_DTYPES:
            known = ", ".join(KV_CACHE_DTYPES)
            raise ValueError(f"kv_cache_dtype must be one of {known}, got {self.kv_cache_dtype!r}")
        object.__setattr__(self, "model_name", self.model_name or Path(self.model).name)
        object.__setattr__(self, "max_num_seqs", self.max_num_seqs or most_rows(self.device))
        object.__setattr__(
            self,
            "max_num_batched_tokens",
            self.max_num_batched_tokens or (8192 if on_cuda else max(512, self.max_num_seqs)),
        )
        for name in ("async_steps", "device_steps", "cuda_graphs", "shared_prefix_attention"):
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, on_cuda)
        _at_least("steps_per_turn", self.steps_per_turn, 1)
        _at_least("max_num_seqs", self.max_num_seqs, 1)
        _at_least("max_num_batched_tokens", self.max_num_batched_tokens, self.max_num_seqs)
        _at_least("block_size", self.block_size, 1)
        _at_least("max_model_len", self.max_model_len, 2)
        _at_least("num_threads", self.num_threads, 1)
        if not self.grammar_timeout_s > 0:
            raise ValueError(f"grammar_timeout_s must be above 0, got {self.grammar_timeout_s}")
        if self.kv_cache_gb is not None and not self.kv_cache_gb > 0:
            raise ValueError(f"kv_cache_gb must be above 0, got {self.kv_cache_gb}")


def device_of(wish: str) -> str:
    """Name the device that is meant: `auto` takes a GPU where there is one."""
    if wish != "auto":
        return wish
    return "cuda" if torch.cuda.is_available() else "cpu"


def most_rows(device: str) -> int:
    """Say how many rows run together where nobody has said: a GPU is idle with fewer."""
    return 256 if torch.device(device).type == "cuda" else 64


def _at_least(name: str, value: int | None, low: int) -> None:
    if value is not None and (isinstance(value, bool) or value < low):
        raise ValueError(f"{name} must be at least {low}, got {value}")
