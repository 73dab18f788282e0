"""What the config.json of a GGUF file would say, had it one. Knows the format's keys.

A GGUF file names its architecture and sizes in keys of its own, and leaves out what llama.cpp
takes for granted. Here both become the configuration of the same model in `transformers`.
"""

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from .gguf_header import GgufHeader
from .weights import CorruptCheckpoint

_Values = dict[str, Any]
_REQUIRED = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "context_length": "max_position_embeddings",
}
_SPECIAL_TOKENS = ("bos", "eos")
_ENDING_TOKENS = ("eos", "eot", "eom")
_GEMMA_LOCAL_THETA = 10_000.0
_LARGEST_LAYERS = {"gemma2": 46, "gemma3": 62}  # the 27 billion weights' layers


def gguf_config(path: Path) -> Any:
    """Return the `transformers` configuration of the model in a GGUF file.

    Raises:
        CorruptCheckpoint: the file is damaged, one part of several, or lacks a key.
        ValueError: the architecture is not among those that can be read from GGUF.
    """
    from transformers import AutoConfig  # costs seconds to import, so only where a model is read

    header = GgufHeader.read(path)
    kind = header.metadata.get("general.architecture")
    if header.metadata.get("split.count", 1) != 1:
        raise CorruptCheckpoint(
            f"{path} is one of {header.metadata['split.count']} parts; merge them into one file "
            "with llama.cpp's gguf-split first"
        )
    if kind not in _FAMILIES:
        raise ValueError(
            f"the architecture {kind!r} cannot be read from GGUF; those that can: "
            f"{', '.join(sorted(_FAMILIES))}"
        )
    keys = _Keys(path, header, kind)
    model_type, architecture, specifics = _FAMILIES[kind]
    values = {ours: keys.require(theirs) for theirs, ours in _REQUIRED.items()}
    values["num_key_value_heads"] = keys.get(
        "attention.head_count_kv", values["num_attention_heads"]
    )
    values["vocab_size"] = keys.tensor_shape("token_embd.weight")[0]
    values["tie_word_embeddings"] = "output.weight" not in header.tensors
    values["rope_parameters"] = _rope(keys)
    values["dtype"] = _dtype(header)
    values |= _token_ids(header.metadata)
    values |= specifics(keys, values)
    return AutoConfig.for_model(model_type, architectures=[architecture], **values)


class _Keys:
    """The keys of one architecture, without its prefix."""

    def __init__(self, path: Path, header: GgufHeader, architecture: str) -> None:
        self.path = path
        self.header = header
        self.architecture = architecture

    def get(self, key: str, default: Any = None) -> Any:
        return self.header.metadata.get(f"{self.architecture}.{key}", default)

    def require(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise CorruptCheckpoint(f"{self.path} lacks the key {self.architecture}.{key}")
        return value

    def tensor_shape(self, name: str) -> tuple[int, ...]:
        if name not in self.header.tensors:
            raise CorruptCheckpoint(f"{self.path} lacks the tensor {name}")
        return self.header.tensors[name].shape

    def factors(self, name: str) -> list[float] | None:
        """Return the numbers of a small float32 tensor, None if there is none."""
        tensor = self.header.tensors.get(name)
        if tensor is None:
            return None
        if tensor.type_name != "F32":
            raise CorruptCheckpoint(f"{self.path}: the tensor {name} must be float32")
        count = tensor.num_bytes // np.dtype(np.float32).itemsize
        return np.fromfile(self.path, np.float32, count, offset=tensor.begin).tolist()


def _rope(keys: _Keys) -> _Values:
    """Return the parameters of the rotary embedding, as config.json spells them."""
    found: _Values = {"rope_type": "default", "rope_theta": keys.get("rope.freq_base", 10_000.0)}
    original = keys.get("rope.scaling.original_context_length")
    single, short, long = (
        keys.factors(f"{name}.weight")
        for name in ("rope_freqs", "rope_factors_short", "rope_factors_long")
    )
    if single:  # Llama 3.1: llama.cpp stores what the scaling divides each frequency by
        found |= {"rope_type": "longrope", "short_factor": single, "long_factor": single}
        found |= {"factor": 1.0, "attention_factor": 1.0}
        found["original_max_position_embeddings"] = keys.require("context_length")
    elif short and long:  # Phi 3
        found |= {"rope_type": "longrope", "short_factor": short, "long_factor": long}
        found["original_max_position_embeddings"] = original
    else:
        kind = keys.get("rope.scaling.type", "none")
        if kind != "none":
            found |= {"rope_type": kind, "factor": keys.get("rope.scaling.factor", 1.0)}
        if kind == "yarn":
            found["original_max_position_embeddings"] = original
    return found


def _token_ids(metadata: _Values) -> _Values:
    prefix = "tokenizer.ggml."
    ids = {f"{name}_token_id": metadata.get(f"{prefix}{name}_token_id") for name in _SPECIAL_TOKENS}
    endings = [metadata.get(f"{prefix}{name}_token_id") for name in _ENDING_TOKENS]
    ids["eos_token_id"] = [one for one in dict.fromkeys(endings) if one is not None]
    return ids


def _dtype(header: GgufHeader) -> str:
    """Return the type to compute in: that of the largest tensor, bfloat16 if it is quantized."""
    largest = max(header.tensors.values(), key=lambda tensor: prod(tensor.shape))
    return {"F32": "float32", "F16": "float16"}.get(largest.type_name, "bfloat16")


def _head_dim(keys: _Keys, values: _Values) -> int:
    return keys.get("attention.key_length") or (
        values["hidden_size"] // values["num_attention_heads"]
    )


# -- what one family says in keys of its own, or leaves to be known ---------------------------


def _llama(keys: _Keys, values: _Values) -> _Values:
    if keys.get("expert_count"):
        raise ValueError("mixtures of experts of the architecture 'llama' cannot be read from GGUF")
    return {
        "head_dim": _head_dim(keys, values),
        "attention_bias": "blk.0.attn_q.bias" in keys.header.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in keys.header.tensors,
    }


def _qwen(keys: _Keys, values: _Values) -> _Values:
    return {"head_dim": _head_dim(keys, values), "use_sliding_window": False}


def _qwen3_moe(keys: _Keys, values: _Values) -> _Values:
    return _qwen(keys, values) | {
        "num_experts": keys.require("expert_count"),
        "num_experts_per_tok": keys.require("expert_used_count"),
        "moe_intermediate_size": keys.require("expert_feed_forward_length"),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _phi3(keys: _Keys, values: _Values) -> _Values:
    head_dim = values["hidden_size"] // values["num_attention_heads"]
    rotated = keys.get("rope.dimension_count", head_dim)
    rope = {**values["rope_parameters"], "partial_rotary_factor": rotated / head_dim}
    original = rope.get("original_max_position_embeddings") or values["max_position_embeddings"]
    return {
        "rope_parameters": rope,
        "original_max_position_embeddings": original,
        "sliding_window": keys.get("attention.sliding_window") or None,
        "pad_token_id": None,
    }


def _gemma(keys: _Keys, values: _Values) -> _Values:
    head_dim = _head_dim(keys, values)
    is_largest = values["num_hidden_layers"] == _LARGEST_LAYERS[keys.architecture]
    by_heads = values["hidden_size"] // values["num_attention_heads"]
    return {
        "head_dim": head_dim,
        "query_pre_attn_scalar": by_heads if is_largest else head_dim,
        "sliding_window": keys.get("attention.sliding_window", 4096),
        "attn_logit_softcapping": keys.get("attn_logit_softcapping"),
        "final_logit_softcapping": keys.get("final_logit_softcapping"),
    }


def _gemma3(keys: _Keys, values: _Values) -> _Values:
    local = {"rope_type": "default", "rope_theta": _GEMMA_LOCAL_THETA}
    ropes = {"full_attention": values["rope_parameters"], "sliding_attention": local}
    return _gemma(keys, values) | {"rope_parameters": ropes}


_FAMILIES: dict[str, tuple[str, str, Callable[[_Keys, _Values], _Values]]] = {
    "llama": ("llama", "LlamaForCausalLM", _llama),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", _qwen),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", _qwen),
    "qwen3moe": ("qwen3_moe", "Qwen3MoeForCausalLM", _qwen3_moe),
    "phi3": ("phi3", "Phi3ForCausalLM", _phi3),
    "gemma2": ("gemma2", "Gemma2ForCausalLM", _gemma),
    "gemma3": ("gemma3_text", "Gemma3ForCausalLM", _gemma3),
}
